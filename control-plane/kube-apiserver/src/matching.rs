//! How rules name what requests are about, wherever rules are written: roles, flow schemas, audit
//! policies, admission.
//!
//! They differ in where `*` may stand for a part of `RESOURCE/SUBRESOURCE`; all else is the same.

use crate::request::RequestInfo;

/// Whether a list has the item, or stands for all by `*`.
pub(crate) fn covers(list: &[String], item: &str) -> bool {
    list.iter().any(|it| it == "*" || it == item)
}

/// Whether a list has the item; an empty one has everything.
pub(crate) fn is_in(list: &[String], item: &str) -> bool {
    list.is_empty() || list.iter().any(|it| it == item)
}

/// A path as it is, or all that begin with what stands before a `*`.
pub(crate) fn path(rule: &str, path: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => rule == path,
    }
}

/// Where `*` may stand for one part of `RESOURCE/SUBRESOURCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stars {
    /// FlowSchemas.
    Nowhere,
    /// Roles: `*/scale`.
    Resource,
    /// Audit policies: `*/scale` and `pods/*`.
    Both,
}

/// `pods`, `pods/status`, or `*` for all. Without a slash no subresource is meant.
pub(crate) fn resource(rule: &str, info: &RequestInfo, stars: Stars) -> bool {
    let (resource, below) = (info.resource.as_str(), info.subresource.as_str());
    match rule.split_once('/') {
        None => rule == "*" || rule == resource && below.is_empty(),
        Some(("*", name)) if stars != Stars::Nowhere => !below.is_empty() && name == below,
        Some((name, "*")) if stars == Stars::Both => name == resource,
        Some((name, part)) => name == resource && !below.is_empty() && part == below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_a_part_only_where_it_may() {
        let info = |path: &str| RequestInfo::parse(&http::Method::GET, path, "");
        let (pod, status) =
            (info("/api/v1/namespaces/n/pods/p"), info("/api/v1/namespaces/n/pods/p/status"));
        for (rule, stars, of_pod, of_status) in [
            ("*", Stars::Nowhere, true, true),
            ("pods", Stars::Both, true, false),
            ("pods/status", Stars::Nowhere, false, true),
            ("*/status", Stars::Nowhere, false, false),
            ("*/status", Stars::Resource, false, true),
            ("pods/*", Stars::Resource, false, false),
            ("pods/*", Stars::Both, true, true),
        ] {
            let found = (resource(rule, &pod, stars), resource(rule, &status, stars));
            assert_eq!(found, (of_pod, of_status), "{rule} {stars:?}");
        }
    }
}
