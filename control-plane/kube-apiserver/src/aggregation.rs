//! APIs of servers behind a Service of the cluster, and the APIService objects of all APIs.
//!
//! A request for a group and version whose APIService names a Service passes authentication,
//! authorization and the limits here, and is handed on as it came, with its user in headers, over TLS
//! with the front proxy's certificate. What is served there is asked again and again: it tells whether
//! the server is there, and is part of discovery and of the OpenAPI documents.
//!
//! As on EKS a ready endpoint of the Service is dialled (`--enable-aggregator-routing`), from the
//! control plane's place in the network.
//!
//! **Invariant:** a built-in group is served here, whoever writes an APIService of it.
//!
//! Deviation: upstream lets an APIService hand a built-in group to a Service; here that is refused.
//!
//! Upstream: kube-aggregator.

mod availability;
mod documents;
mod order;
mod services;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use parking_lot::{Mutex, RwLock};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use transport::{
    Body,
    tls::{self, Identity},
};

use self::{documents::Learned, order::Priority};
pub(crate) use self::{
    documents::Merged,
    services::{bootstrap_objects, expected_name, prepare, reconciled},
};
use crate::{
    authz::text,
    proxy::{self, Secure},
    registry::Reader,
    render,
    request::UserInfo,
    status::Status,
};

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
const AVAILABLE: &str = "Available";

/// What may stand in a header's name as it is; of the key of an extra all else is escaped.
const TOKEN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// A group and a version.
type Api = (String, String);

/// An APIService that names a Service.
#[derive(Debug)]
pub(crate) struct Remote {
    /// `v1alpha1.wardle.example.com`.
    name: String,
    api: Api,
    namespace: String,
    service: String,
    port: u16,
    /// PEM; empty: whom the machine trusts.
    authority: String,
    is_unverified: bool,
    is_available: bool,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Remote {
    fn of(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let service = spec.get("service").filter(|it| it.is_object())?;
        let port = service["port"].as_u64().and_then(|it| u16::try_from(it).ok());
        let bundle = BASE64_STANDARD.decode(text(spec, "/caBundle")).unwrap_or_default();
        Some(Self {
            name: text(object, "/metadata/name").into(),
            api: (text(spec, "/group").into(), text(spec, "/version").into()),
            namespace: text(service, "/namespace").into(),
            service: text(service, "/name").into(),
            port: port.unwrap_or(443),
            authority: String::from_utf8_lossy(&bundle).into_owned(),
            is_unverified: spec["insecureSkipTLSVerify"] == true,
            is_available: condition(object).is_some_and(|it| it["status"] == "True"),
            tls: OnceLock::new(),
        })
    }

    /// `/apis/GROUP/VERSION`.
    fn root(&self) -> String {
        format!("/apis/{}/{}", self.api.0, self.api.1)
    }

    fn tls(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, String> {
        let make = || {
            if self.is_unverified {
                return tls::client_unverified(identity);
            }
            if !self.authority.is_empty() {
                return proxy::client(&self.authority, identity);
            }
            proxy::client(&proxy::machine_authorities().unwrap_or_default(), identity)
        };
        self.tls.get_or_init(|| make().map_err(|error| error.to_string())).clone()
    }

    fn secure(&self, identity: Option<&Identity>) -> Result<Secure, String> {
        let name = format!("{}.{}.svc", self.service, self.namespace);
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        Ok(Secure { config: self.tls(identity)?, name: Some(name) })
    }
}

/// The APIService's condition `Available`.
fn condition(object: &Value) -> Option<&Value> {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|it| it["type"] == AVAILABLE)
}

/// What the stored APIServices say.
#[derive(Debug, Default)]
pub(crate) struct Table {
    remotes: HashMap<Api, Arc<Remote>>,
    priorities: HashMap<Api, Priority>,
}

impl Table {
    fn of(objects: &[Value], before: &Self) -> Self {
        let mut table = Self::default();
        for object in objects {
            let spec = &object["spec"];
            let api = (text(spec, "/group").to_owned(), text(spec, "/version").to_owned());
            table.priorities.insert(api.clone(), Priority::of(spec));
            if let Some(remote) = Remote::of(object) {
                // A configuration is not cheap, and only the status changes often.
                if let Some(known) = before.remotes.get(&api)
                    && known.authority == remote.authority
                    && known.is_unverified == remote.is_unverified
                    && let Some(tls) = known.tls.get()
                {
                    drop(remote.tls.set(tls.clone()));
                }
                table.remotes.insert(api, Arc::new(remote));
            }
        }
        table
    }

