//! Sessions: temporary keys and whom they belong to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_wire::Fault;
use iam_policy::{Kind, Named, Policy};
use jiff::{Timestamp, tz::TimeZone};
use region_gateway::{AccessKey, AccessKeys, Caller, CallerKind, Principal, Role, Target};
use serde::{Deserialize, Serialize};

use crate::{Sts, StsError};

/// How long the credentials of an instance last, and when IMDS shows new ones.
const INSTANCE_SESSION: Duration = Duration::from_secs(6 * 3600);
const EC2: &str = "ec2.amazonaws.com";
const INSTANCE_RENEWAL: Duration = Duration::from_secs(3600);

/// Keyed by its access key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) owner: Owner,
    /// In sessions of an older region: the epoch, before which every revocation lies.
    #[serde(default)]
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
    /// Condition keys that all requests of the session have, such as `aws:FederatedProvider`.
    #[serde(default)]
    pub(crate) context: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// The keys of those tags that sessions made with this one inherit.
    #[serde(default)]
    pub(crate) transitive: Vec<String>,
    /// Documents that limit the session, and ARNs of managed policies that do.
    pub(crate) policies: Vec<String>,
    pub(crate) policy_arns: Vec<String>,
    /// Made for an instance's metadata service, which hands out no others: whoever may assume the
    /// role can choose an instance's id as the name of a session of their own.
    #[serde(default)]
    pub(crate) is_of_instance: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Owner {
    Role {
        name: String,
        id: String,
        arn: String,
        session: String,
    },
    /// `GetSessionToken`: the key's own principal.
    User {
        name: String,
        id: String,
        arn: String,
    },
    Root,
}

/// What instance metadata shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceCredentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub token: String,
    pub issued: Timestamp,
    pub expires: Timestamp,
}

impl Sts {
    /// The credentials of an instance whose profile gives `role_name`. The same until they are
    /// soon to expire. The role's trust policy must name EC2. `context`: condition keys that say
    /// where the instance is (`ec2:SourceInstanceArn`).
    pub fn instance_credentials(
        &self,
        role_name: &str,
        instance_id: &str,
        context: BTreeMap<String, String>,
    ) -> Result<InstanceCredentials, Fault> {
        let role = self.identities.role(role_name).ok_or_else(|| StsError::Denied {
            message: format!("role {role_name} does not exist"),
        })?;
        self.check_ec2_trust(&role, instance_id)?;
        let now = self.clock.now();
        let owner = owner(&role, instance_id);
        let current = self.sessions.find(|it| {
            it.is_of_instance && it.owner == owner && it.expires > now + INSTANCE_RENEWAL
        });
        let session = match current {
            Some(session) => session,
            None => Arc::new(self.issue(Session {
                tags: role.tags,
                context,
                is_of_instance: true,
                ..self.new_session(owner, INSTANCE_SESSION)
            })?),
        };
        Ok(InstanceCredentials {
            access_key_id: session.access_key_id.clone(),
            secret_access_key: session.secret.clone(),
            token: session.token.clone(),
            issued: session.expires - INSTANCE_SESSION,
            expires: session.expires,
        })
    }

    fn check_ec2_trust(&self, role: &Role, instance_id: &str) -> Result<(), StsError> {
        let caller = Caller::service(EC2, &self.account, &self.region, self.clock.now());
        let target = role_target(role).with("sts:RoleSessionName", [instance_id.to_owned()]);
        let trust = Named { name: role.arn.clone(), policy: role.trust.clone() };
        let decided =
            self.authorizer.decide_on(&caller, "sts:AssumeRole", &target, Some((trust, true)));
        if decided.decision.is_allowed() {
            return Ok(());
        }
        Err(StsError::NotAuthorized { caller: EC2.to_owned(), role: role.arn.clone() })
    }

    pub(crate) fn new_session(&self, owner: Owner, lasts: Duration) -> Session {
        let issued = self.clock.now();
        Session {
            access_key_id: format!("ASIA{}", &entropy::iam_id("")[..16]),
            secret: entropy::secret(40),
            token: format!("IQoJb3JpZ2luX2Vj{}", entropy::secret(340)),
            owner,
            issued,
            expires: issued + lasts,
            context: BTreeMap::new(),
            tags: BTreeMap::new(),
            transitive: Vec::new(),
            policies: Vec::new(),
            policy_arns: Vec::new(),
            is_of_instance: false,
        }
    }

