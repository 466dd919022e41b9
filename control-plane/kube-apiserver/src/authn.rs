//! Who makes a request. (Builder A2's; the signatures that the router calls are below.)

use crate::{registry::Reader, request::UserInfo};

/// Where credentials are checked.
#[derive(Clone, Debug, Default)]
pub struct Config {}

#[derive(Clone, Debug)]
pub struct Authenticator {}

/// The credentials were given and are not good.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Unauthorized")]
pub struct Unauthorized;

impl Authenticator {
    pub fn new(_config: Config, _objects: Reader, _clock: clock::Clock) -> Self {
        Self {}
    }

    pub async fn authenticate(
        &self,
        _parts: &http::request::Parts,
        _peer: Option<&transport::Peer>,
    ) -> Result<UserInfo, Unauthorized> {
        Err(Unauthorized)
    }
}
