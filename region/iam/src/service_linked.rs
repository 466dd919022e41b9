//! Roles that AWS services make for themselves.

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::Caller;
use serde_json::json;

use crate::{
    Iam, IamError,
    managed::{SERVICE_LINKED, ServiceLinked},
    records::{Grants, Role},
};

impl Iam {
    pub(crate) fn create_service_linked_role(
        &self,
        _: &Caller,
        request: CreateServiceLinkedRoleRequest,
    ) -> Result<CreateServiceLinkedRoleResponse, Fault> {
        let service = &request.aws_service_name;
        let known = SERVICE_LINKED.iter().find(|it| it.service == service);
        let known = known.ok_or_else(|| IamError::Input {
            message: format!("Service-linked roles are not supported for {service}"),
        })?;
        let name = match request.custom_suffix.filter(|_| service == "autoscaling.amazonaws.com") {
            Some(suffix) => format!("{}_{suffix}", known.role),
            None => known.role.to_owned(),
        };
        let role = self.service_linked(known, &name, request.description)?;
        let shown = self.show_role(&role);
        self.change(|tx| {
            if tx.get(&self.roles, &name).is_some() {
                return Err(IamError::ServiceRoleExists { name: name.clone() }.into());
            }
            tx.put(&self.roles, name.clone(), role);
            Ok(())
        })?;
        Ok(CreateServiceLinkedRoleResponse { role: shown })
    }

    fn service_linked(
        &self,
        known: &ServiceLinked,
        name: &str,
        description: Option<String>,
    ) -> Result<Role, IamError> {
        let trust = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": [known.service] },
            "Action": ["sts:AssumeRole"],
        }]});
        let policy = known.policy.and_then(|policy| {
            self.managed.keys().find(|arn| arn.rsplit('/').next() == Some(policy)).cloned()
        });
        let path = format!("/aws-service-role/{}/", known.service);
        Ok(Role {
            entity: self.entity("role", "AROA", name, Some(path), Vec::new())?,
            grants: Grants { attached: policy.into_iter().collect(), ..Grants::default() },
            trust: trust.to_string(),
            pins: Default::default(),
            description,
            max_session: 3600,
        })
    }

    /// Deviation: the role is removed at once; whether its service still needs it is not asked.
    pub(crate) fn delete_service_linked_role(
        &self,
        _: &Caller,
        request: DeleteServiceLinkedRoleRequest,
    ) -> Result<DeleteServiceLinkedRoleResponse, Fault> {
        let name = request.role_name;
        let path = self.change(|tx| {
            let found = tx.get(&self.roles, &name);
            let role = found.filter(|it| it.entity.path.starts_with("/aws-service-role/"));
            let role =
                role.ok_or_else(|| IamError::NotFound { noun: "role", name: name.clone() })?;
            tx.delete(&self.roles, &name);
            Ok(role.entity.path.clone())
        })?;
        let deletion_task_id = format!("task{path}{name}/{}", entropy::uuid());
        Ok(DeleteServiceLinkedRoleResponse { deletion_task_id })
    }

    pub(crate) fn service_linked_role_deletion(
        &self,
        _: &Caller,
        request: GetServiceLinkedRoleDeletionStatusRequest,
    ) -> Result<GetServiceLinkedRoleDeletionStatusResponse, Fault> {
        let name = request.deletion_task_id.rsplit('/').nth(1).unwrap_or_default();
        let is_task = request.deletion_task_id.starts_with("task/aws-service-role/");
        if !is_task {
            let name = request.deletion_task_id.clone();
            return Err(IamError::NotFound { noun: "deletion task", name }.into());
        }
        let status = if self.roles.contains(name) { "IN_PROGRESS" } else { "SUCCEEDED" };
        Ok(GetServiceLinkedRoleDeletionStatusResponse { status: status.to_owned() })
    }
}
