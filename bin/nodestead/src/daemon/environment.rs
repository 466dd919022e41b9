//! What services ask of each other in private: EC2 about instance profiles and consoles, EKS about
//! roles, Systems Manager about instances.

use std::sync::Arc;

use iam_policy::{Context, Identity, IdentityKind, Named, Policies, Request, evaluate};
use region_ec2::{Ec2, Environment, ProfileInfo, records::InstanceState};
use region_eks::{Roles, Trust};
use region_gateway::Identities;
use region_iam::Iam;
use region_ssm::{Instance, Instances};

use super::{consoles::Consoles, region::ACCOUNT};

/// See the module.
pub(crate) struct Ec2Environment {
    iam: Arc<Iam>,
    consoles: Consoles,
}

impl Ec2Environment {
    pub(crate) fn new(iam: Arc<Iam>, consoles: Consoles) -> Self {
        Self { iam, consoles }
    }
}

impl Environment for Ec2Environment {
    fn instance_profile(&self, name_or_arn: &str) -> Option<ProfileInfo> {
        let id = self.iam.profile_id(name_or_arn)?;
        let name = name_or_arn.rsplit('/').next().unwrap_or(name_or_arn);
        let arn = match name_or_arn.starts_with("arn:") {
            true => name_or_arn.to_owned(),
            false => format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}"),
        };
        let role_arn = self.iam.profile_role(name_or_arn).map(|it| it.arn);
        Some(ProfileInfo { arn, id, role_arn })
    }

    fn console(&self, instance_id: &str) -> Option<Vec<u8>> {
        self.consoles.read(instance_id)
    }
}

/// What Systems Manager asks of EC2.
pub(crate) struct SsmInstances {
    ec2: Arc<Ec2>,
}

impl SsmInstances {
    pub(crate) fn new(ec2: Arc<Ec2>) -> Self {
        Self { ec2 }
    }
}

impl Instances for SsmInstances {
    fn find(&self, id: &str) -> Option<Instance> {
        let state = self.ec2.view();
        let instance = state.instances.get(id)?;
        let is_running = instance.state == InstanceState::Running;
        Some(Instance { is_running, tags: instance.tags.clone().into_iter().collect() })
    }
}

/// See the module.
pub(crate) struct EksRoles {
    iam: Arc<Iam>,
}

impl EksRoles {
    pub(crate) fn new(iam: Arc<Iam>) -> Self {
        Self { iam }
    }
}

impl Roles for EksRoles {
    fn principal_id(&self, arn: &str) -> Option<String> {
        let rest = arn.strip_prefix(&format!("arn:aws:iam::{ACCOUNT}:"))?;
        let name = rest.rsplit('/').next().unwrap_or(rest);
        match rest.split('/').next() {
            Some("root") => Some(ACCOUNT.to_owned()),
            Some("role") => self.iam.role(name).filter(|it| it.arn == arn).map(|it| it.id),
            Some("user") => self.iam.user_id(name),
            _ => None,
        }
    }

    fn trust(&self, role_arn: &str, service: &str) -> Trust {
        let name = role_arn.rsplit('/').next().unwrap_or(role_arn);
        match self.iam.role(name).filter(|it| it.arn == role_arn) {
            None => Trust::NoRole,
            Some(role) if role.trust.trusted_services().any(|it| it == service) => Trust::Named,
            Some(_) => Trust::Other,
        }
    }

    fn can_be_assumed(&self, role_arn: &str, service: &str) -> bool {
        self.trusts(role_arn, service, &Context::new())
    }

    fn can_be_assumed_for(&self, role_arn: &str, service: &str, source_arn: &str) -> bool {
        let context =
            Context::new().with("aws:SourceArn", source_arn).with("aws:SourceAccount", ACCOUNT);
        self.trusts(role_arn, service, &context)
    }
}

impl EksRoles {
    fn trusts(&self, role_arn: &str, service: &str, context: &Context) -> bool {
        let name = role_arn.rsplit('/').next().unwrap_or(role_arn);
        let Some(role) = self.iam.role(name).filter(|it| it.arn == role_arn) else { return false };
        let kind = IdentityKind::Service { name: service.to_owned() };
        let identity = Identity { account: ACCOUNT.to_owned(), kind };
        let policies = Policies {
            resource: Some(Named { name: role.arn.clone(), policy: role.trust.clone() }),
            resource_must_allow: true,
            ..Policies::default()
        };
        let request =
            Request { identity: &identity, action: "sts:AssumeRole", resource: &role.arn, context };
        evaluate(&request, &policies).is_allowed()
    }
}
