//! `GET /v1/credentials`, on the agent's link-local addresses.
//!
//! The checks, in upstream's order: the rate, the address that was called (a name that a browser or
//! a proxy was led to is another `Host`), the token, and then EKS Auth or the cache.

use std::{convert::Infallible, net::IpAddr, sync::Arc};

use clock::Clock;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST},
};
use hyper::body::Incoming;
use tokio::time::Instant;
use tracing::warn;
use transport::Body;

use crate::{cache::Cache, limit::Limit, metrics::Metrics, token};

const PATH: &str = "/v1/credentials";

/// See the module.
pub struct Server {
    pub cache: Arc<Cache>,
    pub limit: Limit,
    pub metrics: Arc<Metrics>,
    /// Where the agent may be called.
    pub addresses: Vec<IpAddr>,
    pub clock: Clock,
}

/// What a request is answered.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Answer {
    fn refused(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", text: text.into() }
    }
}

impl Server {
    /// For `transport::serve`.
    pub async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let started = Instant::now();
        let (parts, _) = request.into_parts();
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let answer = self.answer(&parts.method, parts.uri.path(), authority, &parts.headers).await;
        // Probes see that this is the agent by its not finding `/`.
        if parts.uri.path() == PATH {
            self.metrics.count(answer.status, started.elapsed());
        }
        let mut response = Response::new(transport::full(answer.text));
        *response.status_mut() = answer.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    async fn answer(
        &self,
        method: &Method,
        path: &str,
        authority: Option<&str>,
        headers: &HeaderMap,
    ) -> Answer {
        if path != PATH {
            return Answer::refused(StatusCode::NOT_FOUND, "404 page not found\n");
        }
        if method != Method::GET {
            return Answer::refused(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        if !self.limit.take() {
            return Answer::refused(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n");
        }
        let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
        let host = authority.or_else(|| text(HOST)).unwrap_or_default();
        if !self.is_own(host) {
            return Answer::refused(
                StatusCode::FORBIDDEN,
                format!(
                    "Called agent through invalid address, please use either {} not {host:?}\n",
                    self.shown()
                ),
            );
        }
        match self.credentials(text(AUTHORIZATION).unwrap_or_default()).await {
            Ok(text) => Answer { status: StatusCode::OK, kind: "application/json", text },
            Err(refused) => {
                warn!(
                    status = refused.status.as_u16(),
                    reason = refused.text.trim_end(),
                    "no credentials"
                );
                refused
            }
        }
    }

    async fn credentials(&self, token: &str) -> Result<String, Answer> {
        if let Err(error) = token::check(token, self.clock.now()) {
            return Err(Answer::refused(StatusCode::BAD_REQUEST, format!("{error}\n")));
        }
        let issued = self.cache.credentials(token).await;
        let issued =
            issued.map_err(|it| Answer::refused(it.status, format!("{}\n", it.message)))?;
        serde_json::to_string(&*issued)
            .map_err(|error| Answer::refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// Whether a `Host` is one of the agent's addresses, its port aside.
    fn is_own(&self, host: &str) -> bool {
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        bare.parse::<IpAddr>().is_ok_and(|it| self.addresses.contains(&it))
    }

    fn shown(&self) -> String {
        let shown = self.addresses.iter().map(|it| match it {
            IpAddr::V4(it) => it.to_string(),
            IpAddr::V6(it) => format!("[{it}]"),
        });
        shown.collect::<Vec<_>>().join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::BoxFuture;
    use jiff::Timestamp;

    use super::*;
    use crate::{
        cache,
        link::{IPV4, IPV6},
        source::{Issued, Refused, Source},
        token::tests::token,
    };

    /// Knows `a` alone.
    struct One(String);

    impl Source for One {
        fn issue<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, Refused>> {
            let result = match token == self.0 {
                true => Ok(Issued {
                    access_key_id: "ASIA".to_owned(),
                    secret_access_key: "secret".to_owned(),
                    token: "token".to_owned(),
                    account_id: "111122223333".to_owned(),
                    expiration: end(),
                }),
                false => Err(Refused {
                    status: StatusCode::NOT_FOUND,
                    message: "(ResourceNotFoundException): none, fault: client".to_owned(),
                    is_final: true,
                }),
            };
            Box::pin(std::future::ready(result))
        }
    }

    fn end() -> Timestamp {
        Timestamp::from_second(3600).unwrap()
    }

    fn server(burst: u32) -> Server {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let source = Arc::new(One(token("a", end())));
        Server {
            cache: Arc::new(Cache::new(source, cache::Config::default(), clock)),
            limit: Limit::new(1000, burst),
            metrics: Arc::default(),
            addresses: vec![IPV4.into(), IPV6.into()],
            clock,
        }
    }

    async fn ask(server: &Server, headers: &[(&'static str, &str)]) -> (u16, String) {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        let answer = server.answer(&Method::GET, PATH, None, &headers.collect()).await;
        (answer.status.as_u16(), answer.text)
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_the_token_gets_the_credentials_and_nobody_else() {
        let server = server(500);
        let own = token("a", end());
        for host in ["169.254.170.23", "169.254.170.23:80", "[fd00:ec2::23]", "[fd00:ec2::23]:80"] {
            let (status, text) = ask(&server, &[("host", host), ("authorization", &own)]).await;
            assert_eq!(status, 200, "{host}: {text}");
            assert!(text.contains("\"AccessKeyId\":\"ASIA\""), "{text}");
        }
        let good = ("host", "169.254.170.23");
        let other = token("b", end());
        let (status, text) = ask(&server, &[good, ("authorization", &other)]).await;
        assert_eq!((status, &*text), (404, "(ResourceNotFoundException): none, fault: client\n"));
        let ended = token("a", Timestamp::UNIX_EPOCH);
        let bearer = format!("Bearer {own}");
        for (authorization, wanted) in [
            ("", "Service account token cannot be empty"),
            ("x", "Service account token cannot be parsed: "),
            (&*bearer, "Service account token cannot be parsed: could not decode header"),
            (&*ended, "Service account token is expired"),
        ] {
            let (status, text) = ask(&server, &[good, ("authorization", authorization)]).await;
            assert_eq!(status, 400);
            assert!(text.starts_with(wanted), "{text}");
        }
        assert_eq!(ask(&server, &[good]).await.0, 400, "no header at all");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_of_proxies_and_foreign_names_open_nothing() {
        let server = server(500);
        let own = token("a", end());
        for host in ["", "rebound.example.com", "127.0.0.1", "169.254.170.2", "[fd00:ec2::254]"] {
            let (status, text) = ask(&server, &[("host", host), ("authorization", &own)]).await;
            assert_eq!(status, 403, "{host}");
            assert!(text.contains("please use either 169.254.170.23 or [fd00:ec2::23]"), "{text}");
        }
        // Whoever claims to speak for a pod needs its token all the same.
        let forged = [("host", "169.254.170.23"), ("x-forwarded-for", "192.168.0.9")];
        assert_eq!(ask(&server, &forged).await.0, 400);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_are_told_so() {
        let server = server(2);
        let own = token("a", end());
        let headers = [("host", "169.254.170.23"), ("authorization", &*own)];
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(ask(&server, &headers).await.0);
        }
        assert_eq!(seen, [200, 200, 429]);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(ask(&server, &headers).await.0, 200);
        let post = server.answer(&Method::POST, PATH, None, &HeaderMap::new()).await;
        assert_eq!(post.status, 405);
    }
}
