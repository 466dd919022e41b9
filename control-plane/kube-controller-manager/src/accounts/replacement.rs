//! A patch by one who may only replace.
//!
//! Our controllers patch what upstream's replace, and upstream's roles allow each what upstream's does. So
//! where an account may not `patch`, the object is read, changed as the patch says, and replaced: with the
//! resource version that was read, or the one that the patch names.

use http::{Method, Request, Response, Uri, header::CONTENT_TYPE, request::Parts};
use kube::client::Body;
use serde_json::{Map, Value, json};

const MERGE: &str = "application/merge-patch+json";
const SCALE: &str = "scale";

/// Which object a path is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The path of all objects of its kind in its namespace.
    collection: String,
    name: String,
    /// The resource and the subresource, in any namespace: what a role allows or does not.
    pub(super) kind: String,
    /// Of which the account may read what it may replace.
    pub(super) is_scale: bool,
}

impl Place {
    /// Where a merge patch goes.
    pub(super) fn of(request: &Request<Body>) -> Option<Self> {
        let is_merge = request.headers().get(CONTENT_TYPE).is_some_and(|it| it == MERGE);
        let is_patch = request.method() == Method::PATCH && is_merge;
        is_patch.then(|| Self::parse(request.uri().path())).flatten()
    }

    fn parse(path: &str) -> Option<Self> {
        let words: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        let (root, rest) = match words.as_slice() {
            ["api", _, ..] => words.split_at(2),
            ["apis", _, _, ..] => words.split_at(3),
            _ => return None,
        };
        let (within, resource, name, sub) = match rest {
            [resource, name] => (None, resource, name, ""),
            [resource, name, sub] => (None, resource, name, *sub),
            ["namespaces", namespace, resource, name] => (Some(*namespace), resource, name, ""),
            ["namespaces", namespace, resource, name, sub] => {
                (Some(*namespace), resource, name, *sub)
            }
            _ => return None,
        };
        let root = root.join("/");
        let collection = match within {
            None => format!("/{root}/{resource}"),
            Some(namespace) => format!("/{root}/namespaces/{namespace}/{resource}"),
        };
        let kind = format!("{root}/{resource}/{sub}");
        Some(Self { collection, name: (*name).to_owned(), kind, is_scale: sub == SCALE })
    }

    /// Lists the object alone: who watches a kind may do so.
    pub(super) fn listed(&self) -> Result<Request<Vec<u8>>, http::Error> {
        let query = format!("fieldSelector=metadata.name%3D{}", self.name);
        Request::get(format!("{}?{query}", self.collection)).body(Vec::new())
    }
}

/// The only object of a list, with its kind.
pub(super) fn only(list: &mut Value) -> Option<Value> {
    let kind = list["kind"].as_str()?.strip_suffix("List")?.to_owned();
    let mut object = list["items"].get_mut(0)?.take();
    object["kind"] = kind.into();
    object["apiVersion"] = list["apiVersion"].take();
    Some(object)
}

/// The answer about an object that is not there.
pub(super) fn not_found(place: &Place) -> Result<Response<Body>, http::Error> {
    let message = format!("{} \"{}\" not found", place.kind, place.name);
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
        "reason": "NotFound", "message": message });
    Response::builder().status(404).body(Body::from(status.to_string().into_bytes()))
}

/// The request that replaces the object by what the patch makes of it.
pub(super) fn replacing(head: &Parts, object: &Value) -> Result<Request<Body>, http::Error> {
    let uri: Uri = head.uri.clone();
    let mut request = Request::put(uri).body(Body::from(object.to_string().into_bytes()))?;
    *request.headers_mut() = head.headers.clone();
    let json = http::HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json);
    Ok(request)
}

/// RFC 7386.
pub(super) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(fields) = into else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.as_str()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_object_it_is_of() {
        for (path, collection, name, kind) in [
            ("/api/v1/nodes/n/status", "/api/v1/nodes", "n", "api/v1/nodes/status"),
            ("/api/v1/namespaces/ns", "/api/v1/namespaces", "ns", "api/v1/namespaces/"),
            (
                "/api/v1/namespaces/ns/status",
                "/api/v1/namespaces",
                "ns",
                "api/v1/namespaces/status",
            ),
            (
                "/apis/apps/v1/namespaces/ns/deployments/web",
                "/apis/apps/v1/namespaces/ns/deployments",
                "web",
                "apis/apps/v1/deployments/",
            ),
            (
                "/apis/apps/v1/namespaces/ns/deployments/web/scale",
                "/apis/apps/v1/namespaces/ns/deployments",
                "web",
                "apis/apps/v1/deployments/scale",
            ),
        ] {
            let place = Place::parse(path).unwrap();
            let found = (place.collection.as_str(), place.name.as_str(), place.kind.as_str());
            assert_eq!(found, (collection, name, kind), "{path}");
        }
        for path in ["/metrics", "/api/v1/pods", "/apis/apps/v1/namespaces/ns/deployments/a/b/c"] {
            assert_eq!(Place::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_merge_sets_adds_and_takes_away() {
        let mut object = json!({ "a": { "b": 1, "c": [1] }, "d": "x" });
        merge(&mut object, &json!({ "a": { "b": null, "c": [2], "e": { "f": null } }, "d": {} }));
        assert_eq!(object, json!({ "a": { "c": [2], "e": {} }, "d": {} }));
    }

    #[test]
    fn the_only_object_of_a_list_gets_its_kind() {
        let mut list =
            json!({ "kind": "JobList", "apiVersion": "batch/v1", "items": [{ "spec": {} }] });
        let job = json!({ "kind": "Job", "apiVersion": "batch/v1", "spec": {} });
        assert_eq!(only(&mut list), Some(job));
        assert_eq!(only(&mut json!({ "kind": "JobList", "items": [] })), None);
    }
}
