//! `AssumeRole`: the role's trust policy has the first word, the caller's own policies the second.

use std::time::Duration;

use aws_sts::{
    AssumeRole, AssumeRoleRequest, AssumeRoleResponse, AssumedRoleUser, PolicyDescriptor,
};
use aws_wire::Fault;
use iam_policy::{Kind, Named, Policy};
use region_gateway::{Caller, CallerKind, Decided, Handle, Role, Target};

use crate::{
    Sts, StsError,
    session::{self, Session},
    session_tags::SessionTags,
};

const DEFAULT_SECONDS: i64 = 3600;
const SHORTEST: i64 = 900;

/// A role that is assumed with a role's credentials may not last longer.
const LONGEST_CHAINED: Duration = Duration::from_secs(3600);

impl Handle<AssumeRole> for Sts {
    /// Decided below, together with the trust policy.
    fn targets(&self, _: &Caller, _: &AssumeRoleRequest) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: AssumeRoleRequest,
    ) -> Result<AssumeRoleResponse, Fault> {
        check_session_name(&request.role_session_name)?;
        check_supported(&request)?;
        let tags = self.session_tags(caller, &request.tags, &request.transitive_tag_keys)?;
        let role = self.authorize(caller, &request, &tags)?;
        let lasts = self.lasts(caller, &role, request.duration_seconds)?;
        let session = Session {
            policies: checked_documents(request.policy.as_deref())?,
            policy_arns: self.checked_arns(&request.policy_arns)?,
            tags: tags.over(&role),
            transitive: tags.transitive,
            ..self.new_session(session::owner(&role, &request.role_session_name), lasts)
        };
        let session = self.issue(session)?;
        Ok(AssumeRoleResponse {
            credentials: session::shown(&session),
            assumed_role_user: AssumedRoleUser {
                assumed_role_id: format!("{}:{}", role.id, request.role_session_name),
                arn: session::session_arn(&self.account, &role.name, &request.role_session_name),
            },
            packed_policy_size: None,
            source_identity: None,
        })
    }
}

impl Sts {
    /// A role that does not exist is refused as one that may not be assumed.
    fn authorize(
        &self,
        caller: &Caller,
        request: &AssumeRoleRequest,
        tags: &SessionTags,
    ) -> Result<Role, StsError> {
        let arn = &request.role_arn;
        let prefix = "arn:aws:iam::";
        if !arn.starts_with(prefix) || !arn.contains(":role/") {
            return Err(StsError::BadArn { arn: arn.clone() });
        }
        let none = || caller.decisions.note(Decided::refused("sts:AssumeRole", arn));
        if caller.kind == CallerKind::Root {
            none();
            return Err(StsError::Root);
        }
        let refused = || StsError::NotAuthorized { caller: caller.arn.clone(), role: arn.clone() };
        let name = arn.rsplit('/').next().unwrap_or_default();
        let Some(role) = self.identities.role(name).filter(|it| it.arn == *arn) else {
            none();
            return Err(refused());
        };
        let mut target = session::role_target(&role)
            .with("sts:RoleSessionName", [request.role_session_name.clone()])
            .with_tags(
                "aws:RequestTag",
                tags.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())),
            );
        if !tags.transitive.is_empty() {
            target = target.with("sts:TransitiveTagKeys", tags.transitive.iter().cloned());
        }
        if let Some(id) = &request.external_id {
            target = target.with("sts:ExternalId", [id.clone()]);
        }
        let trust = Named { name: role.arn.clone(), policy: role.trust.clone() };
        let mut actions = vec!["sts:AssumeRole"];
        if !tags.tags.is_empty() {
            actions.push("sts:TagSession");
        }
        for action in actions {
            let trust = Some((trust.clone(), true));
            let decided = self.authorizer.decide_on(caller, action, &target, trust);
            let is_allowed = decided.decision.is_allowed();
            caller.decisions.note(decided);
            if !is_allowed {
                return Err(refused());
            }
        }
        Ok(role)
    }

    fn lasts(
        &self,
        caller: &Caller,
        role: &Role,
        seconds: Option<i64>,
    ) -> Result<Duration, StsError> {
        let lasts = duration(seconds, DEFAULT_SECONDS, 43_200)?;
        let is_chained = matches!(caller.kind, CallerKind::AssumedRole { .. });
        if is_chained && lasts > LONGEST_CHAINED {
            return Err(StsError::TooLong {
                limit: "1 hour session limit for roles assumed by role chaining",
            });
        }
        // The role's own limit does not hold for AWS's services.
        if lasts > role.max_session && !caller.is_service() {
            return Err(StsError::TooLong { limit: "MaxSessionDuration" });
        }
        Ok(lasts)
    }

    pub(crate) fn checked_arns(&self, given: &[PolicyDescriptor]) -> Result<Vec<String>, StsError> {
        if given.len() > MOST_ARNS {
            return Err(StsError::Invalid {
                field: "policyArns",
                value: given.len().to_string(),
                constraint: format!("Member must have length less than or equal to {MOST_ARNS}"),
            });
        }
        let arns: Vec<String> = given.iter().map(|it| it.arn.clone()).collect();
        match arns.iter().find(|it| self.identities.managed_policy(it).is_none()) {
            Some(arn) => Err(StsError::BadArn { arn: arn.clone() }),
            None => Ok(arns),
        }
    }
}

