//! Users whom a proxy in front names in headers, as it may by its client certificate.
//!
//! **Invariant:** headers count only beside a certificate of the proxies' own authority, and such a
//! certificate makes nobody a user by itself unless the clients' authority has signed it, too.
//!
//! Upstream: k8s.io/apiserver/pkg/authentication/request/headerrequest.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use rustls::server::{WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde_json::{Map, Value, json};
use transport::{Peer, tls};

use crate::request::UserInfo;

/// Upstream's `--requestheader-…`.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    /// Who signs the proxies' certificates.
    pub ca_pem: String,
    /// The common names that a proxy may have; empty: any.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_headers_prefixes: Vec<String>,
}

impl RequestHeader {
    /// With the headers that every aggregated server knows.
    pub fn new(ca_pem: impl Into<String>, allowed_names: &[&str]) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            ca_pem: ca_pem.into(),
            allowed_names: allowed_names.iter().map(ToString::to_string).collect(),
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_headers_prefixes: one("X-Remote-Extra-"),
        }
    }

    /// As `kube-system/extension-apiserver-authentication` tells of it.
    pub(super) fn publish(&self, data: &mut Map<String, Value>) {
        data.insert("requestheader-client-ca-file".into(), self.ca_pem.as_str().into());
        for (key, names) in [
            ("requestheader-allowed-names", &self.allowed_names),
            ("requestheader-username-headers", &self.username_headers),
            ("requestheader-uid-headers", &self.uid_headers),
            ("requestheader-group-headers", &self.group_headers),
            ("requestheader-extra-headers-prefix", &self.extra_headers_prefixes),
        ] {
            data.insert(key.into(), json!(names).to_string().into());
        }
    }

    /// The user in the headers; `None` where they name none.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let first = |names: &[String]| {
            let mut values = names.iter().flat_map(|it| all(headers, it));
            values.find(|it| !it.is_empty())
        };
        let mut user = UserInfo {
            username: first(&self.username_headers)?,
            uid: first(&self.uid_headers).unwrap_or_default(),
            groups: self.group_headers.iter().flat_map(|it| all(headers, it)).collect(),
            extra: self.extra(headers),
        };
        let is_told =
            |it: &String| matches!(it.as_str(), "system:authenticated" | "system:unauthenticated");
        if !user.groups.iter().any(is_told) {
            user.groups.push("system:authenticated".into());
        }
        Some(user)
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let Some(key) = self.extra_key(name) else { continue };
            let key = percent_decode_str(key).decode_utf8_lossy().to_lowercase();
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            extra.entry(key).or_default().push(value);
        }
        extra
    }

    /// What follows the prefix in a header's name, which is in lower case.
    fn extra_key<'a>(&self, name: &'a HeaderName) -> Option<&'a str> {
        let prefixes = self.extra_headers_prefixes.iter();
        prefixes.map(|it| it.to_lowercase()).find_map(|it| name.as_str().strip_prefix(&it))
    }

    /// Takes out what names a user: it was read, and is nobody else's to read.
    pub(super) fn forget(&self, headers: &mut HeaderMap) {
        let names = [&self.username_headers, &self.uid_headers, &self.group_headers];
        for name in names.into_iter().flatten() {
            headers.remove(name);
        }
        let extra: Vec<_> =
            headers.keys().filter(|it| self.extra_key(it).is_some()).cloned().collect();
        for name in extra {
            headers.remove(name);
        }
    }
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned()).collect()
}

/// An authority that vouches for clients.
#[derive(Clone, Debug)]
pub(super) struct Authority(Arc<dyn ClientCertVerifier>);

impl Authority {
    pub(super) fn new(pem: &str) -> io::Result<Self> {
        tls::install_provider();
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        Ok(Self(verifier.map_err(io::Error::other)?))
    }

    pub(super) fn vouches_for(&self, peer: &Peer, now: jiff::Timestamp) -> bool {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        peer.certificate
            .as_ref()
            .is_some_and(|it| self.0.verify_client_cert(it, &peer.intermediates, now).is_ok())
    }
}
