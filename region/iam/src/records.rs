//! What IAM keeps. These are written to disk: a field that is added later needs a default.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) type Tags = BTreeMap<String, String>;

/// The policies of a user, group or role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grants {
    /// Name → document.
    pub(crate) inline: BTreeMap<String, String>,
    /// ARNs of managed policies.
    pub(crate) attached: BTreeSet<String>,
    pub(crate) boundary: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entity {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) arn: String,
    pub(crate) created: Timestamp,
    pub(crate) tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) entity: Entity,
    pub(crate) grants: Grants,
    pub(crate) groups: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) entity: Entity,
    pub(crate) grants: Grants,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) entity: Entity,
    pub(crate) grants: Grants,
    pub(crate) trust: String,
    /// Whom the ARNs of its principals meant when it was saved: ARN → unique id.
    #[serde(default)]
    pub(crate) pins: BTreeMap<String, String>,
    pub(crate) description: Option<String>,
    pub(crate) max_session: i64,
}

/// Keyed by its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) user: String,
    pub(crate) is_active: bool,
    pub(crate) created: Timestamp,
}

/// Keyed by its ARN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManagedPolicy {
    pub(crate) entity: Entity,
    pub(crate) description: Option<String>,
    pub(crate) versions: Vec<Version>,
    pub(crate) default_version: String,
    pub(crate) last_version: u32,
    pub(crate) updated: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) document: String,
    pub(crate) created: Timestamp,
}

impl ManagedPolicy {
    pub(crate) fn version(&self, id: &str) -> Option<&Version> {
        self.versions.iter().find(|it| it.id == id)
    }

    pub(crate) fn document(&self) -> Option<&str> {
        self.version(&self.default_version).map(|it| it.document.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) entity: Entity,
    pub(crate) role: Option<String>,
}

/// Keyed by its ARN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Oidc {
    pub(crate) entity: Entity,
    pub(crate) url: String,
    pub(crate) clients: Vec<String>,
    pub(crate) thumbprints: Vec<String>,
}

/// What has tags.
pub(crate) trait Tagged {
    fn entity(&self) -> &Entity;
    fn entity_mut(&mut self) -> &mut Entity;
}

/// What policies are attached to.
pub(crate) trait Holder: Tagged {
    /// As messages call it: `role`.
    const NOUN: &'static str;
    /// Quota: characters of all inline policies together, white space aside.
    const INLINE_LIMIT: usize;
    fn grants(&self) -> &Grants;
    fn grants_mut(&mut self) -> &mut Grants;
}

macro_rules! tagged {
    ($($record:ident),*) => {$(
        impl Tagged for $record {
            fn entity(&self) -> &Entity { &self.entity }
            fn entity_mut(&mut self) -> &mut Entity { &mut self.entity }
        }
    )*};
}

macro_rules! holders {
    ($($record:ident $noun:literal $limit:literal),*) => {$(
        impl Holder for $record {
            const NOUN: &'static str = $noun;
            const INLINE_LIMIT: usize = $limit;
            fn grants(&self) -> &Grants { &self.grants }
            fn grants_mut(&mut self) -> &mut Grants { &mut self.grants }
        }
    )*};
}

tagged!(User, Group, Role, ManagedPolicy, Profile, Oidc);
holders!(User "user" 2048, Group "group" 5120, Role "role" 10240);
