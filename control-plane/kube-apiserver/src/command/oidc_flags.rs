//! Upstream's `--oidc-…` flags.

use std::{error::Error, path::PathBuf, time::Duration};

use transport::{HttpClient, Place, tls};

use super::read;
use crate::authn::{Oidc, Peer};

/// How long the provider may take to begin its answer, and again to end it.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// One provider of ID tokens.
#[derive(Clone, Debug, clap::Args)]
pub struct OidcFlags {
    /// The provider's URL, which its tokens name as their issuer
    #[arg(long, requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// Whom the provider's tokens must be for
    #[arg(long, requires = "oidc_issuer_url")]
    pub oidc_client_id: Option<String>,
    #[arg(long, default_value = "sub")]
    pub oidc_username_claim: String,
    /// `-` for none; the issuer's URL where it is not given and the claim is not `email`
    #[arg(long, allow_hyphen_values = true)]
    pub oidc_username_prefix: Option<String>,
    #[arg(long)]
    pub oidc_groups_claim: Option<String>,
    #[arg(long, default_value = "")]
    pub oidc_groups_prefix: String,
    /// A claim and its value that a token must have
    #[arg(long, value_name = "KEY=VALUE")]
    pub oidc_required_claim: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// Who signed the provider's certificate
    #[arg(long, default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub oidc_ca_file: PathBuf,
}

impl OidcFlags {
    pub(super) fn oidc(&self) -> Result<Option<Oidc>, Box<dyn Error + Send + Sync>> {
        let (Some(issuer_url), Some(client_id)) = (&self.oidc_issuer_url, &self.oidc_client_id)
        else {
            return Ok(None);
        };
        if !issuer_url.starts_with("https://") {
            return Err(
                format!("--oidc-issuer-url: \"{issuer_url}\" must begin with https://").into()
            );
        }
        let required = self.oidc_required_claim.iter().map(|it| {
            let (key, value) =
                it.split_once('=').ok_or("--oidc-required-claim must be KEY=VALUE")?;
            Ok::<_, Box<dyn Error + Send + Sync>>((key.to_owned(), value.to_owned()))
        });
        let algs = self.oidc_signing_algs.iter().map(|it| {
            let alg = it.parse::<jsonwebtoken::Algorithm>();
            alg.ok().filter(|_| !it.starts_with("HS")).ok_or_else(|| {
                format!("--oidc-signing-algs: \"{it}\" is none that a provider can sign with")
            })
        });
        let tls = Some(tls::client(&read(&self.oidc_ca_file)?, None)?);
        Ok(Some(Oidc {
            issuer_url: issuer_url.clone(),
            client_id: client_id.clone(),
            username_claim: self.oidc_username_claim.clone(),
            username_prefix: self.oidc_username_prefix.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            groups_prefix: self.oidc_groups_prefix.clone(),
            required_claims: required.collect::<Result<_, _>>()?,
            signing_algs: algs.collect::<Result<_, _>>()?,
            provider: Peer::remote(HttpClient::new(Place::Here, tls, TIME_LIMIT)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: OidcFlags,
    }

    fn of(words: &[&str]) -> Result<Option<Oidc>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, pki::Ca::new("ca").unwrap().certificate_pem()).unwrap();
        let authority = format!("--oidc-ca-file={}", file.display());
        let all = ["x", &authority].into_iter().chain(words.iter().copied());
        let line = Line::try_parse_from(all).map_err(|error| error.to_string())?;
        line.flags.oidc().map_err(|error| error.to_string())
    }

    #[test]
    fn a_provider_is_named_whole_or_not_at_all() {
        assert!(of(&[]).unwrap().is_none());
        let whole =
            ["--oidc-issuer-url=https://a", "--oidc-client-id=c", "--oidc-username-prefix=-"];
        let oidc = of(&whole).unwrap().unwrap();
        assert_eq!(
            (oidc.username_claim.as_str(), oidc.username_prefix.as_deref()),
            ("sub", Some("-"))
        );
        for half in [whole[0], whole[1]] {
            assert!(of(&[half]).is_err(), "{half}");
        }
        assert!(of(&["--oidc-issuer-url=http://a", whole[1]]).is_err(), "not by https");
        for wrong in ["--oidc-required-claim=a", "--oidc-signing-algs=HS256"] {
            assert!(of(&[whole[0], whole[1], wrong]).is_err(), "{wrong}");
        }
    }
}
