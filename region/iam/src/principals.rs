//! What the gateway and STS ask.

use std::{collections::BTreeMap, time::Duration};

use iam_policy::{Kind, Named};
use region_gateway::{
    AccessKey, AccessKeys, Attached, CallerKind, Identities, IdentityProvider, Principal,
    Role as RoleFacts,
};

use crate::{Iam, records::Grants};

impl AccessKeys for Iam {
    fn access_key(&self, access_key_id: &str) -> Option<AccessKey> {
        if access_key_id == self.root.access_key_id {
            return Some(self.root_key());
        }
        let key = self.keys.get(access_key_id).filter(|it| it.is_active)?;
        let user = self.users.get(&key.user)?;
        Some(AccessKey {
            secret: key.secret.clone(),
            session_token: None,
            expires: None,
            principal: Principal {
                account: self.account.clone(),
                arn: user.entity.arn.clone(),
                user_id: user.entity.id.clone(),
                kind: CallerKind::User { name: user.entity.name.clone() },
                tags: user.entity.tags.clone(),
            },
            session_policies: Vec::new(),
            session_context: BTreeMap::new(),
        })
    }

    fn root(&self) -> Option<AccessKey> {
        Some(self.root_key())
    }
}

impl Identities for Iam {
    fn attached(&self, kind: &CallerKind) -> Option<Attached> {
        match kind {
            CallerKind::User { name } => {
                let user = self.users.get(name)?;
                let mut attached = self.named(&user.grants);
                for group in user.groups.iter().filter_map(|it| self.groups.get(it)) {
                    attached.identity.extend(self.named(&group.grants).identity);
                }
                Some(attached)
            }
            CallerKind::AssumedRole { role_arn, .. } => {
                let role = self.roles.get(role_arn.rsplit('/').next()?)?;
                Some(self.named(&role.grants))
            }
            CallerKind::Root | CallerKind::Service(_) | CallerKind::Anonymous => None,
        }
    }

    fn user_id(&self, name: &str) -> Option<String> {
        self.users.get(name).map(|it| it.entity.id.clone())
    }

    fn role(&self, name: &str) -> Option<RoleFacts> {
        let role = self.roles.get(name)?;
        let trust = self.pinned_trust(&role);
        Some(RoleFacts {
            name: role.entity.name.clone(),
            arn: role.entity.arn.clone(),
            id: role.entity.id.clone(),
            trust,
            max_session: Duration::from_secs(u64::try_from(role.max_session).unwrap_or(3600)),
            tags: role.entity.tags.clone(),
        })
    }

    fn managed_policy(&self, arn: &str) -> Option<Named> {
        let policy = self.policy(arn)?;
        Some(self.readable(arn, policy.document().unwrap_or_default()))
    }

    fn identity_provider(&self, issuer: &str) -> Option<IdentityProvider> {
        let bare = issuer.strip_prefix("https://")?.trim_end_matches('/');
        let provider = self.providers.get(&self.arn("oidc-provider", bare))?;
        let (arn, client_ids) = (provider.entity.arn.clone(), provider.clients.clone());
        Some(IdentityProvider { arn, client_ids })
    }
}

impl Iam {
    /// The role that an instance profile gives, by the profile's name or ARN.
    pub fn profile_role(&self, name_or_arn: &str) -> Option<RoleFacts> {
        let profile = self.profiles.get(name_or_arn.rsplit('/').next()?)?;
        self.role(profile.role.as_deref()?)
    }

    /// The unique id of a profile, as instance metadata shows it.
    pub fn profile_id(&self, name_or_arn: &str) -> Option<String> {
        let profile = self.profiles.get(name_or_arn.rsplit('/').next()?)?;
        Some(profile.entity.id.clone())
    }

    fn root_key(&self) -> AccessKey {
        AccessKey {
            secret: self.root.secret_access_key.clone(),
            session_token: None,
            expires: None,
            principal: Principal {
                account: self.account.clone(),
                arn: format!("arn:aws:iam::{}:root", self.account),
                user_id: self.account.clone(),
                kind: CallerKind::Root,
                tags: BTreeMap::new(),
            },
            session_policies: Vec::new(),
            session_context: BTreeMap::new(),
        }
    }

    /// A stored policy. One that cannot be read denies everything: it may have been a denial, and
    /// whoever has it is told its name.
    fn readable(&self, name: &str, document: &str) -> Named {
        match self.parse(document, Kind::Identity) {
            Ok(policy) => Named { name: name.to_owned(), policy },
            Err(error) => {
                tracing::error!(policy = name, %error, "a stored policy cannot be read: it denies");
                Named::nothing(name)
            }
        }
    }

    pub(crate) fn named(&self, grants: &Grants) -> Attached {
        let inline = grants.inline.iter().map(|(name, document)| self.readable(name, document));
        let attached = grants.attached.iter().filter_map(|arn| self.managed_policy(arn));
        let boundary = grants.boundary.as_ref().map(|arn| {
            // A boundary that is gone allows nothing.
            self.managed_policy(arn).unwrap_or_else(|| Named::nothing(arn))
        });
        Attached { identity: attached.chain(inline).collect(), boundary }
    }
}
