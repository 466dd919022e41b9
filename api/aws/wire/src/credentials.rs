//! Credentials, and where a component gets them: given, from the environment, from IMDS, from a
//! container endpoint, from a web identity token.

mod cache;
mod container;
mod instance;
mod web_identity;

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use transport::BoxError;

pub use self::{
    cache::Cached, container::ContainerEndpoint, instance::InstanceRole, web_identity::WebIdentity,
};

/// An access key, with its session token where it is temporary.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
    pub expires: Option<Timestamp>,
}

impl Credentials {
    /// Long-term credentials.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
            expires: None,
        }
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Credentials");
        out.field("access_key_id", &self.access_key_id).field("expires", &self.expires);
        out.finish_non_exhaustive()
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("`{name}` is not set")]
    NotSet { name: &'static str },
    #[error("failed to get credentials from {origin}")]
    Fetch {
        origin: String,
        #[source]
        source: BoxError,
    },
    #[error("{origin} gave no credentials: {reason}")]
    Refused { origin: String, reason: String },
}

/// Something that has credentials, or can get them.
pub trait ProvideCredentials: Send + Sync + 'static {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>>;
}

/// A shared provider.
pub type Provider = Arc<dyn ProvideCredentials>;

/// Given credentials provide themselves.
impl ProvideCredentials for Credentials {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(async { Ok(self.clone()) })
    }
}

/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` as `variable` gives them.
pub fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Credentials, CredentialsError> {
    let need = |name: &'static str| variable(name).ok_or(CredentialsError::NotSet { name });
    Ok(Credentials {
        session_token: variable("AWS_SESSION_TOKEN").filter(|it| !it.is_empty()),
        ..Credentials::new(need("AWS_ACCESS_KEY_ID")?, need("AWS_SECRET_ACCESS_KEY")?)
    })
}

/// The document that IMDS and container endpoints answer.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    access_key_id: String,
    secret_access_key: String,
    #[serde(alias = "SessionToken")]
    token: Option<String>,
    expiration: Option<Timestamp>,
}

fn parse(origin: &str, body: &[u8]) -> Result<Credentials, CredentialsError> {
    let document: Document = serde_json::from_slice(body).map_err(|source| {
        CredentialsError::Fetch { origin: origin.to_owned(), source: source.into() }
    })?;
    Ok(Credentials {
        access_key_id: document.access_key_id,
        secret_access_key: document.secret_access_key,
        session_token: document.token,
        expires: document.expiration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_gives_all_or_says_what_is_missing() {
        let full = |name: &str| Some(format!("{name}!"));
        let credentials = from_environment(full).unwrap();
        assert_eq!(credentials.session_token.as_deref(), Some("AWS_SESSION_TOKEN!"));
        let error = from_environment(|_| None).unwrap_err();
        assert_eq!(error.to_string(), "`AWS_ACCESS_KEY_ID` is not set");
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", Credentials::new("AKIA", "hidden"));
        assert!(!text.contains("hidden"));
    }

    #[test]
    fn a_document_is_read_in_either_spelling() {
        let body = br#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"S","Token":"T",
            "Expiration":"2026-11-23T18:00:00Z"}"#;
        let credentials = parse("x", body).unwrap();
        assert_eq!(credentials.session_token.as_deref(), Some("T"));
        assert!(credentials.expires.is_some());
        assert!(parse("x", b"{}").is_err());
    }
}
