//! Roles.

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{
    Iam, IamError, checked_name,
    records::{Grants, Role},
};

const DEFAULT_SESSION: i64 = 3600;
const LONGEST_SESSION: i64 = 43_200;

impl Iam {
    pub(crate) fn create_role(
        &self,
        _: &Caller,
        request: CreateRoleRequest,
    ) -> Result<CreateRoleResponse, Fault> {
        let name = request.role_name;
        checked_name("roleName", &name, 64)?;
        let pins = self.check_trust(&request.assume_role_policy_document)?;
        self.check_boundary(request.permissions_boundary.as_deref())?;
        let role = Role {
            entity: self.entity("role", "AROA", &name, request.path, request.tags)?,
            grants: Grants { boundary: request.permissions_boundary, ..Grants::default() },
            trust: request.assume_role_policy_document,
            pins,
            description: request.description,
            max_session: session_length(request.max_session_duration)?.unwrap_or(DEFAULT_SESSION),
        };
        let shown = self.show_role(&role);
        self.change(|tx| {
            // Names are one whatever their case: others compare ARNs without it.
            if tx.list(&self.roles).iter().any(|it| it.entity.name.eq_ignore_ascii_case(&name)) {
                return Err(IamError::Exists { noun: "Role", name: name.clone() }.into());
            }
            tx.put(&self.roles, name.clone(), role);
            Ok(())
        })?;
        Ok(CreateRoleResponse { role: shown })
    }

    pub(crate) fn get_role(
        &self,
        _: &Caller,
        request: GetRoleRequest,
    ) -> Result<GetRoleResponse, Fault> {
        let role = Self::holder(&self.roles, &request.role_name)?;
        Ok(GetRoleResponse { role: self.show_role(&role) })
    }

    pub(crate) fn list_roles(
        &self,
        _: &Caller,
        request: ListRolesRequest,
    ) -> Result<ListRolesResponse, Fault> {
        let prefix = request.path_prefix.unwrap_or_default();
        let found = self.roles.list().into_iter().filter(|it| it.entity.path.starts_with(&prefix));
        let key = |it: &std::sync::Arc<Role>| it.entity.name.clone();
        let page = crate::serve::page(found.collect(), request.max_items, request.marker, key)?;
        // Lists leave tags and boundaries out.
        let roles =
            page.items.iter().map(|it| aws_iam::Role { tags: vec![], ..self.show_role(it) });
        Ok(ListRolesResponse {
            roles: roles.collect(),
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    pub(crate) fn delete_role(
        &self,
        _: &Caller,
        request: DeleteRoleRequest,
    ) -> Result<DeleteRoleResponse, Fault> {
        let name = request.role_name;
        self.change(|tx| {
            let found = tx.get(&self.roles, &name);
            let role =
                found.ok_or_else(|| IamError::NotFound { noun: "role", name: name.clone() })?;
            if role.entity.path.starts_with("/aws-service-role/") {
                return Err(IamError::Protected { name: name.clone() }.into());
            }
            let is_used =
                tx.list(&self.profiles).iter().any(|it| it.role.as_deref() == Some(&name));
            if is_used {
                return Err(IamError::InUse { what: "remove roles from instance profile" }.into());
            }
            check_empty(&role.grants)?;
            tx.delete(&self.roles, &name);
            Ok(())
        })?;
        Ok(DeleteRoleResponse {})
    }

    pub(crate) fn update_role(
        &self,
        _: &Caller,
        request: UpdateRoleRequest,
    ) -> Result<UpdateRoleResponse, Fault> {
        let length = session_length(request.max_session_duration)?;
        self.change_holder(&self.roles, &request.role_name, |role| {
            if request.description.is_some() {
                role.description = request.description;
            }
            role.max_session = length.unwrap_or(role.max_session);
            Ok(())
        })?;
        Ok(UpdateRoleResponse {})
    }

    pub(crate) fn update_role_description(
        &self,
        _: &Caller,
        request: UpdateRoleDescriptionRequest,
    ) -> Result<UpdateRoleDescriptionResponse, Fault> {
        self.change_holder(&self.roles, &request.role_name, |role| {
            role.description = Some(request.description);
            Ok(())
        })?;
        let role = Self::holder(&self.roles, &request.role_name)?;
        Ok(UpdateRoleDescriptionResponse { role: self.show_role(&role) })
    }

    pub(crate) fn update_assume_role_policy(
        &self,
        _: &Caller,
        request: UpdateAssumeRolePolicyRequest,
    ) -> Result<UpdateAssumeRolePolicyResponse, Fault> {
        let pins = self.check_trust(&request.policy_document)?;
        self.change_holder(&self.roles, &request.role_name, |role| {
            role.trust = request.policy_document;
            role.pins = pins;
            Ok(())
        })?;
        Ok(UpdateAssumeRolePolicyResponse {})
    }

    pub(crate) fn put_role_boundary(
        &self,
        _: &Caller,
        request: PutRolePermissionsBoundaryRequest,
    ) -> Result<PutRolePermissionsBoundaryResponse, Fault> {
        let boundary = Some(request.permissions_boundary);
        self.set_boundary(&self.roles, &request.role_name, boundary)?;
        Ok(PutRolePermissionsBoundaryResponse {})
    }

    pub(crate) fn delete_role_boundary(
        &self,
        _: &Caller,
        request: DeleteRolePermissionsBoundaryRequest,
    ) -> Result<DeleteRolePermissionsBoundaryResponse, Fault> {
        self.set_boundary(&self.roles, &request.role_name, None)?;
        Ok(DeleteRolePermissionsBoundaryResponse {})
    }
}

pub(crate) fn check_empty(grants: &Grants) -> Result<(), IamError> {
    if !grants.attached.is_empty() {
        return Err(IamError::InUse { what: "detach all policies" });
    }
    if !grants.inline.is_empty() {
        return Err(IamError::InUse { what: "delete policies" });
    }
    Ok(())
}

fn session_length(seconds: Option<i64>) -> Result<Option<i64>, IamError> {
    match seconds {
        Some(given) if !(DEFAULT_SESSION..=LONGEST_SESSION).contains(&given) => {
            let bound = if given < DEFAULT_SESSION {
                format!("greater than or equal to {DEFAULT_SESSION}")
            } else {
                format!("less than or equal to {LONGEST_SESSION}")
            };
            Err(IamError::Invalid {
                field: "maxSessionDuration",
                value: given.to_string(),
                constraint: format!("Member must have value {bound}"),
            })
        }
        other => Ok(other),
    }
}
