//! What expressions about a request may name: `object`, `oldObject`, `request`, `params`,
//! `namespaceObject` and `authorizer`, with their types.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/cel.

mod authority;

use std::sync::Arc;

use serde_json::Value;

pub(super) use self::authority::Authority;
use super::round::Round;
use crate::{
    cel::{self, Budget, Environment, Error, Record, Scope, Type, value},
    resources::Resource,
};

/// Which names there are beside `object`, `oldObject` and `request`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    pub(crate) has_params: bool,
    pub(crate) has_authorizer: bool,
    pub(crate) has_namespace: bool,
}

/// The environment of expressions about a request. `object` has the type of `object`.
pub(crate) fn environment(names: Names, object: Type) -> Environment {
    let mut it = Environment::default()
        .with("object", object.clone())
        .with("oldObject", object)
        .with("request", request_type());
    if names.has_params {
        it = it.with("params", Type::Dyn);
    }
    if names.has_authorizer {
        it = it.with("authorizer", Type::Named("kubernetes.authorization.Authorizer"));
    }
    if names.has_namespace {
        it = it.with("namespaceObject", namespace_type());
    }
    it
}

fn record<const N: usize>(name: &str, fields: [(&str, Type); N]) -> Type {
    Record::of(name, fields.map(|(name, of)| (name.to_owned(), of)))
}

fn request_type() -> Type {
    use Type::{Bool, Dyn, String};
    let kind = record(
        "kubernetes.GroupVersionKind",
        [("group", String), ("version", String), ("kind", String)],
    );
    let resource = record(
        "kubernetes.GroupVersionResource",
        [("group", String), ("version", String), ("resource", String)],
    );
    let user = record(
        "kubernetes.UserInfo",
        [
            ("username", String),
            ("uid", String),
            ("groups", Type::list(String)),
            ("extra", Type::map(Type::list(String))),
        ],
    );
    record(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", String),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", String),
            ("name", String),
            ("namespace", String),
            ("operation", String),
            ("userInfo", user),
            ("dryRun", Bool),
            ("options", Dyn),
        ],
    )
}

fn namespace_type() -> Type {
    use Type::{Int, String};
    let texts = || Type::map(String);
    let metadata = record(
        "kubernetes.NamespaceMetadata",
        [
            ("name", String),
            ("generateName", String),
            ("namespace", String),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", String),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Int),
            ("resourceVersion", String),
            ("finalizers", Type::list(String)),
        ],
    );
    let spec = record("kubernetes.NamespaceSpec", [("finalizers", Type::list(String))]);
    let status = record("kubernetes.NamespaceStatus", [("phase", String)]);
    record("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
}

/// What the names stand for. Cheap to clone.
#[derive(Clone)]
pub(super) struct Facts {
    object: cel::Value,
    old: cel::Value,
    request: cel::Value,
    pub(super) params: Option<cel::Value>,
    namespace: cel::Value,
    authorizer: cel::Value,
}

impl Facts {
    /// Of a request about an object in the version of `resource`.
    pub(super) fn of(
        round: &Round<'_>,
        resource: &Arc<Resource>,
        object: &Value,
        authority: &Arc<Authority>,
    ) -> Self {
        let mut request = round.request(resource, object);
        let mut taken = |field: &str| value::from_json(&request[field].take());
        let (object, old) = (taken("object"), taken("oldObject"));
        if let Some(fields) = request.as_object_mut() {
            fields.remove("object");
            fields.remove("oldObject");
        }
        Self {
            object,
            old,
            request: value::from_json(&request),
            params: None,
            namespace: namespace(round),
            authorizer: authority::value(authority),
        }
    }
}

impl Scope for Facts {
    fn get(&self, name: &str, _: &mut Budget) -> Option<Result<cel::Value, Error>> {
        Some(Ok(match name {
            "object" => self.object.clone(),
            "oldObject" => self.old.clone(),
            "request" => self.request.clone(),
            "params" => self.params.clone()?,
            "namespaceObject" => self.namespace.clone(),
            "authorizer" => self.authorizer.clone(),
            _ => return None,
        }))
    }
}

/// The namespace of a namespaced object; null otherwise.
fn namespace(round: &Round<'_>) -> cel::Value {
    let name = &round.attributes.info.namespace;
    if name.is_empty() || !round.resource.namespaced {
        return cel::Value::Null;
    }
    let Some(found) = round.context.objects.get("namespaces", "", name) else {
        return cel::Value::Null;
    };
    let mut times = Vec::new();
    let mut metadata = found["metadata"].clone();
    if let Some(fields) = metadata.as_object_mut() {
        fields.remove("managedFields");
        if let Some(uid) = fields.remove("uid") {
            fields.insert("UID".to_owned(), uid);
        }
        for name in ["creationTimestamp", "deletionTimestamp"] {
            let text = fields.remove(name);
            let time = text.as_ref().and_then(Value::as_str).and_then(value::time);
            times.extend(time.map(|it| (name.to_owned(), it)));
        }
    }
    let plain = metadata.as_object().into_iter().flatten();
    let plain = plain.map(|(name, it)| (name.clone(), value::from_json(it)));
    let metadata = value::map(plain.chain(times));
    let parts = ["spec", "status"].map(|it| (it.to_owned(), value::from_json(&found[it])));
    value::map(parts.into_iter().chain([("metadata".to_owned(), metadata)]))
}
