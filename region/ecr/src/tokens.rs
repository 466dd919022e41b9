//! Passwords for the registry: who they stand for and until when, sealed.
//!
//! A password carries the principal itself, so that it survives a restart of the region; the
//! policies of the principal and of its session are looked up at each use.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use region_gateway::{Caller, CallerKind, Decisions, Source};
use region_store::{CommitError, Store};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::OpenEcrError;

/// AWS's passwords hold as long.
pub(crate) const LIFE: SignedDuration = SignedDuration::from_hours(12);

/// See the module.
pub(crate) struct Tokens {
    secret: Arc<String>,
}

#[derive(Deserialize, Serialize)]
struct Sealed {
    account: String,
    arn: String,
    user_id: String,
    access_key_id: String,
    kind: Kind,
    tags: BTreeMap<String, String>,
    region: String,
    expires: i64,
}

#[derive(Deserialize, Serialize)]
enum Kind {
    Root,
    User { name: String },
    AssumedRole { role_arn: String, session: String },
    Service { name: String },
}

/// Why a password is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("the password was not made here")]
    Forged,
    #[error("Your authorization token has expired. Reauthenticate and try again.")]
    Expired,
}

impl Tokens {
    /// The sealing key is made once and kept.
    pub(crate) fn open(store: &Store) -> Result<Self, OpenEcrError> {
        let bucket = store.bucket::<String>("ecr/secrets");
        let bucket = bucket.map_err(|source| OpenEcrError::Records { source })?;
        let secret = store.transaction(|change| match change.get(&bucket, "passwords") {
            Some(secret) => Ok::<_, CommitError>(secret),
            None => {
                let fresh = entropy::secret(64);
                change.put(&bucket, "passwords", fresh.clone());
                Ok(Arc::new(fresh))
            }
        });
        Ok(Self { secret: secret.map_err(|source| OpenEcrError::Write { source })? })
    }

    /// `None` for callers that are nobody.
    pub(crate) fn seal(&self, caller: &Caller, expires: Timestamp) -> Option<String> {
        let kind = match &caller.kind {
            CallerKind::Root => Kind::Root,
            CallerKind::User { name } => Kind::User { name: name.clone() },
            CallerKind::AssumedRole { role_arn, session } => {
                Kind::AssumedRole { role_arn: role_arn.clone(), session: session.clone() }
            }
            CallerKind::Service(name) => Kind::Service { name: name.clone() },
            CallerKind::Anonymous => return None,
        };
        let sealed = Sealed {
            account: caller.account.clone(),
            arn: caller.arn.clone(),
            user_id: caller.user_id.clone(),
            access_key_id: caller.access_key_id.clone(),
            kind,
            tags: caller.tags.clone(),
            region: caller.region.clone(),
            expires: expires.as_second(),
        };
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&sealed).ok()?);
        let seal = URL_SAFE_NO_PAD.encode(self.mac(&payload).finalize().into_bytes());
        Some(format!("{payload}.{seal}"))
    }

    pub(crate) fn open_sealed(
        &self,
        password: &str,
        now: Timestamp,
    ) -> Result<Caller, PasswordError> {
        let (payload, seal) = password.split_once('.').ok_or(PasswordError::Forged)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).map_err(|_| PasswordError::Forged)?;
        self.mac(payload).verify_slice(&seal).map_err(|_| PasswordError::Forged)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| PasswordError::Forged)?;
        let sealed: Sealed = serde_json::from_slice(&payload).map_err(|_| PasswordError::Forged)?;
        if sealed.expires <= now.as_second() {
            return Err(PasswordError::Expired);
        }
        let kind = match sealed.kind {
            Kind::Root => CallerKind::Root,
            Kind::User { name } => CallerKind::User { name },
            Kind::AssumedRole { role_arn, session } => {
                CallerKind::AssumedRole { role_arn, session }
            }
            Kind::Service { name } => CallerKind::Service(name),
        };
        Ok(Caller {
            account: sealed.account,
            arn: sealed.arn,
            user_id: sealed.user_id,
            access_key_id: sealed.access_key_id,
            kind,
            source: Source::Internal,
            region: sealed.region,
            request_id: entropy::uuid(),
            user_agent: String::new(),
            at: now,
            tags: sealed.tags,
            session: Vec::new(),
            session_context: Default::default(),
            decisions: Decisions::default(),
            source_arn: None,
        })
    }

    fn mac(&self, payload: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(payload.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    #[test]
    fn a_password_names_its_principal_until_it_expires() {
        let store = Store::in_memory();
        let caller = Caller::root("111122223333", "us-east-1", NOW);
        let password = Tokens::open(&store).unwrap().seal(&caller, NOW + LIFE).unwrap();
        // Another start of the region knows it too.
        let tokens = Tokens::open(&store).unwrap();
        let late = NOW + LIFE - SignedDuration::from_secs(1);
        assert_eq!(tokens.open_sealed(&password, late).unwrap().arn, caller.arn);
        let expired = tokens.open_sealed(&password, NOW + LIFE).unwrap_err();
        assert_eq!(expired, PasswordError::Expired);
    }

    #[test]
    fn a_changed_password_is_forged() {
        let tokens = Tokens::open(&Store::in_memory()).unwrap();
        let caller = Caller::service("nobody", "111122223333", "us-east-1", NOW);
        let password = tokens.seal(&caller, NOW + LIFE).unwrap();
        let (payload, seal) = password.split_once('.').unwrap();
        let admin = tokens.seal(&Caller::root("111122223333", "us-east-1", NOW), NOW + LIFE);
        let (other, _) = admin.as_deref().unwrap().split_once('.').unwrap();
        for bad in [
            format!("{other}.{seal}"),
            format!("{payload}."),
            payload.to_owned(),
            String::new(),
            ".".into(),
        ] {
            assert_eq!(tokens.open_sealed(&bad, NOW).unwrap_err(), PasswordError::Forged, "{bad}");
        }
        let elsewhere = Tokens::open(&Store::in_memory()).unwrap();
        assert_eq!(elsewhere.open_sealed(&password, NOW).unwrap_err(), PasswordError::Forged);
    }
}
