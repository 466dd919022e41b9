//! `GetAuthorizationToken`: the registry's password for whoever asks.

use aws_ecr::token::{
    AuthorizationData, GetAuthorizationToken, GetAuthorizationTokenRequest,
    GetAuthorizationTokenResponse,
};
use aws_wire::Fault;
use base64::{Engine, engine::general_purpose::STANDARD};
use region_gateway::{Caller, Handle};

use crate::{Ecr, names, seconds, tokens};

impl Handle<GetAuthorizationToken> for Ecr {
    async fn handle(
        &self,
        caller: &Caller,
        request: GetAuthorizationTokenRequest,
    ) -> Result<GetAuthorizationTokenResponse, Fault> {
        let expires = self.config.clock.now() + tokens::LIFE;
        let sealed = self.tokens.seal(caller, expires);
        let password = sealed.ok_or_else(|| {
            Fault::new(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        })?;
        let accounts = match request.registry_ids.as_slice() {
            [] => vec![caller.account.clone()],
            given => given.to_vec(),
        };
        let data = |account: &String| AuthorizationData {
            authorization_token: STANDARD.encode(format!("AWS:{password}")),
            expires_at: seconds(expires),
            proxy_endpoint: format!("https://{}", names::ecr_host(account, &self.config.region)),
        };
        Ok(GetAuthorizationTokenResponse {
            authorization_data: accounts.iter().map(data).collect(),
        })
    }
}
