//! The policies of repositories, which the registry asks for each pull and push.

use aws_ecr::policy::{
    DeleteRepositoryPolicyRequest, DeleteRepositoryPolicyResponse, GetRepositoryPolicyRequest,
    GetRepositoryPolicyResponse, SetRepositoryPolicyRequest, SetRepositoryPolicyResponse,
};
use aws_wire::Fault;
use iam_policy::{Kind, Policy};
use region_gateway::Caller;

use crate::{Ecr, faults, names::RepositoryId};

pub(super) fn get(
    ecr: &Ecr,
    _caller: &Caller,
    request: GetRepositoryPolicyRequest,
) -> Result<GetRepositoryPolicyResponse, Fault> {
    let (id, repository) =
        ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let policy_text = repository.policy.clone().ok_or_else(|| faults::no_policy(&id))?;
    let registry_id = ecr.registry_id(&id);
    Ok(GetRepositoryPolicyResponse { registry_id, repository_name: id.shown(), policy_text })
}

pub(super) fn set(
    ecr: &Ecr,
    _caller: &Caller,
    request: SetRepositoryPolicyRequest,
) -> Result<SetRepositoryPolicyResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let policy_text = request.policy_text;
    Policy::parse(&policy_text, Kind::Resource).map_err(|error| {
        let message = "Invalid parameter at 'PolicyText' failed to satisfy constraint:";
        faults::invalid(format!("{message} 'Invalid repository policy provided': {error}"))
    })?;
    replace(ecr, &id, Some(policy_text.clone()))?;
    let registry_id = ecr.registry_id(&id);
    Ok(SetRepositoryPolicyResponse { registry_id, repository_name: id.shown(), policy_text })
}

pub(super) fn delete(
    ecr: &Ecr,
    _caller: &Caller,
    request: DeleteRepositoryPolicyRequest,
) -> Result<DeleteRepositoryPolicyResponse, Fault> {
    let (id, repository) =
        ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let policy_text = repository.policy.clone().ok_or_else(|| faults::no_policy(&id))?;
    replace(ecr, &id, None)?;
    let registry_id = ecr.registry_id(&id);
    Ok(DeleteRepositoryPolicyResponse { registry_id, repository_name: id.shown(), policy_text })
}

fn replace(ecr: &Ecr, id: &RepositoryId, policy: Option<String>) -> Result<(), Fault> {
    let catalog = &ecr.catalog;
    catalog.store.transaction(|change| {
        let current = change.get(&catalog.repositories, &id.key());
        let mut changed = (*current.ok_or_else(|| faults::no_repository(id))?).clone();
        changed.policy = policy;
        change.put(&catalog.repositories, id.key(), changed);
        Ok(())
    })
}
