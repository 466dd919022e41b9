//! Streams and proxies (`CONNECT`): webhooks and policies are asked before one is opened. What they
//! see is the request's options as an object.
//!
//! Upstream: `ConnectResource` of k8s.io/apiserver/pkg/endpoints/handlers, and the conversion of
//! queries in pkg/apis/core/v1.

use serde_json::{Map, Value, json};

use crate::request::{RequestInfo, query_pairs};

/// Texts, flags and numbers of a kind's options.
struct Kind {
    name: &'static str,
    texts: &'static [&'static str],
    flags: &'static [&'static str],
    /// Texts or numbers that may be there several times.
    lists: &'static [&'static str],
}

const STREAMS: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

fn kind(info: &RequestInfo) -> Option<Kind> {
    let of = |name, texts, flags, lists| Some(Kind { name, texts, flags, lists });
    match (info.resource.as_str(), info.subresource.as_str()) {
        ("pods", "exec") => of("PodExecOptions", &["container"], &STREAMS, &["command"]),
        ("pods", "attach") => of("PodAttachOptions", &["container"], &STREAMS, &[]),
        ("pods", "portforward") => of("PodPortForwardOptions", &[], &[], &["ports"]),
        ("pods", "proxy") => of("PodProxyOptions", &["path"], &[], &[]),
        ("nodes", "proxy") => of("NodeProxyOptions", &["path"], &[], &[]),
        ("services", "proxy") => of("ServiceProxyOptions", &["path"], &[], &[]),
        _ => None,
    }
}

/// The options of a request that opens a stream; `None`: it opens none.
pub(crate) fn options(info: &RequestInfo, query: &str) -> Option<Value> {
    let kind = kind(info)?;
    let mut fields = Map::new();
    let pairs: Vec<(String, String)> = query_pairs(query).collect();
    let given = |name: &str| {
        let all = pairs.iter().filter(move |(it, _)| it == name).map(|(_, value)| value.as_str());
        all.collect::<Vec<_>>()
    };
    for name in kind.texts {
        let value = if *name == "path" { path(info) } else { first(&given(name)) };
        if !value.is_empty() {
            fields.insert((*name).to_owned(), value.into());
        }
    }
    for name in kind.flags {
        if is_on(&given(name)) {
            fields.insert((*name).to_owned(), true.into());
        }
    }
    for name in kind.lists {
        let all = given(name);
        let list: Vec<Value> = match *name {
            "ports" => all.iter().flat_map(|it| it.split(',')).filter_map(port).collect(),
            _ => all.into_iter().map(Value::from).collect(),
        };
        if *name == "command" || !list.is_empty() {
            fields.insert((*name).to_owned(), list.into());
        }
    }
    let mut options = json!({"kind": kind.name, "apiVersion": "v1"});
    options.as_object_mut()?.append(&mut fields);
    Some(options)
}

fn first(all: &[&str]) -> String {
    all.first().copied().unwrap_or_default().to_owned()
}

/// As Go reads a flag of a query: `?tty` is one that is set.
fn is_on(all: &[&str]) -> bool {
    all.first().is_some_and(|it| !matches!(it.to_lowercase().as_str(), "false" | "0"))
}

fn port(text: &str) -> Option<Value> {
    text.parse::<i32>().ok().map(Value::from)
}

/// What follows `proxy` in the path, with its slashes.
fn path(info: &RequestInfo) -> String {
    let rest = info.rest.trim_start_matches('/');
    let ends = info.path.ends_with('/');
    match (rest, ends) {
        ("", true) => "/".to_owned(),
        ("", false) => String::new(),
        (rest, true) if !rest.ends_with('/') => format!("/{rest}/"),
        (rest, _) => format!("/{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, query: &str) -> Option<Value> {
        options(&RequestInfo::parse(&http::Method::POST, path, query), query)
    }

    #[test]
    fn the_options_of_a_stream_are_those_of_its_query() {
        let pod = "/api/v1/namespaces/n/pods/p";
        let core = |more: Value| {
            let mut all = json!({"apiVersion": "v1"});
            more.as_object().unwrap().iter().for_each(|(name, it)| all[name] = it.clone());
            Some(all)
        };
        assert_eq!(
            of(
                &format!("{pod}/exec"),
                "command=sh&command=-c&container=c&stdin=true&tty=false&stdout=1"
            ),
            core(json!({"kind": "PodExecOptions", "container": "c", "stdin": true, "stdout": true,
                "command": ["sh", "-c"]}))
        );
        assert_eq!(
            of(&format!("{pod}/attach"), "stdin&stderr=0"),
            core(json!({"kind": "PodAttachOptions", "stdin": true}))
        );
        assert_eq!(
            of(&format!("{pod}/portforward"), "ports=80,81&ports=x"),
            core(json!({"kind": "PodPortForwardOptions", "ports": [80, 81]}))
        );
        assert_eq!(
            of(&format!("{pod}/proxy/a/b/"), ""),
            core(json!({"kind": "PodProxyOptions", "path": "/a/b/"}))
        );
        assert_eq!(of("/api/v1/nodes/x/proxy", ""), core(json!({"kind": "NodeProxyOptions"})));
        assert_eq!(of(&format!("{pod}/log"), ""), None, "that is a reading");
    }
}
