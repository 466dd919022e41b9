//! What this region does not serve, passed on to another emulator on this machine.
//!
//! Only what is signed is passed on, and only after it was authenticated and decided on here as any
//! other call: an emulator behind this one usually believes everybody. The request goes on as it
//! came, `Host` and signature too, with a `Via` of ours; its answer is streamed back. A service's own
//! call from within this process is never passed on, and neither is an action that the region serves,
//! nor a request whose service or action another reader may find elsewhere.
//!
//! Deviation: nobody here knows which resource a request names, nor, of some services such as S3,
//! which action. A denial that may mean it denies it, and only an allowance of all that it may be
//! allows it: single resources, and single actions of such a service, are not enough.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aws_wire::{Fault, StatusCode, sigv4::Presented};
use bytes::Bytes;
use http::{
    HeaderMap, Request, Response, Uri,
    header::{CONTENT_LENGTH, EXPECT, HOST, HeaderValue, VIA},
    request::Parts,
};
use http_body_util::BodyExt;
use transport::{Body, HttpClient, Place};

use crate::{
    Gateway, Source,
    gateway::{Open, Record},
    incoming::{self, Unowned},
    unknown,
};

/// How long the emulator may think about an answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Who passed a request on, as `Via` says it (RFC 9110, 7.6.3).
const OURS: &str = "1.1 nodestead";

/// Whether a region has passed the request on already: an emulator's address may be the region's own.
fn is_passed_on(headers: &HeaderMap) -> bool {
    let via = headers.get_all(VIA).iter().filter_map(|it| it.to_str().ok());
    via.flat_map(|it| it.split(',')).any(|it| it.trim() == OURS)
}

/// Takes out what is between two hops alone.
fn strip(headers: &mut HeaderMap) {
    hop_by_hop::strip(headers);
    headers.remove(EXPECT);
}

/// The other emulator.
#[derive(Clone, Debug)]
pub struct Upstream {
    url: String,
    client: HttpClient,
}

/// The address is not one of an emulator on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not `http://ADDRESS:PORT` of this machine or its private networks")]
pub struct BadUpstream {
    pub url: String,
}

