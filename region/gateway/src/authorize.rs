//! The IAM decision on a call.

use std::sync::Arc;

use aws_wire::{Fault, StatusCode};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use iam_policy::{
    Decision, Identity, IdentityKind, Layer, Named, Policies, Request, Verdict, evaluate,
    evaluate_unseen,
};
use serde_json::json;

use crate::{Caller, CallerKind, Identities, Target, context::context};

/// Decides with the policies that IAM holds. Cheap to clone.
#[derive(Clone)]
pub struct Authorizer {
    identities: Arc<dyn Identities>,
}

/// A target and what was decided on it.
#[derive(Clone, Debug)]
pub struct Decided {
    pub action: String,
    pub resource: String,
    pub decision: Decision,
    /// The service's own words for a denial.
    pub refusal: Option<String>,
}

impl Authorizer {
    pub fn new(identities: Arc<dyn Identities>) -> Self {
        Self { identities }
    }

    /// Decides on one target, with the policies of the caller and of their session.
    pub fn decide(&self, caller: &Caller, action: &str, target: &Target) -> Decided {
        self.decide_on(caller, action, target, None)
    }

    /// The same with a resource policy. `must_allow` is for trust policies, which are never
    /// bypassed.
    pub fn decide_on(
        &self,
        caller: &Caller,
        action: &str,
        target: &Target,
        resource_policy: Option<(Named, bool)>,
    ) -> Decided {
        // A principal that was deleted has no policies left.
        let attached = self.identities.attached(&caller.kind).unwrap_or_default();
        let (resource, resource_must_allow) = match resource_policy {
            Some((policy, must_allow)) => (Some(policy), must_allow),
            None => (None, false),
        };
        let policies = Policies {
            identity: attached.identity,
            boundary: attached.boundary,
            session: caller.session.clone(),
            resource,
            resource_must_allow,
        };
        match self.handed_over(action, target) {
            Some(target) => decided(&identity(caller), caller, action, &target, &policies),
            None => decided(&identity(caller), caller, action, target, &policies),
        }
    }

    /// A role that is handed over, with its tags: who takes it does not know them.
    fn handed_over(&self, action: &str, target: &Target) -> Option<Target> {
        let action = target.action.as_deref().unwrap_or(action);
        if action != "iam:PassRole" {
            return None;
        }
        let name = target.resource.rsplit('/').next().unwrap_or_default();
        let role = self.identities.role(name).filter(|it| it.arn == target.resource)?;
        let tags = || role.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let target = target.clone().with_tags("aws:ResourceTag", tags());
        Some(target.with_tags("iam:ResourceTag", tags()))
    }

    /// Decides on a call of a service that is not this region's: nobody here knows what it touches.
    /// `action` may be `s3:*`, for one that names none.
    pub(crate) fn decide_unseen(&self, caller: &Caller, action: &str) -> Decided {
        let attached = self.identities.attached(&caller.kind).unwrap_or_default();
        let policies = Policies {
            identity: attached.identity,
            boundary: attached.boundary,
            session: caller.session.clone(),
            ..Policies::default()
        };
        let target = Target::any();
        let (identity, context) = (identity(caller), context(caller, &target));
        let request = Request { identity: &identity, action, resource: "*", context: &context };
        Decided {
            action: action.to_owned(),
            resource: target.resource,
            decision: evaluate_unseen(&request, &policies),
            refusal: None,
        }
    }

    /// What a trust policy alone says to somebody who is not the one that signed: a web identity,
    /// whose token the call brought. The request is `caller`'s.
    pub fn decide_trust(
        &self,
        who: &Identity,
        caller: &Caller,
        action: &str,
        target: &Target,
        trust: Named,
    ) -> Decided {
        let policies =
            Policies { resource: Some(trust), resource_must_allow: true, ..Policies::default() };
        decided(who, caller, action, target, &policies)
    }
}

