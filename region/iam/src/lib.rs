//! The IAM service: users, groups, roles, policies, instance profiles, identity providers.
//!
//! It answers the IAM API, and tells the gateway and STS what they must know of principals through
//! [`region_gateway::Identities`] and [`region_gateway::AccessKeys`].
//!
//! **Invariant:** a document that is stored has been parsed; deciding never meets a malformed one.

mod attachments;
mod errors;
mod groups;
mod managed;
mod oidc;
mod policies;
mod principals;
mod profiles;
mod records;
mod roles;
mod serve;
mod service_linked;
mod simulate;
mod tags;
mod targets;
mod trust;
mod users;
mod view;

use std::{collections::HashMap, sync::Arc};

use aws_wire::Fault;
use clock::Clock;
use iam_policy::{Kind, Policy};
use parking_lot::RwLock;
use region_store::{Bucket, OpenStoreError, Store};

use self::records::{Entity, Group, Key, ManagedPolicy, Oidc, Profile, Role, Tags, User};
pub use self::{errors::IamError, serve::routes};

/// See the crate.
pub struct Iam {
    store: Store,
    account: String,
    clock: Clock,
    root: RootKey,
    users: Bucket<User>,
    groups: Bucket<Group>,
    roles: Bucket<Role>,
    keys: Bucket<Key>,
    policies: Bucket<ManagedPolicy>,
    profiles: Bucket<Profile>,
    providers: Bucket<Oidc>,
    managed: HashMap<String, Arc<ManagedPolicy>>,
    parsed: RwLock<Parsed>,
}

/// The root user's access key.
#[derive(Clone)]
pub struct RootKey {
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// Documents seen, by what they are attached to: the same text may be a policy in one place and not
/// in the other.
#[derive(Default)]
struct Parsed {
    identity: HashMap<String, Arc<Policy>>,
    trust: HashMap<String, Arc<Policy>>,
}

impl Parsed {
    fn of(&self, kind: Kind) -> &HashMap<String, Arc<Policy>> {
        if kind == Kind::Trust { &self.trust } else { &self.identity }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut HashMap<String, Arc<Policy>> {
        if kind == Kind::Trust { &mut self.trust } else { &mut self.identity }
    }
}

/// More documents than this are forgotten at once and parsed again.
const PARSED: usize = 4096;

impl Iam {
    pub fn open(
        store: &Store,
        account: &str,
        root: RootKey,
        clock: Clock,
    ) -> Result<Arc<Self>, OpenStoreError> {
        let managed = managed::policies();
        let managed = managed.into_iter().map(|it| (it.entity.arn.clone(), Arc::new(it)));
        Ok(Arc::new(Self {
            store: store.clone(),
            account: account.to_owned(),
            clock,
            root,
            users: store.bucket("iam/users")?,
            groups: store.bucket("iam/groups")?,
            roles: store.bucket("iam/roles")?,
            keys: store.bucket("iam/access-keys")?,
            policies: store.bucket("iam/policies")?,
            profiles: store.bucket("iam/instance-profiles")?,
            providers: store.bucket("iam/oidc-providers")?,
            managed: managed.collect(),
            parsed: RwLock::default(),
        }))
    }

    fn policy(&self, arn: &str) -> Option<Arc<ManagedPolicy>> {
        self.managed.get(arn).cloned().or_else(|| self.policies.get(arn))
    }

    /// A checked document; parsed once however often it is asked for.
    fn parse(&self, document: &str, kind: Kind) -> Result<Arc<Policy>, IamError> {
        if let Some(known) = self.parsed.read().of(kind).get(document) {
            return Ok(known.clone());
        }
        let policy = Arc::new(read(document, kind)?);
        let mut parsed = self.parsed.write();
        let known = parsed.of_mut(kind);
        if known.len() >= PARSED {
            known.clear();
        }
        known.insert(document.to_owned(), policy.clone());
        Ok(policy)
    }

    fn entity(
        &self,
        kind: &str,
        prefix: &str,
        name: &str,
        path: Option<String>,
        tags: Vec<aws_iam::Tag>,
    ) -> Result<Entity, IamError> {
        let path = checked_path(path)?;
        Ok(Entity {
            arn: format!("arn:aws:iam::{}:{kind}{path}{name}", self.account),
            id: entropy::iam_id(prefix),
            name: name.to_owned(),
            path,
            created: self.clock.now(),
            tags: checked_tags(Tags::new(), tags)?,
        })
    }

    fn arn(&self, kind: &str, name: &str) -> String {
        format!("arn:aws:iam::{}:{kind}/{name}", self.account)
    }

    /// Runs one change in a transaction of its own.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut region_store::Transaction) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.store.transaction(change)
    }
}

/// The longest document that is read at all, white space and all.
const LONGEST_TEXT: usize = 131_072;

/// A document, checked.
fn read(document: &str, kind: Kind) -> Result<Policy, IamError> {
    if document.len() > LONGEST_TEXT {
        return Err(IamError::Invalid {
            field: "policyDocument",
            value: format!("{} bytes", document.len()),
            constraint: format!("Member must have length less than or equal to {LONGEST_TEXT}"),
        });
    }
    Policy::parse(document, kind)
        .map_err(|error| IamError::Malformed { message: error.to_string() })
}

/// The length that quotas count: white space is free.
fn size(document: &str) -> usize {
    document.chars().filter(|it| !it.is_whitespace()).count()
}

fn checked_name(field: &'static str, name: &str, longest: usize) -> Result<(), IamError> {
    let is_valid = |it: char| it.is_ascii_alphanumeric() || "_+=,.@-".contains(it);
    let invalid =
        |constraint: String| IamError::Invalid { field, value: name.to_owned(), constraint };
    if name.is_empty() {
        return Err(invalid("Member must have length greater than or equal to 1".to_owned()));
    }
    if name.len() > longest {
        return Err(invalid(format!("Member must have length less than or equal to {longest}")));
    }
    if !name.chars().all(is_valid) {
        let pattern = "Member must satisfy regular expression pattern: [\\w+=,.@-]+";
        return Err(invalid(pattern.to_owned()));
    }
    Ok(())
}

fn checked_path(path: Option<String>) -> Result<String, IamError> {
    let path = path.filter(|it| !it.is_empty()).unwrap_or_else(|| "/".to_owned());
    let is_valid = path.len() <= 512
        && path.starts_with('/')
        && path.ends_with('/')
        && path.bytes().all(|it| (0x21..0x7f).contains(&it));
    if is_valid {
        return Ok(path);
    }
    let constraint = "Member must satisfy regular expression pattern: (\\u002F)|(\\u002F[\\u0021-\\u007E]+\\u002F)";
    Err(IamError::Invalid { field: "path", value: path, constraint: constraint.to_owned() })
}

fn checked_tags(mut tags: Tags, given: Vec<aws_iam::Tag>) -> Result<Tags, IamError> {
    for tag in given {
        if tag.key.is_empty() || tag.key.chars().count() > 128 || tag.value.chars().count() > 256 {
            return Err(IamError::Invalid {
                field: "tags",
                value: tag.key,
                constraint: "Member must have length between 1 and 128, its value up to 256"
                    .to_owned(),
            });
        }
        if tag.key.to_ascii_lowercase().starts_with("aws:") {
            let message = "aws: prefixed tag key names are not allowed for external use.";
            return Err(IamError::Input { message: message.to_owned() });
        }
        tags.insert(tag.key, tag.value);
    }
    if tags.len() > 50 {
        return Err(IamError::Quota { what: "TagsPerResource", limit: 50 });
    }
    Ok(tags)
}

#[cfg(test)]
mod tests;