impl Upstream {
    /// `http://127.0.0.1:4567`: `localhost`, or an address that is not public.
    pub fn parse(url: &str) -> Result<Self, BadUpstream> {
        let bad = || BadUpstream { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let has_path = uri.path_and_query().is_some_and(|it| it.as_str() != "/");
        // A name and password would be kept with the settings, and go nowhere.
        let has_user = uri.authority().is_some_and(|it| it.as_str().contains('@'));
        let (Some("http"), Some(host), Some(port), false) =
            (uri.scheme_str(), uri.host(), uri.port_u16(), has_path || has_user)
        else {
            return Err(bad());
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = match bare {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            other => other.parse().map_err(|_| bad())?,
        };
        let is_near = match address {
            IpAddr::V4(it) => it.is_loopback() || it.is_private(),
            IpAddr::V6(it) => it.is_loopback() || it.is_unique_local(),
        };
        if !is_near {
            return Err(bad());
        }
        let client = HttpClient::new(Place::Here, None, LIMIT).to(SocketAddr::new(address, port));
        Ok(Self { url: format!("http://{host}:{port}"), client })
    }

    async fn send(&self, parts: &Parts, body: &Bytes) -> Result<Response<Body>, Fault> {
        let request = onward(&self.url, parts, body).ok_or_else(|| {
            Fault::new("MalformedQueryString", "The request's path is not a path.")
        })?;
        match self.client.send(request).await {
            Ok(mut response) => {
                strip(response.headers_mut());
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Err(error) => {
                tracing::warn!(upstream = self.url, %error, "an unowned call is not answered");
                let message = format!("{} (--proxy-unowned) does not answer.", self.url);
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Err(Fault::new("ServiceUnavailable", message).with_status(status))
            }
        }
    }
}

/// The request as it came, for the emulator.
fn onward(url: &str, parts: &Parts, body: &Bytes) -> Option<Request<Body>> {
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let mut request = Request::new(transport::full(body.clone()));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = format!("{url}{path}").parse().ok()?;
    *request.headers_mut() = parts.headers.clone();
    let headers = request.headers_mut();
    strip(headers);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.append(VIA, HeaderValue::from_static(OURS));
    // HTTP/2 has its host in the URI.
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.entry(HOST).or_insert(host);
    }
    Some(request)
}

/// The prefix of a service's actions, where it is not the name that requests are signed for.
fn prefix(signing_name: &str) -> &str {
    match signing_name {
        "monitoring" => "cloudwatch",
        "email" => "ses",
        other => other,
    }
}

impl Gateway {
    /// Has the other emulator answer, if there is one and the region does not serve what is asked.
    pub(crate) async fn pass_on(
        &self,
        parts: &Parts,
        body: &Bytes,
        source: &Source,
    ) -> Option<Response<Body>> {
        let upstream = self.upstream().filter(|_| !is_passed_on(&parts.headers))?;
        let presented = Presented::read(parts).ok()??;
        let asked = incoming::unowned(self.routes()?, parts, body, &presented)?;
        let started = tokio::time::Instant::now();
        let request_id = entropy::uuid();
        let mut record = Record {
            service: asked.service.clone().into(),
            action: asked.action.clone().unwrap_or_default(),
            ..Record::default()
        };
        let admitted = self.admit(parts, body, source, presented, &asked, &request_id, &mut record);
        record.passed_to = admitted.is_ok().then(|| upstream.url.clone());
        let mut open = Open::new(self, record, request_id.clone(), source, started);
        let answer = match admitted {
            Ok(()) => upstream.send(parts, body).await,
            Err(fault) => Err(fault),
        };
        let fault = answer.as_ref().err().cloned();
        let response = answer.unwrap_or_else(|fault| {
            unknown::refuse(parts, &asked.service, &fault, &request_id).map(transport::full)
        });
        open.close(response.status(), fault.as_ref());
        Some(response)
    }

    /// Who calls, and whether they may.
    #[expect(clippy::too_many_arguments, reason = "a call, and what is known of it")]
    fn admit(
        &self,
        parts: &Parts,
        body: &Bytes,
        source: &Source,
        presented: Presented,
        asked: &Unowned,
        request_id: &str,
        record: &mut Record,
    ) -> Result<(), Fault> {
        let alike = unknown::alike(parts, &asked.service);
        let caller =
            self.authenticate(alike, parts, body, Some(presented), source.clone(), request_id)?;
        let action = asked.action.as_deref().unwrap_or("*");
        let action = format!("{}:{action}", prefix(&asked.service));
        let decided = self.authorizer().decide_unseen(&caller, &action);
        let denial = (!decided.decision.is_allowed()).then(|| decided.denial(&caller, alike.name));
        record.caller = Some(Arc::new(caller));
        record.decided.push(decided);
        record.is_admitted = denial.is_none();
        denial.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_on_this_machine_or_a_private_network_of_it() {
        for good in ["http://127.0.0.1:4567", "http://localhost:80/", "http://[::1]:1"] {
            assert!(Upstream::parse(good).is_ok(), "{good}");
        }
        assert!(Upstream::parse("http://172.17.0.2:4566").is_ok());
        for bad in [
            "http://1.1.1.1:80",
            "https://127.0.0.1:4567",
            "http://127.0.0.1",
            "http://127.0.0.1:1/path",
            "http://me:secret@127.0.0.1:1",
            "http://example.com:80",
            "127.0.0.1:4567",
            "",
        ] {
            assert!(Upstream::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_goes_on_as_it_came_and_says_who_passed_it_on() {
        let (parts, ()) = Request::put("/bucket/a%20key?x=1")
            .header("host", "s3.us-east-1.amazonaws.com")
            .header("authorization", "AWS4-HMAC-SHA256 …")
            .header("transfer-encoding", "chunked")
            .body(())
            .unwrap()
            .into_parts();
        let sent = onward("http://127.0.0.1:1", &parts, &Bytes::from_static(b"body")).unwrap();
        assert_eq!(sent.uri(), "http://127.0.0.1:1/bucket/a%20key?x=1");
        let header = |name: &str| sent.headers().get(name).map(HeaderValue::as_bytes);
        assert_eq!(header("host"), Some(&b"s3.us-east-1.amazonaws.com"[..]));
        assert_eq!(header("authorization"), Some("AWS4-HMAC-SHA256 …".as_bytes()));
        assert!(is_passed_on(sent.headers()) && !is_passed_on(&parts.headers));
        assert_eq!(
            (header("transfer-encoding"), header("content-length")),
            (None, Some(&b"4"[..]))
        );
    }
}
