//! Instance profiles.

use std::sync::Arc;

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Iam, IamError, checked_name, records::Profile};

impl Iam {
    fn profile(&self, name: &str) -> Result<Arc<Profile>, IamError> {
        self.profiles.get(name).ok_or_else(|| IamError::ProfileNotFound { name: name.to_owned() })
    }

    pub(crate) fn create_instance_profile(
        &self,
        _: &Caller,
        request: CreateInstanceProfileRequest,
    ) -> Result<CreateInstanceProfileResponse, Fault> {
        let name = request.instance_profile_name;
        checked_name("instanceProfileName", &name, 128)?;
        let entity = self.entity("instance-profile", "AIPA", &name, request.path, request.tags)?;
        let profile = Profile { entity, role: None };
        let shown = self.show_profile(&profile);
        self.change(|tx| {
            if tx.get(&self.profiles, &name).is_some() {
                return Err(IamError::ProfileExists { name: name.clone() }.into());
            }
            tx.put(&self.profiles, name.clone(), profile);
            Ok(())
        })?;
        Ok(CreateInstanceProfileResponse { instance_profile: shown })
    }

    pub(crate) fn get_instance_profile(
        &self,
        _: &Caller,
        request: GetInstanceProfileRequest,
    ) -> Result<GetInstanceProfileResponse, Fault> {
        let profile = self.profile(&request.instance_profile_name)?;
        Ok(GetInstanceProfileResponse { instance_profile: self.show_profile(&profile) })
    }

    pub(crate) fn delete_instance_profile(
        &self,
        _: &Caller,
        request: DeleteInstanceProfileRequest,
    ) -> Result<DeleteInstanceProfileResponse, Fault> {
        let name = request.instance_profile_name;
        self.change(|tx| {
            let found = tx.get(&self.profiles, &name);
            let profile = found.ok_or_else(|| IamError::ProfileNotFound { name: name.clone() })?;
            if profile.role.is_some() {
                return Err(IamError::InUse { what: "remove roles from instance profile" }.into());
            }
            tx.delete(&self.profiles, &name);
            Ok(())
        })?;
        Ok(DeleteInstanceProfileResponse {})
    }

    pub(crate) fn add_role_to_profile(
        &self,
        _: &Caller,
        request: AddRoleToInstanceProfileRequest,
    ) -> Result<AddRoleToInstanceProfileResponse, Fault> {
        let name = request.instance_profile_name;
        Self::holder(&self.roles, &request.role_name)?;
        self.change(|tx| {
            let found = tx.get(&self.profiles, &name);
            let profile = found.ok_or_else(|| IamError::ProfileNotFound { name: name.clone() })?;
            if profile.role.is_some() {
                let what = "InstanceSessionsPerInstanceProfile";
                return Err(IamError::Quota { what, limit: 1 }.into());
            }
            tx.update(&self.profiles, &name, |it| it.role = Some(request.role_name));
            Ok(())
        })?;
        Ok(AddRoleToInstanceProfileResponse {})
    }

    pub(crate) fn remove_role_from_profile(
        &self,
        _: &Caller,
        request: RemoveRoleFromInstanceProfileRequest,
    ) -> Result<RemoveRoleFromInstanceProfileResponse, Fault> {
        let (name, role) = (request.instance_profile_name, request.role_name);
        self.change(|tx| {
            let found = tx.get(&self.profiles, &name);
            let profile = found.ok_or_else(|| IamError::ProfileNotFound { name: name.clone() })?;
            if profile.role.as_ref() != Some(&role) {
                return Err(IamError::NotFound { noun: "role", name: role }.into());
            }
            tx.update(&self.profiles, &name, |it| it.role = None);
            Ok(())
        })?;
        Ok(RemoveRoleFromInstanceProfileResponse {})
    }

    pub(crate) fn list_instance_profiles(
        &self,
        _: &Caller,
        request: ListInstanceProfilesRequest,
    ) -> Result<ListInstanceProfilesResponse, Fault> {
        let prefix = request.path_prefix.unwrap_or_default();
        let all = self.profiles.list().into_iter();
        let found = all.filter(|it| it.entity.path.starts_with(&prefix)).collect();
        let key = |it: &Arc<Profile>| it.entity.name.clone();
        let page = crate::serve::page(found, request.max_items, request.marker, key)?;
        Ok(ListInstanceProfilesResponse {
            instance_profiles: page.items.iter().map(|it| self.show_profile(it)).collect(),
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    pub(crate) fn list_profiles_for_role(
        &self,
        _: &Caller,
        request: ListInstanceProfilesForRoleRequest,
    ) -> Result<ListInstanceProfilesForRoleResponse, Fault> {
        Self::holder(&self.roles, &request.role_name)?;
        let all = self.profiles.list().into_iter();
        let found = all.filter(|it| it.role.as_ref() == Some(&request.role_name));
        let shown = found.map(|it| self.show_profile(&it)).collect();
        let key = |it: &InstanceProfile| it.instance_profile_name.clone();
        let page = crate::serve::page(shown, request.max_items, request.marker, key)?;
        Ok(ListInstanceProfilesForRoleResponse {
            instance_profiles: page.items,
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }
}
