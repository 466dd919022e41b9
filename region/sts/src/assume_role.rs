//! `AssumeRole`: the role's trust policy has the first word, the caller's own policies the second.

use std::{collections::BTreeMap, time::Duration};

use aws_sts::{
    AssumeRole, AssumeRoleRequest, AssumeRoleResponse, AssumedRoleUser, PolicyDescriptor,
};
use aws_wire::Fault;
use iam_policy::{Kind, Named, Policy};
use region_gateway::{Caller, CallerKind, Decided, Handle, Role, Target};

use crate::{
    Sts, StsError,
    session::{self, Session},
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
        let role = self.authorize(caller, &request)?;
        let lasts = self.lasts(caller, &role, request.duration_seconds)?;
        let session = Session {
            policies: checked_documents(request.policy.as_deref())?,
            policy_arns: self.checked_arns(&request.policy_arns)?,
            tags: session_tags(&role, &request)?,
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
            source_identity: request.source_identity,
        })
    }
}

impl Sts {
    /// A role that does not exist is refused as one that may not be assumed.
    fn authorize(&self, caller: &Caller, request: &AssumeRoleRequest) -> Result<Role, StsError> {
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
        let mut target = Target::resource(arn.clone())
            .with("sts:RoleSessionName", [request.role_session_name.clone()])
            .with_tags(
                "aws:RequestTag",
                request.tags.iter().map(|it| (it.key.as_str(), it.value.as_str())),
            );
        if let Some(id) = &request.external_id {
            target = target.with("sts:ExternalId", [id.clone()]);
        }
        let trust = Named { name: role.arn.clone(), policy: role.trust.clone() };
        let mut actions = vec!["sts:AssumeRole"];
        if !request.tags.is_empty() {
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
        if lasts > role.max_session {
            return Err(StsError::TooLong { limit: "MaxSessionDuration" });
        }
        Ok(lasts)
    }

    pub(crate) fn checked_arns(&self, given: &[PolicyDescriptor]) -> Result<Vec<String>, StsError> {
        let arns: Vec<String> = given.iter().map(|it| it.arn.clone()).collect();
        match arns.iter().find(|it| self.identities.managed_policy(it).is_none()) {
            Some(arn) => Err(StsError::BadArn { arn: arn.clone() }),
            None => Ok(arns),
        }
    }
}

pub(crate) fn checked_documents(document: Option<&str>) -> Result<Vec<String>, StsError> {
    let Some(document) = document else { return Ok(Vec::new()) };
    match Policy::parse(document, Kind::Identity) {
        Ok(_) => Ok(vec![document.to_owned()]),
        Err(error) => Err(StsError::Malformed { message: error.to_string() }),
    }
}

/// The role's tags, overridden by the session's.
fn session_tags(
    role: &Role,
    request: &AssumeRoleRequest,
) -> Result<BTreeMap<String, String>, StsError> {
    let mut tags = role.tags.clone();
    for tag in &request.tags {
        if tag.key.is_empty() || tag.key.chars().count() > 128 || tag.value.chars().count() > 256 {
            return Err(StsError::Invalid {
                field: "tags",
                value: tag.key.clone(),
                constraint: "Member must have length between 1 and 128".to_owned(),
            });
        }
        tags.insert(tag.key.clone(), tag.value.clone());
    }
    Ok(tags)
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
