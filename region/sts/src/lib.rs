//! The STS service: who calls, and temporary credentials.
//!
//! A session is durable until it expires, so a restart of the region interrupts nobody. It belongs
//! to the user or role with the unique id that it was made for: deleting one and making another of
//! the same name revives no session.
//!
//! Deviation: SAML, MFA and federation tokens do not exist.

mod assume_role;
mod caller_identity;
mod errors;
mod session;
mod web_identity;

use std::sync::{Arc, OnceLock};

use aws_sts::{
    AssumeRole, AssumeRoleWithWebIdentity, DecodeAuthorizationMessage, GetAccessKeyInfo,
    GetCallerIdentity, GetSessionToken,
};
use clock::Clock;
use region_gateway::{Authorizer, Identities, Routes};
use region_store::{Bucket, OpenStoreError, Store};

use self::session::Session;
pub use self::{errors::StsError, session::InstanceCredentials, web_identity::VerificationKeys};

/// See the crate.
pub struct Sts {
    store: Store,
    account: String,
    clock: Clock,
    identities: Arc<dyn Identities>,
    authorizer: Authorizer,
    sessions: Bucket<Session>,
    verification_keys: OnceLock<Arc<dyn VerificationKeys>>,
}

impl Sts {
    pub fn open(
        store: &Store,
        account: &str,
        identities: Arc<dyn Identities>,
        clock: Clock,
    ) -> Result<Arc<Self>, OpenStoreError> {
        Ok(Arc::new(Self {
            store: store.clone(),
            account: account.to_owned(),
            clock,
            authorizer: Authorizer::new(identities.clone()),
            identities,
            sessions: store.bucket("sts/sessions")?,
            verification_keys: OnceLock::new(),
        }))
    }

    /// Where the public keys of identity providers come from. Until this is called, no web identity
    /// can be verified. A second call changes nothing.
    pub fn verify_web_identities_with(&self, keys: Arc<dyn VerificationKeys>) {
        drop(self.verification_keys.set(keys));
    }
}

/// The routes of all STS operations.
pub fn routes(sts: &Arc<Sts>) -> Routes {
    Routes::new()
        .operation::<GetCallerIdentity, _>(sts.clone())
        .operation::<AssumeRole, _>(sts.clone())
        .operation::<AssumeRoleWithWebIdentity, _>(sts.clone())
        .operation::<GetSessionToken, _>(sts.clone())
        .operation::<GetAccessKeyInfo, _>(sts.clone())
        .operation::<DecodeAuthorizationMessage, _>(sts.clone())
}

#[cfg(test)]
mod tests;
