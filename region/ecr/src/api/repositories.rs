//! Repositories: made, listed, removed.

use aws_ecr::repository::{
    CreateRepositoryRequest, CreateRepositoryResponse, DeleteRepositoryRequest,
    DeleteRepositoryResponse, DescribeRepositories, DescribeRepositoriesRequest,
    DescribeRepositoriesResponse, PutImageTagMutabilityRequest, PutImageTagMutabilityResponse,
    Repository as Shown,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target, page};

use crate::{
    Ecr, catalog, faults,
    names::{self, RepositoryId},
    records::Repository,
};

const PAGE: usize = 100;

pub(super) fn create(
    ecr: &Ecr,
    _caller: &Caller,
    request: CreateRepositoryRequest,
) -> Result<CreateRepositoryResponse, Fault> {
    let name = &request.repository_name;
    if !names::is_repository(name) {
        return Err(faults::invalid(format!(
            "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy \
             regular expression \
             '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*'': '{name}'"
        )));
    }
    let is_immutable = is_immutable(request.image_tag_mutability.as_deref())?;
    let id = ecr.id(request.registry_id.as_deref(), name);
    let mut made = catalog::repository(&id, ecr.now());
    made.is_immutable = is_immutable;
    made.tags = request.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    let catalog = &ecr.catalog;
    catalog.store.transaction(|change| {
        if change.get(&catalog.repositories, &id.key()).is_some() {
            return Err(faults::repository_exists(&id));
        }
        change.put(&catalog.repositories, id.key(), made.clone());
        Ok(())
    })?;
    Ok(CreateRepositoryResponse { repository: Some(shown(ecr, &id, &made)) })
}

fn is_immutable(mutability: Option<&str>) -> Result<bool, Fault> {
    match mutability {
        None | Some("MUTABLE") => Ok(false),
        Some("IMMUTABLE") => Ok(true),
        Some(other) => Err(faults::invalid(format!("`{other}` is not an image tag mutability"))),
    }
}

pub(super) fn set_mutability(
    ecr: &Ecr,
    _caller: &Caller,
    request: PutImageTagMutabilityRequest,
) -> Result<PutImageTagMutabilityResponse, Fault> {
    let (id, _) = ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    let is_immutable = is_immutable(Some(&request.image_tag_mutability))?;
    let catalog = &ecr.catalog;
    catalog.store.transaction(|change| {
        match change.update(&catalog.repositories, &id.key(), |it| it.is_immutable = is_immutable) {
            true => Ok(()),
            false => Err(faults::no_repository(&id)),
        }
    })?;
    Ok(PutImageTagMutabilityResponse {
        registry_id: ecr.registry_id(&id),
        repository_name: id.shown(),
        image_tag_mutability: request.image_tag_mutability,
    })
}

pub(super) fn delete(
    ecr: &Ecr,
    _caller: &Caller,
    request: DeleteRepositoryRequest,
) -> Result<DeleteRepositoryResponse, Fault> {
    let (id, repository) =
        ecr.existing(request.registry_id.as_deref(), &request.repository_name)?;
    if !request.force && !ecr.catalog.images(&id).is_empty() {
        return Err(faults::not_empty(&id));
    }
    ecr.catalog.delete_repository(&id).map_err(faults::commit)?;
    Ok(DeleteRepositoryResponse { repository: Some(shown(ecr, &id, &repository)) })
}

impl Handle<DescribeRepositories> for Ecr {
    fn targets(&self, _: &Caller, request: &DescribeRepositoriesRequest) -> Vec<Target> {
        let registry = request.registry_id.as_deref();
        if request.repository_names.is_empty() {
            return self.target(registry, "*");
        }
        request.repository_names.iter().flat_map(|name| self.target(registry, name)).collect()
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DescribeRepositoriesRequest,
    ) -> Result<DescribeRepositoriesResponse, Fault> {
        let registry = request.registry_id.as_deref();
        let mut found = Vec::new();
        for name in &request.repository_names {
            let (id, repository) = self.existing(registry, name)?;
            found.push(shown(self, &id, &repository));
        }
        if request.repository_names.is_empty() {
            let asked = self.id(registry, "");
            let is_own = self.is_own(&asked);
            for it in self.catalog.repositories.list() {
                let id = RepositoryId::new(&it.registry, &it.name);
                if id.registry == asked.registry || (is_own && id.account().is_none()) {
                    found.push(shown(self, &id, &it));
                }
            }
            found.sort_by(|one, other| one.repository_name.cmp(&other.repository_name));
        }
        let size = size(request.max_results);
        let token = request.next_token.as_deref();
        let page = page(found, size, token, |it| it.repository_name.clone())
            .map_err(|error| error.fault("InvalidParameterException"))?;
        Ok(DescribeRepositoriesResponse { repositories: page.items, next_token: page.next })
    }
}

/// A page's size from what was asked for.
pub(super) fn size(asked: Option<i64>) -> usize {
    asked.and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0).unwrap_or(PAGE)
}

fn shown(ecr: &Ecr, id: &RepositoryId, repository: &Repository) -> Shown {
    let mutability = if repository.is_immutable { "IMMUTABLE" } else { "MUTABLE" };
    Shown {
        repository_arn: ecr.arn(id),
        registry_id: ecr.registry_id(id),
        repository_name: id.shown(),
        repository_uri: id.key(),
        created_at: repository.created_at,
        image_tag_mutability: mutability.to_owned(),
    }
}
