//! What a request asks for, and who asks: the values that authentication, authorization,
//! admission and the handlers share.
//!
//! Upstream: `RequestInfo` and `user.Info` of k8s.io/apiserver.

use std::collections::BTreeMap;

/// The special verbs of old clients that stand before the resource in the path.
const LEGACY_WATCH: &str = "watch";

/// Resources below a Namespace that are the Namespace's own subresources.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user of these groups and of `system:authenticated`.
    pub fn new(username: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        groups.push("system:authenticated".into());
        Self { username: username.into(), groups, ..Self::default() }
    }

    /// A member of `system:masters`, whom nothing is denied.
    pub fn master(username: &str) -> Self {
        Self::new(username, &["system:masters"])
    }

    pub fn anonymous() -> Self {
        Self {
            username: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|it| it == group)
    }
}

/// The parts of a request's line, as authorization sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the
    /// lower-case HTTP method where the path names no resource.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    /// Empty for cluster-scoped resources and for requests over all namespaces.
    pub namespace: String,
    /// Empty for collections. For `create` it is the name in the path, if any.
    pub name: String,
    /// What follows a subresource in the path (`proxy/a/b`: `a/b`).
    pub rest: String,
    /// The whole path, as received.
    pub path: String,
    pub is_resource: bool,
    /// `?fieldSelector=`, decoded: the Node authorizer lets a node list its own pods only.
    pub field_selector: String,
    /// The name is from the path, not from a selector.
    pub is_named: bool,
}

impl RequestInfo {
    /// Takes a request line apart. Never fails: what is not a resource is a plain path.
    pub fn parse(method: &http::Method, path: &str, query: &str) -> Self {
        let segments: Vec<String> =
            path.trim_matches('/').split('/').filter(|it| !it.is_empty()).map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let plain =
            || Self { verb: method.as_str().to_lowercase(), path: path.into(), ..Self::default() };
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return plain(),
        };
        let (is_legacy_watch, rest) = match rest {
            [LEGACY_WATCH, rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        let mut info = Self {
            group: group.into(),
            version: version.into(),
            path: path.into(),
            is_resource: true,
            field_selector: query_value(query, "fieldSelector").unwrap_or_default(),
            ..Self::default()
        };
        info.fill_resource(rest);
        info.fill_verb(method, query, is_legacy_watch);
        info
    }

    fn fill_resource(&mut self, rest: &[&str]) {
        let rest = match rest {
            ["namespaces", namespace, below, ..]
                if self.group.is_empty() && NAMESPACE_SUBRESOURCES.contains(below) =>
            {
                self.namespace = (*namespace).into();
                rest
            }
            ["namespaces", namespace, below @ ..] if !below.is_empty() => {
                self.namespace = (*namespace).into();
                below
            }
            ["namespaces", namespace] if self.group.is_empty() => {
                self.namespace = (*namespace).into();
                rest
            }
            rest => rest,
        };
        if let [resource, after @ ..] = rest {
            self.resource = (*resource).into();
            self.name = after.first().copied().unwrap_or_default().into();
            self.subresource = after.get(1).copied().unwrap_or_default().into();
            self.rest = after.get(2..).unwrap_or_default().join("/");
        }
    }

    fn fill_verb(&mut self, method: &http::Method, query: &str, is_legacy_watch: bool) {
        // With a name in the path `?watch=` changes nothing: one object is got.
        let wants_watch = self.name.is_empty()
            && query_value(query, "watch").is_some_and(|it| it != "false" && it != "0");
        let verb = match *method {
            http::Method::POST => "create",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            http::Method::DELETE if self.name.is_empty() => "deletecollection",
            http::Method::DELETE => "delete",
            http::Method::GET | http::Method::HEAD
                if (wants_watch || is_legacy_watch) && self.subresource.is_empty() =>
            {
                "watch"
            }
            http::Method::GET | http::Method::HEAD if self.name.is_empty() => "list",
            http::Method::GET | http::Method::HEAD => "get",
            // What no resource has.
            _ => "",
        };
        self.is_named = !self.name.is_empty();
        self.verb = verb.into();
        if matches!(verb, "list" | "watch" | "deletecollection") && self.name.is_empty() {
            // A list of one name is authorized by that name.
            self.name = named_by_selector(query).unwrap_or_default();
        }
    }

    /// `resource.group`, as messages name it.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// The first value of `key` in a query string, decoded.
pub fn query_value(query: &str, key: &str) -> Option<String> {
    query_pairs(query).find(|(it, _)| it == key).map(|(_, value)| value)
}

/// All pairs of a query string, decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|it| !it.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
    })
}

