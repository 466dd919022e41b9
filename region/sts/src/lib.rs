//! The STS service: who calls, and temporary credentials.
//!
//! A session is durable until it expires, so a restart of the region interrupts nobody. It belongs
//! to the user or role with the unique id that it was made for: deleting one and making another of
//! the same name revives no session.
//!
//! Deviation: SAML, MFA and federation tokens do not exist; source identities are refused. A role or
//! user has 5,000 sessions at once, those of instances' metadata not counted; AWS throttles by the
//! second, by numbers that it does not tell.

mod assume_role;
mod caller_identity;
mod discovery;
mod errors;
mod issuer_keys;
mod session;
mod session_tags;
mod web_identity;

use std::sync::{Arc, OnceLock};

use aws_sts::{
    AssumeRole, AssumeRoleWithWebIdentity, DecodeAuthorizationMessage, GetAccessKeyInfo,
    GetCallerIdentity, GetSessionToken,
};
use clock::Clock;
use region_gateway::{Authorizer, Identities, Routes};
use region_store::{Bucket, OpenStoreError, Store};

pub use self::{
    discovery::{FetchError, IssuerDocuments},
    errors::StsError,
    session::InstanceCredentials,
};
use self::{issuer_keys::IssuerKeys, session::Session};

/// See the crate.
pub struct Sts {
    store: Store,
    account: String,
    region: String,
    clock: Clock,
    identities: Arc<dyn Identities>,
    authorizer: Authorizer,
    sessions: Bucket<Session>,
    issuers: OnceLock<Arc<dyn IssuerDocuments>>,
    issuer_keys: IssuerKeys,
}

impl Sts {
    pub fn open(
        store: &Store,
        account: &str,
        region: &str,
        identities: Arc<dyn Identities>,
        clock: Clock,
    ) -> Result<Arc<Self>, OpenStoreError> {
        Ok(Arc::new(Self {
            store: store.clone(),
            account: account.to_owned(),
            region: region.to_owned(),
            clock,
            authorizer: Authorizer::new(identities.clone()),
            identities,
            sessions: store.bucket("sts/sessions")?,
            issuers: OnceLock::new(),
            issuer_keys: IssuerKeys::default(),
        }))
    }

    /// How the public documents of identity providers are reached. Until this is called, no web
    /// identity can be verified. A second call changes nothing.
    pub fn reach_issuers_by(&self, documents: Arc<dyn IssuerDocuments>) {
        drop(self.issuers.set(documents));
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
