//! `pods/log`, `pods/exec`, `pods/attach`, `pods/portforward`: the kubelet answers.
//!
//! Upstream: pkg/registry/core/pod (`strategy.go`, `rest/log.go`, `rest/subresources.go`).

use std::{net::SocketAddr, sync::Arc};

use http::{Method, Request, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use transport::Body;

use super::{Proxy, dial, forward, log_socket, target, upgrade};
use crate::{
    authz::{items, text},
    request::{RequestInfo, query_pairs, query_value},
    status::{FieldError, Status},
};

/// A kubelet's refusal is a line of text.
const REFUSAL_LIMIT: usize = 64 * 1024;

/// What Go's `url.QueryEscape` leaves as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The options of a log request that the kubelet takes, in the order of Go's `url.Values`.
const LOG_OPTIONS: [&str; 8] = [
    "follow",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "stream",
    "tailLines",
    "timestamps",
];

impl Proxy {
    pub(super) async fn log(
        &self,
        info: &RequestInfo,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let headers = request.headers();
        let socket = log_socket::is_asked(headers).then(|| log_socket::Handshake::of(headers));
        let socket = socket.transpose()?;
        let query = request.uri().query().unwrap_or_default();
        check_log_options(&info.name, query)?;
        let pod = self.pod(info)?;
        let asked = query_value(query, "container").unwrap_or_default();
        let container = container(&pod, &asked)?;
        let node = text(&pod, "/spec/nodeName");
        if node.is_empty() {
            // Not scheduled yet: nothing was logged.
            return Ok(plain_text(transport::empty()));
        }
        let address = target::kubelet(&*self.objects, node)?;
        let (namespace, name) = (&info.namespace, &info.name);
        let mut path = format!("/containerLogs/{namespace}/{name}/{container}");
        let options = log_query(query);
        if !options.is_empty() {
            path = format!("{path}?{options}");
        }
        let answer = self.ask(address, &path).await?;
        if answer.status().is_success() {
            return Ok(match socket {
                None => plain_text(forward::body(answer.into_body())),
                Some(socket) => {
                    let client = hyper::upgrade::on(&mut request);
                    socket.answer(&self.config, client, answer.into_body())
                }
            });
        }
        Err(refusal(info, answer).await)
    }

    async fn ask(
        &self,
        address: SocketAddr,
        path: &str,
    ) -> Result<Response<hyper::body::Incoming>, Status> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::HOST, address.to_string())
            .body(transport::empty())
            .map_err(Status::internal)?;
        let tls = self.config.kubelet_tls.clone().map(dial::Secure::from);
        dial::send(&self.config, address, tls, request).await.map_err(|error| {
            let message = format!("Get \"https://{address}{path}\": {error}");
            Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message)
        })
    }

    pub(super) async fn stream(
        &self,
        info: &RequestInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let pod = self.pod(info)?;
        let query = request.uri().query().unwrap_or_default().to_owned();
        let path = stream_path(info, &pod, &query)?;
        let node = text(&pod, "/spec/nodeName");
        if node.is_empty() {
            let message = format!("pod {} does not have a host assigned", info.name);
            return Err(Status::bad_request(message));
        }
        let address = target::kubelet(&*self.objects, node)?;
        let tls = self.config.kubelet_tls.clone().map(dial::Secure::from);
        let answer = upgrade::tunnel(&self.config, address, tls, &path, request).await?;
        match answer {
            upgrade::Answer::Switched(response) => Ok(response),
            upgrade::Answer::Refused(response) => Err(refusal(info, response).await),
        }
    }

    fn pod(&self, info: &RequestInfo) -> Result<Arc<Value>, Status> {
        let pod = self.objects.get("pods", &info.namespace, &info.name);
        pod.ok_or_else(|| Status::not_found("pods", &info.name))
    }
}

// === Which container ===