    /// Writes a session down, and forgets those that have ended.
    pub(crate) fn issue(&self, session: Session) -> Result<Session, Fault> {
        let now = self.clock.now();
        self.store.transaction(|tx| {
            for old in forgotten(&tx.list(&self.sessions), &session, now, LIMITS)? {
                tx.delete(&self.sessions, &old);
            }
            tx.put(&self.sessions, session.access_key_id.clone(), session.clone());
            Ok::<_, Fault>(())
        })?;
        Ok(session)
    }

    /// The policies that limit the session of this key.
    pub(crate) fn session_policies(&self, session: &Session) -> Vec<Named> {
        let inline = session.policies.iter().map(|document| {
            let name = "session policy";
            match Policy::parse(document, Kind::Identity) {
                Ok(policy) => Named { name: name.to_owned(), policy: Arc::new(policy) },
                // What was checked when it was stored, by a version that read it otherwise.
                Err(_) => Named::nothing(name),
            }
        });
        // What limited the session goes on to limit it when it is deleted.
        let managed = session
            .policy_arns
            .iter()
            .map(|arn| self.identities.managed_policy(arn).unwrap_or_else(|| Named::nothing(arn)));
        inline.chain(managed).collect()
    }
}

/// An ended session is remembered for a while: its user is told `ExpiredToken`, not that the token
/// was never known.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How many sessions a role or user has at once that somebody has asked for, and how many of all are
/// remembered with those that have ended.
///
/// A pod may ask for credentials as fast as it can: AWS throttles that, by numbers that it does not
/// tell. Each session here is written down and held for hours. Those of instances' metadata services
/// are one for each instance: they are never refused, and no others' stand in their way.
const LIMITS: (usize, usize) = (5_000, 20_000);

/// The keys of those that need not be remembered any more when `new` comes.
fn forgotten(
    all: &[Arc<Session>],
    new: &Session,
    now: Timestamp,
    (most, remembered): (usize, usize),
) -> Result<Vec<String>, StsError> {
    let is_asked_for = |it: &&Arc<Session>| {
        !it.is_of_instance && it.expires > now && it.owner.id() == new.owner.id()
    };
    if !new.is_of_instance && all.iter().filter(is_asked_for).count() >= most {
        return Err(StsError::Throttled);
    }
    let kept = if all.len() < remembered { KEPT } else { Duration::ZERO };
    let old = all.iter().filter(|it| it.expires + kept < now);
    Ok(old.map(|it| it.access_key_id.clone()).collect())
}

impl Owner {
    /// Whose it is, whatever the session is called.
    fn id(&self) -> &str {
        match self {
            Self::Role { id, .. } | Self::User { id, .. } => id,
            Self::Root => "root",
        }
    }
}

impl AccessKeys for Sts {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        let session = self.sessions.get(access_key_id)?;
        Some(AccessKey {
            secret: session.secret.clone(),
            session_token: Some(session.token.clone()),
            expires: Some(session.expires),
            principal: self.principal(&session)?,
            session_policies: self.session_policies(&session),
            session_context: session.condition_keys(),
        })
    }
}

impl Sts {
    /// `None`: the user or role is no more, or another one of the same name.
    fn principal(&self, session: &Session) -> Option<Principal> {
        let account = self.account.clone();
        let tags = session.tags.clone();
        Some(match &session.owner {
            Owner::Role { name, id, arn, session } => {
                self.identities.role(name).filter(|it| it.id == *id)?;
                Principal {
                    arn: session_arn(&account, name, session),
                    user_id: format!("{id}:{session}"),
                    kind: CallerKind::AssumedRole {
                        role_arn: arn.clone(),
                        session: session.clone(),
                    },
                    account,
                    tags,
                }
            }
            Owner::User { name, id, arn } => {
                let kind = CallerKind::User { name: name.clone() };
                self.identities.user_id(name).filter(|it| it == id)?;
                Principal { account, arn: arn.clone(), user_id: id.clone(), kind, tags }
            }
            Owner::Root => Principal {
                arn: format!("arn:aws:iam::{account}:root"),
                user_id: account.clone(),
                kind: CallerKind::Root,
                account,
                tags,
            },
        })
    }
}

