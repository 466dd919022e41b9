//! ECR passwords for the kubelet: an exec plugin of `credentialprovider.kubelet.k8s.io/v1`.
//!
//! Reads a `CredentialProviderRequest` with an image's name, asks ECR for a password with the
//! node's credentials, and answers for the image's registry.
//!
//! Upstream: cloud-provider-aws, cmd/ecr-credential-provider.
//! Deviation: images of `public.ecr.aws` get no password, since they can be pulled without; tokens
//! of service accounts (KEP-4412) are not exchanged.

pub mod command;

use aws_wire::CallError;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

const VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// A private registry of ECR.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registry {
    host: String,
    account: String,
    region: String,
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum ProvideError {
    #[error("failed to read the request from standard input")]
    Read {
        #[source]
        source: std::io::Error,
    },
    #[error("the request is no CredentialProviderRequest of {VERSION}")]
    Request,
    #[error("image in plugin request was empty")]
    NoImage,
    #[error("`{image}` is not an image of ECR")]
    NotEcr { image: String },
    #[error("failed to configure the AWS client")]
    Configure {
        #[source]
        source: aws_wire::client::ConfigError,
    },
    #[error("failed to get a password from ECR")]
    Call {
        #[source]
        source: CallError,
    },
    #[error("ECR answered no usable password")]
    Answer,
}

/// The image that a request is about.
fn image_of(request: &str) -> Result<String, ProvideError> {
    let request: Value = serde_json::from_str(request).map_err(|_| ProvideError::Request)?;
    let text = |field: &str| request.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") != VERSION || text("kind") != "CredentialProviderRequest" {
        return Err(ProvideError::Request);
    }
    match text("image") {
        "" => Err(ProvideError::NoImage),
        image => Ok(image.to_owned()),
    }
}

/// The registry of an image's name; `None` when it needs no password.
fn registry_of(image: &str) -> Result<Option<Registry>, ProvideError> {
    let not_ecr = || ProvideError::NotEcr { image: image.to_owned() };
    let host = image.split('/').next().unwrap_or(image);
    if host == "public.ecr.aws" {
        return Ok(None);
    }
    let (account, rest) = host.split_once('.').ok_or_else(not_ecr)?;
    let region = ["dkr.ecr.", "dkr.ecr-fips.", "dkr-ecr.", "dkr-ecr-fips."]
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix))
        .and_then(|rest| rest.split_once('.'))
        .filter(|(_, suffix)| {
            matches!(
                *suffix,
                "amazonaws.com" | "amazonaws.com.cn" | "on.aws" | "on.amazonwebservices.com.cn"
            )
        })
        .map(|(region, _)| region);
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    match region {
        Some(region) if is_account && !region.is_empty() => Ok(Some(Registry {
            host: host.to_owned(),
            account: account.to_owned(),
            region: region.to_owned(),
        })),
        _ => Err(not_ecr()),
    }
}

/// The response for a password in ECR's form (`user:password` in base64), or for none.
fn response(
    registry: Option<(&Registry, &str, f64)>,
    now: Timestamp,
) -> Result<Value, ProvideError> {
    let (auth, seconds) = match registry {
        None => (json!({}), 0),
        Some((registry, token, expires)) => {
            let decoded = STANDARD.decode(token).ok().and_then(|it| String::from_utf8(it).ok());
            let decoded = decoded.ok_or(ProvideError::Answer)?;
            let (username, password) = decoded.split_once(':').ok_or(ProvideError::Answer)?;
            let left = expires - now.as_duration().as_secs_f64();
            let auth = json!({&registry.host: {"username": username, "password": password}});
            (auth, whole_seconds(left / 2.0))
        }
    };
    Ok(json!({
        "kind": "CredentialProviderResponse",
        "apiVersion": VERSION,
        "cacheKeyType": "Registry",
        "cacheDuration": format!("{seconds}s"),
        "auth": auth,
    }))
}

/// Zero for what is over; no password lasts longer than a day.
fn whole_seconds(seconds: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to a day in the same line"
    )]
    let whole = seconds.clamp(0.0, 86_400.0) as u32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry() {
        let found = registry_of("602401143452.dkr.ecr.us-east-1.amazonaws.com/eks/coredns:v1");
        let registry = Registry {
            host: "602401143452.dkr.ecr.us-east-1.amazonaws.com".into(),
            account: "602401143452".into(),
            region: "us-east-1".into(),
        };
        assert_eq!(found.unwrap(), Some(registry));
        assert_eq!(registry_of("public.ecr.aws/nginx/nginx").unwrap(), None);
        for bad in [
            "docker.io/library/nginx",
            "nginx",
            "60240114345.dkr.ecr.us-east-1.amazonaws.com/x",
            "602401143452.dkr.ecr.us-east-1.amazonaws.com.evil.com/x",
        ] {
            assert!(registry_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_kept_for_half_of_its_life() {
        let registry = registry_of("602401143452.dkr.ecr.us-east-1.amazonaws.com/x").unwrap();
        let registry = registry.unwrap();
        let token = STANDARD.encode("AWS:pass:word");
        let answer = response(Some((&registry, &token, 43_200.0)), Timestamp::UNIX_EPOCH);
        let answer = answer.unwrap();
        assert_eq!(answer["cacheDuration"], "21600s");
        assert_eq!(
            answer["auth"][&registry.host],
            json!({"username": "AWS", "password": "pass:word"})
        );
    }

    #[test]
    fn a_request_of_another_version_is_refused() {
        let request = |version: &str| {
            json!({"apiVersion": version, "kind": "CredentialProviderRequest", "image": "x/y"})
                .to_string()
        };
        assert_eq!(image_of(&request(VERSION)).unwrap(), "x/y");
        assert!(image_of(&request("credentialprovider.kubelet.k8s.io/v1alpha1")).is_err());
        assert!(image_of("").is_err());
    }
}
