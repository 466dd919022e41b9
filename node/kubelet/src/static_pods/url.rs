//! Pods that a web server knows (`staticPodURL`), asked for every `httpCheckFrequency`.
//!
//! What cannot be had, or cannot be read, changes nothing; an empty answer ends the pods, as upstream
//! has it. Before the first answer nothing is cleared away: it may be these pods'. Redirects are
//! followed, and lose what identifies the caller when they lead to another host, as Go's client does.
//!
//! Upstream: `pkg/kubelet/config/http.go`.

use std::{fs, path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tracing::{debug, warn};
use transport::{HttpClient, Place};

use super::decode::{self, Pods};
use crate::settings::Settings;

/// Upstream's limit of one request.
const LIMIT: Duration = Duration::from_secs(10);
/// More than all pods of a node.
const LONGEST: usize = 16 * 1024 * 1024;
/// Go's bound.
const MOST_REDIRECTS: usize = 10;
/// Where distributions keep the authorities that they trust, below `/etc`.
const AUTHORITIES: [&str; 4] = [
    "ssl/certs/ca-certificates.crt",
    "pki/tls/certs/ca-bundle.crt",
    "ssl/ca-bundle.pem",
    "pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

pub(super) struct Source {
    url: String,
    headers: HeaderMap,
    period: Duration,
    node_name: String,
    etc: PathBuf,
}

impl Source {
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let config = &settings.config;
        if config.static_pod_url.is_empty() {
            return None;
        }
        let mut headers = HeaderMap::new();
        for (name, values) in &config.static_pod_url_header {
            for value in values {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::try_from(name), HeaderValue::try_from(value))
                {
                    headers.append(name, value);
                }
            }
        }
        Some(Self {
            url: config.static_pod_url.clone(),
            headers,
            period: config.http_check_frequency.0,
            node_name: settings.node_name.clone(),
            etc: settings.etc.clone(),
        })
    }

    /// Asks for ever, and hands on what is new.
    pub(super) async fn run(self, found: watch::Sender<Option<Pods>>) {
        let mut last = None;
        let mut is_failing = false;
        let mut ticks = tokio::time::interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let read = self.read(&mut last, &found).await;
            if let Err(error) = &read {
                if is_failing {
                    debug!(error, "failed to read pods from URL");
                } else {
                    warn!(error, "failed to read pods from URL");
                }
            }
            is_failing = read.is_err();
        }
    }

    async fn read(
        &self,
        last: &mut Option<String>,
        found: &watch::Sender<Option<Pods>>,
    ) -> Result<(), String> {
        let text = tokio::time::timeout(LIMIT, self.fetch()).await;
        let text = text.map_err(|_| format!("{}: no answer within {LIMIT:?}", self.url))??;
        if text.is_empty() {
            *last = None;
            found.send_replace(Some(Pods::new()));
            return Err(format!("zero-length data received from {}", self.url));
        }
        if last.as_ref() == Some(&text) {
            return Ok(());
        }
        let pods = decode::answer(&text, &self.node_name, &self.url);
        let pods = pods.map_err(|error| {
            format!("{}: received what is neither a pod nor a list of pods: {error}", self.url)
        })?;
        *last = Some(text);
        found.send_replace(Some(pods));
        Ok(())
    }

    async fn fetch(&self) -> Result<String, String> {
        let mut uri: Uri = self.url.parse().map_err(|error| format!("{}: {error}", self.url))?;
        let mut headers = self.headers.clone();
        let deadline = Instant::now() + LIMIT;
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::get(&uri)
                .body(transport::empty())
                .map_err(|error| format!("{uri}: {error}"))?;
            *request.headers_mut() = headers.clone();
            let left = deadline.saturating_duration_since(Instant::now());
            let client = HttpClient::new(Place::Here, self.tls(&uri)?, left);
            let answer = client.fetch(request, LONGEST).await;
            let answer = answer.map_err(|error| format!("{uri}: {}", telemetry::chain(&*error)))?;
            if answer.status().is_success() {
                return Ok(String::from_utf8_lossy(answer.body()).into_owned());
            }
            let location = answer.headers().get(header::LOCATION);
            match location.and_then(|it| it.to_str().ok()).and_then(|it| joined(&uri, it)) {
                Some(next) if answer.status().is_redirection() => {
                    if next.host() != uri.host() {
                        forget_caller(&mut headers);
                    }
                    uri = next;
                }
                _ => return Err(format!("{uri}: {}", answer.status())),
            }
        }
        Err(format!("{}: stopped after {MOST_REDIRECTS} redirects", self.url))
    }

    fn tls(&self, uri: &Uri) -> Result<Option<std::sync::Arc<rustls::ClientConfig>>, String> {
        if uri.scheme_str() != Some("https") {
            return Ok(None);
        }
        let pem = AUTHORITIES.iter().find_map(|it| fs::read_to_string(self.etc.join(it)).ok());
        let pem = pem.ok_or("this host trusts no certificate authorities")?;
        transport::tls::client(&pem, None).map(Some).map_err(|it| it.to_string())
    }
}

/// What must not reach another host.
fn forget_caller(headers: &mut HeaderMap) {
    let own = [
        header::AUTHORIZATION,
        header::COOKIE,
        header::PROXY_AUTHORIZATION,
        header::WWW_AUTHENTICATE,
    ];
    for name in own {
        headers.remove(name);
    }
}

/// Where a redirect leads.
fn joined(from: &Uri, location: &str) -> Option<Uri> {
    if location.contains("://") {
        return location.parse().ok();
    }
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let path = match location.strip_prefix('/') {
        Some(_) => location.to_owned(),
        None => format!("{}/{location}", from.path().rsplit_once('/').map_or("", |it| it.0)),
    };
    format!("{scheme}://{authority}{path}").parse().ok()
}