impl Session {
    /// Nobody has a device for multi-factor authentication here.
    fn condition_keys(&self) -> BTreeMap<String, String> {
        let mut keys = self.context.clone();
        keys.insert("aws:TokenIssueTime".to_owned(), self.issued.to_string());
        keys.insert("aws:MultiFactorAuthPresent".to_owned(), "false".to_owned());
        keys
    }
}

/// A role as the resource of a decision.
pub(crate) fn role_target(role: &Role) -> Target {
    let tags = || role.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    Target::resource(&role.arn)
        .with_tags("aws:ResourceTag", tags())
        .with_tags("iam:ResourceTag", tags())
}

pub(crate) fn owner(role: &Role, session: &str) -> Owner {
    Owner::Role {
        name: role.name.clone(),
        id: role.id.clone(),
        arn: role.arn.clone(),
        session: session.to_owned(),
    }
}

/// Roles lose their path here.
pub(crate) fn session_arn(account: &str, role: &str, session: &str) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
}

pub(crate) fn shown(session: &Session) -> aws_sts::Credentials {
    let expires = session.expires.to_zoned(TimeZone::UTC);
    aws_sts::Credentials {
        access_key_id: session.access_key_id.clone(),
        secret_access_key: session.secret.clone(),
        session_token: session.token.clone(),
        expiration: expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(key: usize, role: &str, expires: i64) -> Arc<Session> {
        Arc::new(Session {
            access_key_id: format!("ASIA{key}"),
            secret: String::new(),
            token: String::new(),
            owner: of(role, "any"),
            issued: Timestamp::UNIX_EPOCH,
            expires: Timestamp::from_second(expires).unwrap(),
            context: BTreeMap::new(),
            tags: BTreeMap::new(),
            transitive: Vec::new(),
            policies: Vec::new(),
            policy_arns: Vec::new(),
            is_of_instance: false,
        })
    }

    fn of(role: &str, session: &str) -> Owner {
        let (name, id, arn) = (role.to_owned(), role.to_owned(), role.to_owned());
        Owner::Role { name, id, arn, session: session.to_owned() }
    }

    #[test]
    fn a_role_has_so_many_sessions_at_once_and_keeps_no_other_from_theirs() {
        let day = 24 * 3600;
        let now = Timestamp::from_second(10 * day).unwrap();
        let live = 10 * day + 1;
        let mut all = vec![session(1, "a", live), session(2, "a", live), session(3, "b", live)];
        let ask =
            |all: &[_], role: &str, limits| forgotten(all, &session(9, role, live), now, limits);
        assert_eq!(ask(&all, "a", (2, 9)), Err(StsError::Throttled));
        assert_eq!(ask(&all, "b", (2, 9)), Ok(Vec::new()));
        // What has ended counts no more; it is remembered for a day, if there is room.
        all[1] = session(2, "a", 10 * day - 1);
        all.push(session(4, "b", 9 * day - 1));
        assert_eq!(ask(&all, "a", (2, 9)), Ok(vec!["ASIA4".to_owned()]));
        let both = vec!["ASIA2".to_owned(), "ASIA4".to_owned()];
        assert_eq!(ask(&all, "a", (2, 4)), Ok(both));
    }

    #[test]
    fn sessions_of_instances_are_never_refused_and_count_for_nobody() {
        let of_instance = |key: usize| {
            let it = Session::clone(&session(key, "a", 10));
            Arc::new(Session { is_of_instance: true, ..it })
        };
        let now = Timestamp::UNIX_EPOCH;
        let full = [session(1, "a", 10), session(2, "a", 10)];
        assert_eq!(forgotten(&full, &of_instance(3), now, (2, 9)), Ok(Vec::new()));
        assert_eq!(forgotten(&full, &session(3, "a", 10), now, (2, 9)), Err(StsError::Throttled));
        let instances = [of_instance(1), of_instance(2)];
        assert_eq!(forgotten(&instances, &session(3, "a", 10), now, (2, 9)), Ok(Vec::new()));
        // Nor are they forgotten while they last, however many there are.
        assert_eq!(forgotten(&instances, &session(3, "a", 10), now, (2, 2)), Ok(Vec::new()));
    }
}