fn decode(raw: &str) -> String {
    percent_encoding::percent_decode_str(raw).decode_utf8_lossy().into_owned()
}

fn named_by_selector(query: &str) -> Option<String> {
    let selector = query_value(query, "fieldSelector")?;
    selector.split(',').find_map(|term| {
        let (field, name) = term.split_once('=')?;
        (field == "metadata.name").then(|| name.trim_start_matches('=').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, target: &str) -> RequestInfo {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        RequestInfo::parse(&method.parse().unwrap(), path, query)
    }

    #[test]
    fn a_path_becomes_the_attributes_that_upstream_sees() {
        let cases = [
            ("GET", "/api/v1/namespaces/ns/pods", "list", "", "pods", "", "ns", ""),
            ("GET", "/api/v1/pods?watch=true", "watch", "", "pods", "", "", ""),
            ("GET", "/api/v1/watch/namespaces/ns/pods", "watch", "", "pods", "", "ns", ""),
            ("GET", "/api/v1/namespaces", "list", "", "namespaces", "", "", ""),
            ("GET", "/api/v1/namespaces/ns", "get", "", "namespaces", "", "ns", "ns"),
            (
                "PUT",
                "/api/v1/namespaces/ns/status",
                "update",
                "",
                "namespaces",
                "status",
                "ns",
                "ns",
            ),
            (
                "PUT",
                "/api/v1/namespaces/ns/finalize",
                "update",
                "",
                "namespaces",
                "finalize",
                "ns",
                "ns",
            ),
            ("POST", "/api/v1/namespaces/ns/pods/p/exec", "create", "", "pods", "exec", "ns", "p"),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/ns/deployments",
                "deletecollection",
                "apps",
                "deployments",
                "",
                "ns",
                "",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/ns/deployments/d",
                "patch",
                "apps",
                "deployments",
                "",
                "ns",
                "d",
            ),
            ("GET", "/api/v1/nodes/n/proxy/stats/summary", "get", "", "nodes", "proxy", "", "n"),
        ];
        for (method, target, verb, group, resource, subresource, namespace, name) in cases {
            let info = parse(method, target);
            assert!(info.is_resource, "{target}");
            let found = [
                &info.verb,
                &info.group,
                &info.resource,
                &info.subresource,
                &info.namespace,
                &info.name,
            ];
            assert_eq!(found, [verb, group, resource, subresource, namespace, name], "{target}");
        }
        assert_eq!(parse("GET", "/api/v1/nodes/n/proxy/stats/summary").rest, "stats/summary");
    }

    #[test]
    fn a_method_that_resources_do_not_have_is_no_verb() {
        assert_eq!(parse("OPTIONS", "/api/v1/pods?watch=1").verb, "");
        assert_eq!(parse("HEAD", "/api/v1/pods").verb, "list");
    }

    #[test]
    fn a_path_without_a_resource_is_plain() {
        for path in ["/api", "/api/v1", "/apis/apps/v1", "/healthz", "/"] {
            let info = parse("GET", path);
            assert!(!info.is_resource, "{path}");
            assert_eq!((info.verb.as_str(), info.path.as_str()), ("get", path));
        }
    }

    #[test]
    fn a_list_of_one_name_carries_the_name() {
        let info = parse("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1&watch=1");
        assert_eq!((info.verb.as_str(), info.name.as_str()), ("watch", "n1"));
        assert!(!info.is_named);
    }

    #[test]
    fn a_name_in_the_path_is_got_whatever_watch_says_but_below_watch() {
        let info = parse("GET", "/api/v1/namespaces/x/secrets/foo?watch=true");
        assert_eq!((info.verb.as_str(), info.name.as_str()), ("get", "foo"));
        let info = parse("GET", "/api/v1/watch/namespaces/x/secrets/foo");
        assert_eq!((info.verb.as_str(), info.name.as_str()), ("watch", "foo"));
        assert!(info.is_named);
    }
}