    pub(crate) fn has(&self, group: &str, version: &str) -> bool {
        self.remotes.contains_key(&(group.to_owned(), version.to_owned()))
    }
}

/// See the module.
pub(crate) struct Aggregator {
    objects: Reader,
    /// With which servers behind a Service know this one.
    identity: Option<Identity>,
    proxy: proxy::Config,
    table: Mutex<(u64, Arc<Table>)>,
    learned: RwLock<HashMap<Api, Arc<Learned>>>,
    #[cfg(test)]
    pub(crate) redirect: Mutex<Option<SocketAddr>>,
}

impl Aggregator {
    pub(crate) fn new(objects: Reader, identity: Option<Identity>, proxy: proxy::Config) -> Self {
        Self {
            objects,
            identity,
            proxy,
            table: Mutex::default(),
            learned: RwLock::default(),
            #[cfg(test)]
            redirect: Mutex::default(),
        }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        let revision = self.objects.revision(GROUP, PLURAL);
        let mut known = self.table.lock();
        if known.0 != revision {
            let table = Table::of(&self.objects.list(GROUP, PLURAL, ""), &known.1);
            *known = (revision, Arc::new(table));
        }
        known.1.clone()
    }

    /// The server behind a Service that answers this path.
    pub(crate) fn claimed(&self, path: &str) -> Option<Arc<Remote>> {
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        let (group, version) = (parts.next()?, parts.next()?);
        self.remote(group, version)
    }

    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        self.table().remotes.get(&(group.to_owned(), version.to_owned())).cloned()
    }

    /// Hands the request on; failures are upstream's lines of text.
    pub(crate) async fn forward(
        &self,
        remote: &Remote,
        user: &UserInfo,
        mut request: Request<Body>,
    ) -> Response<Body> {
        if !remote.is_available {
            return render::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
        }
        let secure = match remote.secure(self.identity.as_ref()) {
            Ok(secure) => secure,
            Err(why) => return render::text(StatusCode::INTERNAL_SERVER_ERROR, &why),
        };
        let address = match self.resolve(remote) {
            Ok(address) => address,
            Err(status) => {
                tracing::debug!(name = remote.name, why = status.message, "nobody to ask");
                return render::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
            }
        };
        // What the client calls its connection's own may not be what is said of the client.
        if !request.headers().contains_key(header::UPGRADE) {
            hop_by_hop::strip(request.headers_mut());
        }
        introduce(user, request.headers_mut());
        match proxy::hand_on(&self.proxy, address, secure, request).await {
            Ok(response) => response,
            Err(status) => render::text(StatusCode::SERVICE_UNAVAILABLE, &status.message),
        }
    }

    fn resolve(&self, remote: &Remote) -> Result<SocketAddr, Status> {
        let asked = format!("{}:{}", remote.service, remote.port);
        let address = proxy::service(&self.objects, &remote.namespace, &asked)?;
        #[cfg(test)]
        let address = self.redirect.lock().unwrap_or(address);
        Ok(address)
    }
}

/// The user in the front proxy's headers, and nothing of what the client said about itself.
pub(crate) fn introduce(user: &UserInfo, headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let said: Vec<_> =
        headers.keys().filter(|it| it.as_str().starts_with("x-remote-")).cloned().collect();
    for name in said {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes()))
        {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.username);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", utf8_percent_encode(key, TOKEN));
        for value in values {
            add(&name, value);
        }
    }
}

#[cfg(test)]
mod tests;