fn decided(
    who: &Identity,
    caller: &Caller,
    action: &str,
    target: &Target,
    policies: &Policies,
) -> Decided {
    let action = target.action.as_deref().unwrap_or(action);
    let context = context(caller, target);
    let request = Request { identity: who, action, resource: &target.resource, context: &context };
    Decided {
        action: action.to_owned(),
        resource: target.resource.clone(),
        decision: evaluate(&request, policies),
        refusal: target.refusal.clone(),
    }
}

impl Decided {
    /// Refused without a policy to ask, such as for a resource that does not exist.
    pub fn refused(action: &str, resource: &str) -> Self {
        Self {
            action: action.to_owned(),
            resource: resource.to_owned(),
            decision: Decision {
                verdict: Verdict::ImplicitDeny,
                layer: Layer::Resource,
                deciding: None,
            },
            refusal: None,
        }
    }

    /// The policy and statement that decided.
    pub fn by(&self) -> Option<String> {
        let it = self.decision.deciding.as_ref()?;
        let statement = it.sid.clone().unwrap_or_else(|| it.index.to_string());
        Some(format!("{} {statement}", it.policy))
    }

    /// The error that AWS answers, in EC2's words or in everyone else's.
    pub fn denial(&self, caller: &Caller, service: &str) -> Fault {
        let Self { action, resource, decision, refusal } = self;
        let usual = || {
            format!(
                "User: {} is not authorized to perform: {action} on resource: {resource} {}",
                caller.arn,
                decision.reason(action),
            )
        };
        let text = refusal.clone().unwrap_or_else(usual);
        match service {
            "ec2" => Fault::new(
                "UnauthorizedOperation",
                format!(
                    "You are not authorized to perform this operation. {text}. Encoded \
                     authorization failure message: {}",
                    self.encoded(caller)
                ),
            )
            .with_status(StatusCode::FORBIDDEN),
            "iam" | "sts" | "autoscaling" => {
                Fault::new("AccessDenied", text).with_status(StatusCode::FORBIDDEN)
            }
            "eks" => Fault::new("AccessDeniedException", text).with_status(StatusCode::FORBIDDEN),
            "sqs" => Fault::new("AccessDeniedException", text)
                .with_status(StatusCode::FORBIDDEN)
                .with_query_code("AccessDenied"),
            _ => Fault::new("AccessDeniedException", text),
        }
    }

    /// What `sts:DecodeAuthorizationMessage` decodes.
    ///
    /// Deviation: AWS encrypts it; here it is only encoded, and says no more than the message.
    fn encoded(&self, caller: &Caller) -> String {
        let deciding = self.decision.deciding.as_ref();
        let message = json!({
            "allowed": self.decision.is_allowed(),
            "explicitDeny": self.decision.verdict == Verdict::ExplicitDeny,
            "matchedStatements": { "items": deciding.map(|it| json!({
                "statementId": it.sid, "index": it.index, "policy": it.policy,
            })) },
            "context": {
                "principal": { "id": caller.user_id, "arn": caller.arn },
                "action": self.action,
                "resource": self.resource,
            },
        });
        URL_SAFE_NO_PAD.encode(message.to_string())
    }
}

/// The caller as policies name them.
pub fn identity(caller: &Caller) -> Identity {
    let kind = match &caller.kind {
        CallerKind::Root => IdentityKind::Root,
        CallerKind::User { .. } => {
            IdentityKind::User { arn: caller.arn.clone(), id: caller.user_id.clone() }
        }
        CallerKind::AssumedRole { role_arn, .. } => IdentityKind::Session {
            role_arn: role_arn.clone(),
            role_id: caller.user_id.split(':').next().unwrap_or_default().to_owned(),
            session_arn: caller.arn.clone(),
        },
        CallerKind::Service(name) => IdentityKind::Service { name: name.clone() },
        CallerKind::Anonymous => IdentityKind::Anonymous,
    };
    Identity { account: caller.account.clone(), kind }
}