/// The container that is meant; upstream's words where it is not clear.
fn container<'a>(pod: &'a Value, asked: &'a str) -> Result<&'a str, Status> {
    let name = text(pod, "/metadata/name");
    let names = |pointer: &str| -> Vec<&'a str> {
        items(pod, pointer).iter().map(|it| text(it, "/name")).collect()
    };
    let (own, init) = (names("/spec/containers"), names("/spec/initContainers"));
    if !asked.is_empty() {
        let ephemeral = names("/spec/ephemeralContainers");
        if [&own, &init, &ephemeral].iter().any(|list| list.contains(&asked)) {
            return Ok(asked);
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    match own.as_slice() {
        [only] => Ok(only),
        [] => {
            Err(Status::bad_request(format!("a container name must be specified for pod {name}")))
        }
        many => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

// === What the kubelet is asked ===

fn check_log_options(name: &str, query: &str) -> Result<(), Status> {
    let mut errors = Vec::new();
    for (option, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ] {
        let Some(given) = query_value(query, option) else { continue };
        match given.parse::<i64>() {
            Ok(number) if number >= least => {}
            Ok(number) => errors.push(FieldError::invalid(option, number, why)),
            Err(_) => {
                return Err(Status::bad_request(format!(
                    "strconv.ParseInt: parsing {given:?}: invalid syntax"
                )));
            }
        }
    }
    let has_both = ["sinceSeconds", "sinceTime"].iter().all(|it| query_value(query, it).is_some());
    if has_both {
        errors.push(FieldError::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("PodLogOptions", name, &errors)) }
}

fn log_query(query: &str) -> String {
    let given = LOG_OPTIONS.iter().filter_map(|option| {
        let value = query_value(query, option)?;
        let is_off = value == "false" || value.is_empty();
        (!is_off).then(|| format!("{option}={}", escape(&value)))
    });
    given.collect::<Vec<_>>().join("&")
}

fn stream_path(info: &RequestInfo, pod: &Value, query: &str) -> Result<String, Status> {
    let (namespace, name) = (&info.namespace, &info.name);
    if info.subresource == "portforward" {
        let ports: Vec<String> = all(query, "ports")
            .into_iter()
            .chain(all(query, "port"))
            .map(|port| format!("port={}", escape(&port)))
            .collect();
        let path = format!("/portForward/{namespace}/{name}");
        return Ok(if ports.is_empty() { path } else { format!("{path}?{}", ports.join("&")) });
    }
    let phase = text(pod, "/status/phase");
    if info.subresource == "exec" && matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let asked = query_value(query, "container").unwrap_or_default();
    let container = container(pod, &asked)?;
    let options = stream_query(query)?;
    let verb = &info.subresource;
    Ok(format!("/{verb}/{namespace}/{name}/{container}?{options}"))
}

fn stream_query(query: &str) -> Result<String, Status> {
    let mut pairs: Vec<String> =
        all(query, "command").iter().map(|it| format!("command={}", escape(it))).collect();
    let is_on =
        |option: &str| query_value(query, option).is_some_and(|it| it == "true" || it == "1");
    for (option, parameter) in
        [("stderr", "error"), ("stdin", "input"), ("stdout", "output"), ("tty", "tty")]
    {
        if is_on(option) {
            pairs.push(format!("{parameter}=1"));
        }
    }
    if !["stdin", "stdout", "stderr"].iter().any(|it| is_on(it)) {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(pairs.join("&"))
}

fn all(query: &str, key: &str) -> Vec<String> {
    query_pairs(query).filter(|(it, _)| it == key).map(|(_, value)| value).collect()
}

fn escape(value: &str) -> String {
    utf8_percent_encode(value, QUERY).to_string().replace("%20", "+")
}

// === What it answers ===

/// A kubelet's refusal as a Status. Upstream: `GenericHttpResponseChecker`.
async fn refusal(info: &RequestInfo, answer: Response<hyper::body::Incoming>) -> Status {
    let code = answer.status();
    let read = transport::collect(answer.into_body(), REFUSAL_LIMIT).await;
    let body = read.ok().flatten().unwrap_or_default();
    let said = String::from_utf8_lossy(&body).trim().to_owned();
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(said),
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(said),
        code => {
            let reason = match code {
                StatusCode::NOT_FOUND => "NotFound",
                StatusCode::FORBIDDEN => "Forbidden",
                StatusCode::UNAUTHORIZED => "Unauthorized",
                StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
                _ => "",
            };
            let message = format!("{} {:?}: the kubelet said: {said}", info.resource, info.name);
            Status::new(code, reason, message)
        }
    }
}

fn plain_text(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let value = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
