//! Lifecycle policies of repositories; [`crate::expiry`] applies them.

use aws_ecr::lifecycle::{
    LifecyclePolicyRequest, LifecyclePolicyResponse, PutLifecyclePolicyRequest,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Ecr, catalog::PolicyRun, expiry::LifecyclePolicy, faults, names::RepositoryId};

fn answer(ecr: &Ecr, id: &RepositoryId, run: PolicyRun) -> LifecyclePolicyResponse {
    LifecyclePolicyResponse {
        registry_id: ecr.registry_id(id),
        repository_name: id.shown(),
        lifecycle_policy_text: run.text,
        last_evaluated_at: run.evaluated_at,
    }
}

pub(super) fn put(
    ecr: &Ecr,
    _caller: &Caller,
    request: PutLifecyclePolicyRequest,
) -> Result<LifecyclePolicyResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    LifecyclePolicy::parse(&request.lifecycle_policy_text)?;
    let run = PolicyRun { text: request.lifecycle_policy_text, evaluated_at: None };
    ecr.catalog.set_lifecycle(&id, Some(run.clone())).map_err(faults::commit)?;
    Ok(answer(ecr, &id, run))
}

pub(super) fn get(
    ecr: &Ecr,
    _caller: &Caller,
    request: LifecyclePolicyRequest,
) -> Result<LifecyclePolicyResponse, Fault> {
    let (id, repository) =
        ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let run = repository.lifecycle.clone().ok_or_else(|| faults::no_lifecycle(&id))?;
    Ok(answer(ecr, &id, run))
}

pub(super) fn delete(
    ecr: &Ecr,
    _caller: &Caller,
    request: LifecyclePolicyRequest,
) -> Result<LifecyclePolicyResponse, Fault> {
    let (id, repository) =
        ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let run = repository.lifecycle.clone().ok_or_else(|| faults::no_lifecycle(&id))?;
    ecr.catalog.set_lifecycle(&id, None).map_err(faults::commit)?;
    Ok(answer(ecr, &id, run))
}