/// Characters of a session policy, and managed policies beside it.
const LARGEST_POLICY: usize = 2048;
const MOST_ARNS: usize = 10;

pub(crate) fn checked_documents(document: Option<&str>) -> Result<Vec<String>, StsError> {
    let Some(document) = document else { return Ok(Vec::new()) };
    if document.len() > LARGEST_POLICY {
        return Err(StsError::TooLarge { percent: document.len() * 100 / LARGEST_POLICY });
    }
    match Policy::parse(document, Kind::Identity) {
        Ok(_) => Ok(vec![document.to_owned()]),
        Err(error) => Err(StsError::Malformed { message: error.to_string() }),
    }
}

/// A source identity would have to be in the context of every later decision.
fn check_supported(request: &AssumeRoleRequest) -> Result<(), StsError> {
    check_mfa(request.serial_number.as_deref(), request.token_code.as_deref())?;
    if request.source_identity.is_some() {
        return Err(StsError::Unsupported { parameter: "SourceIdentity" });
    }
    Ok(())
}

/// Nobody has a device here.
pub(crate) fn check_mfa(serial: Option<&str>, code: Option<&str>) -> Result<(), StsError> {
    match (serial, code) {
        (None, None) => Ok(()),
        (Some(_), Some(_)) => Err(StsError::Mfa {
            why: "unable to validate MFA code. Please verify your MFA serial number is valid and \
                  associated with this user.",
        }),
        _ => Err(StsError::Mfa {
            why: "must provide both MFA serial number and one time pass code.",
        }),
    }
}

pub(crate) fn check_session_name(name: &str) -> Result<(), StsError> {
    let is_valid = |it: char| it.is_ascii_alphanumeric() || "_+=,.@-".contains(it);
    if (2..=64).contains(&name.len()) && name.chars().all(is_valid) {
        return Ok(());
    }
    Err(StsError::Invalid {
        field: "roleSessionName",
        value: name.to_owned(),
        constraint: "Member must satisfy regular expression pattern: [\\w+=,.@-]*".to_owned(),
    })
}

pub(crate) fn duration(
    seconds: Option<i64>,
    default: i64,
    longest: i64,
) -> Result<Duration, StsError> {
    let seconds = seconds.unwrap_or(default);
    let bound = match seconds {
        it if it < SHORTEST => format!("greater than or equal to {SHORTEST}"),
        it if it > longest => format!("less than or equal to {longest}"),
        it => return Ok(Duration::from_secs(it.unsigned_abs())),
    };
    Err(StsError::Invalid {
        field: "durationSeconds",
        value: seconds.to_string(),
        constraint: format!("Member must have value {bound}"),
    })
}
