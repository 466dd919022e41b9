//! The public keys of an identity provider, found as OpenID Connect Discovery says: the issuer's
//! configuration names itself and its keys.

use futures::future::BoxFuture;
use serde_json::Value;

use crate::StsError;

const NO_KEY: &str = "Couldn't retrieve verification key from your identity provider,  please \
                      reference AssumeRoleWithWebIdentity documentation for requirements";

/// The public documents of identity providers, over https.
pub trait IssuerDocuments: Send + Sync + 'static {
    /// The JSON document at `url`.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Value, FetchError>>;
}

/// Why a document could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("there is no such document")]
    Missing,
    /// Whoever asked should ask again.
    #[error("the identity provider does not answer")]
    Unreachable,
}

impl From<FetchError> for StsError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Missing => no_key(),
            FetchError::Unreachable => Self::Unreachable,
        }
    }
}

/// No key of the issuer's fits.
pub(crate) fn no_key() -> StsError {
    StsError::InvalidToken { message: NO_KEY.to_owned() }
}

/// Where the JSON Web Key Set of `issuer` (`https://…`) is.
pub(crate) async fn keys_uri(
    documents: &dyn IssuerDocuments,
    issuer: &str,
) -> Result<String, StsError> {
    let bare = issuer.trim_end_matches('/');
    let configuration = documents.get(&format!("{bare}/.well-known/openid-configuration")).await?;
    // One that speaks for somebody else vouches for nobody.
    if configuration["issuer"].as_str() != Some(issuer) {
        return Err(no_key());
    }
    let uri = configuration["jwks_uri"].as_str().filter(|it| it.starts_with("https://"));
    uri.map(str::to_owned).ok_or_else(no_key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://issuer.test/id/A";

    struct Web(BTreeMap<String, Result<Value, FetchError>>);

    impl IssuerDocuments for Web {
        fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Value, FetchError>> {
            let found = self.0.get(url).cloned().unwrap_or(Err(FetchError::Missing));
            Box::pin(std::future::ready(found))
        }
    }

    fn web(configuration: Result<Value, FetchError>) -> Web {
        let keys = json!({"keys": []});
        Web(BTreeMap::from([
            (format!("{ISSUER}/.well-known/openid-configuration"), configuration),
            (format!("{ISSUER}/keys"), Ok(keys.clone())),
            ("http://issuer.test/keys".to_owned(), Ok(keys)),
        ]))
    }

    async fn asked(configuration: Result<Value, FetchError>) -> Result<Value, StsError> {
        let web = web(configuration);
        let uri = keys_uri(&web, ISSUER).await?;
        Ok(web.get(&uri).await?)
    }

    #[tokio::test]
    async fn keys_are_where_the_configuration_says() {
        let uri = format!("{ISSUER}/keys");
        let found = asked(Ok(json!({"issuer": ISSUER, "jwks_uri": uri}))).await;
        assert_eq!(found, Ok(json!({"keys": []})));
    }

    #[tokio::test]
    async fn a_configuration_of_somebody_else_or_without_https_gives_none() {
        let uri = format!("{ISSUER}/keys");
        for configuration in [
            json!({"issuer": "https://other.test", "jwks_uri": uri}),
            json!({"jwks_uri": uri}),
            json!({"issuer": ISSUER}),
            json!({"issuer": ISSUER, "jwks_uri": "http://issuer.test/keys"}),
            json!({"issuer": ISSUER, "jwks_uri": "https://issuer.test/nothing"}),
        ] {
            assert_eq!(asked(Ok(configuration)).await, Err(no_key()));
        }
    }

    #[tokio::test]
    async fn an_issuer_that_is_silent_for_now_is_told_apart_from_one_that_is_not_there() {
        assert_eq!(asked(Err(FetchError::Missing)).await, Err(no_key()));
        assert_eq!(asked(Err(FetchError::Unreachable)).await, Err(StsError::Unreachable));
    }
}
