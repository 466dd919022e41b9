//! The connections below a client: one that has died is noticed within seconds.
//!
//! A watch may rightly be quiet for minutes, so that its silence says nothing, and a client that only
//! reads would wait on a connection whose way is gone (kube-proxy's rules were flushed, the API server's
//! machine is off) until its limit for reading. So the kernel asks the other end whether it is there.
//!
//! Upstream: client-go, which pings by HTTP/2 after 30 s of silence and waits for 15 s.
//! Deviation: kube-rs speaks HTTP/1.1, so that it is TCP that asks: after 10 s, and waits for 15 s.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;

use http::{Method, Request, Response};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt, retry::RetryPolicy},
};
use tower::{BoxError, Service, ServiceBuilder, retry::RetryLayer};

use crate::measures::ClientCounts;

/// Silence after which the other end is asked whether it is there.
const QUIET: Duration = Duration::from_secs(10);
/// Until it is asked again, and how often it is asked before the connection counts as dead.
const AGAIN: Duration = Duration::from_secs(5);
const TIMES: u32 = 3;
/// For how long what was sent may be without an acknowledgement.
const UNHEARD: Duration = Duration::from_secs(20);

/// The client that `config` describes: [`Client::try_from`] with connections that notice their end.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        // What proxies this is built for, kube knows.
        return Client::try_from(config);
    }
    transport::tls::install_provider();
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp())?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let retry = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let counts = ClientCounts::shown(&host);
    let service = ServiceBuilder::new()
        .layer_fn(move |inner| Counted { inner, counts: counts.clone() })
        .layer(config.base_uri_layer())
        .option_layer(retry)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// Counts requests and what their answers took to begin.
#[derive(Clone)]
struct Counted<S> {
    inner: S,
    counts: Arc<ClientCounts>,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, began) = (text(request.method()), tokio::time::Instant::now());
        let (counts, answer) = (self.counts.clone(), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().ok().map(|it| it.status().as_u16());
            counts.count(method, code, began.elapsed());
            answer
        })
    }
}

fn text(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(QUIET));
    connector.set_keepalive_interval(Some(AGAIN));
    connector.set_keepalive_retries(Some(TIMES));
    connector.set_tcp_user_timeout(Some(UNHEARD));
    connector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel has on its timer for connections to `port`: the kind and when, in hundredths of a
    /// second. Kind 2 asks whether the other end is there.
    fn timers(port: u16) -> Vec<(u8, u64)> {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let to = format!(":{port:04X}");
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // The third column is the other end, the sixth is kind:when.
        let ours = rows.filter(|row| row.len() > 5 && row[2].ends_with(&to));
        ours.filter_map(|row| {
            let (kind, when) = row[5].split_once(':')?;
            Some((u8::from_str_radix(kind, 16).ok()?, u64::from_str_radix(when, 16).ok()?))
        })
        .collect()
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a server that answers as no server should")]
    async fn the_kernel_asks_within_seconds_whether_the_other_end_of_a_quiet_watch_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Config::new(format!("http://127.0.0.1:{port}").parse().unwrap());
        let client = connect(config).unwrap();
        let asking = tokio::spawn(async move { client.apiserver_version().await });
        // Its request is read, so that nothing but silence is left.
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert_ne!(tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap(), 0);
        let is_asked = |found: Vec<(u8, u64)>| found.iter().any(|it| it.0 == 2 && it.1 <= 1000);
        let mut found = timers(port);
        for _ in 0..1000 {
            if is_asked(found.clone()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            found = timers(port);
        }
        assert!(is_asked(found.clone()), "{found:?}");
        asking.abort();
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a server that answers as no server should")]
    async fn requests_are_counted_by_code_method_and_host() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        let client = connect(Config::new(format!("http://{host}").parse().unwrap())).unwrap();
        let refusing = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert_ne!(tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap(), 0);
            let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        };
        let (answer, ()) = tokio::join!(client.apiserver_version(), refusing);
        answer.unwrap_err();
        drop(listener);
        client.apiserver_version().await.unwrap_err();
        let page = crate::measures::render();
        for line in [
            format!("rest_client_requests_total{{code=\"403\",host=\"{host}\",method=\"GET\"}} 1"),
            format!(
                "rest_client_requests_total{{code=\"<error>\",host=\"{host}\",method=\"GET\"}} 1"
            ),
            format!("rest_client_request_duration_seconds_count{{host=\"{host}\",verb=\"GET\"}} 2"),
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
    }
}
