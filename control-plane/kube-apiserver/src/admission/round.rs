//! One request as those see it who are asked about it: webhooks and policies.
//!
//! Upstream: `CreateAdmissionObject` of k8s.io/apiserver/pkg/admission/plugin/webhook/request.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Attributes, Context, Operation};
use crate::{
    authz::text,
    convert,
    decode::{self, FieldValidation},
    defaults,
    managed_fields::entries,
    resources::{Catalog, Resource},
    server::Call,
    status::Status,
};

/// What does not change while all are asked about one request.
pub(super) struct Round<'a> {
    pub(super) context: &'a Context,
    pub(super) catalog: &'a Arc<Catalog>,
    pub(super) resource: &'a Arc<Resource>,
    pub(super) attributes: &'a Attributes<'a>,
    pub(super) is_dry_run: bool,
    pub(super) options: Value,
}

impl<'a> Round<'a> {
    pub(super) fn of(
        call: &'a Call,
        catalog: &'a Arc<Catalog>,
        attributes: &'a Attributes<'a>,
    ) -> Result<Self, Status> {
        let is_tried_deletion = attributes.operation == Operation::Delete
            && call.deletion["dryRun"].as_array().is_some_and(|it| !it.is_empty());
        Ok(Self {
            context: &call.server.admission,
            catalog,
            resource: &call.resource,
            attributes,
            is_dry_run: crate::verbs::write::is_dry_run(call) || is_tried_deletion,
            options: options(call, attributes.operation),
        })
    }

    pub(super) fn is_deletion(&self) -> bool {
        self.attributes.operation == Operation::Delete
    }

    /// An object in the version of `resource`.
    pub(super) fn shown(&self, object: &Value, resource: &Resource) -> Value {
        let mut object = object.clone();
        if !self.is_of_its_own_kind() {
            convert::from_storage(resource, &mut object);
        }
        object
    }

    /// What some subresources take is no object of the resource.
    fn is_of_its_own_kind(&self) -> bool {
        let info = &self.attributes.info;
        self.attributes.operation == Operation::Connect
            || matches!(info.subresource.as_str(), "binding" | "eviction" | "scale" | "token")
    }

    /// The object that someone made of `object`, which was shown in the version of `resource`: of the
    /// same type, with defaults, in the stored form.
    pub(super) fn taken(
        &self,
        resource: &Arc<Resource>,
        object: &Value,
        mut changed: Value,
        validation: FieldValidation,
    ) -> Result<Value, String> {
        if self.is_of_its_own_kind() {
            return Ok(changed);
        }
        if let Some(shape) = decode::shape(resource) {
            decode::typed(resource, &shape, &mut changed, validation)
                .map_err(|it| it.to_string())?;
        }
        convert::to_storage(resource, &mut changed);
        if resource.custom.is_some() {
            changed["apiVersion"] = object["apiVersion"].clone();
        }
        entries::keep_readable(object, &mut changed);
        defaults::apply(self.resource, &mut changed);
        Ok(changed)
    }

    /// The `request` of a review. Its objects are in the version of `resource`.
    pub(super) fn request(&self, resource: &Arc<Resource>, object: &Value) -> Value {
        let (info, user) = (&self.attributes.info, self.attributes.user);
        let is_deleted = self.is_deletion();
        let old = self.attributes.old.map_or(Value::Null, |it| self.shown(it, resource));
        let new = if is_deleted { Value::Null } else { self.shown(object, resource) };
        let shape = if is_deleted { &old } else { &new };
        let asked_kind = match Arc::ptr_eq(resource, self.resource) {
            true => kind(shape),
            false => kind(&self.shown(object, self.resource)),
        };
        let mut request = json!({
            "uid": entropy::uuid(),
            "kind": kind(shape),
            "resource": place(resource),
            "requestKind": asked_kind,
            "requestResource": place(self.resource),
            "name": match info.name.as_str() {
                "" => text(shape, "/metadata/name"),
                name => name,
            },
            "operation": self.attributes.operation.word(),
            "userInfo": user_info(user),
            "dryRun": self.is_dry_run,
            "options": self.options,
        });
        if resource.namespaced || resource.is("", "namespaces") {
            let name = if resource.namespaced { &info.namespace } else { &info.name };
            if !name.is_empty() {
                request["namespace"] = name.as_str().into();
            }
        }
        if !info.subresource.is_empty() {
            request["subResource"] = info.subresource.as_str().into();
            request["requestSubResource"] = info.subresource.as_str().into();
        }
        request["object"] = new;
        request["oldObject"] = old;
        request
    }
}

fn place(it: &Resource) -> Value {
    json!({"group": it.group, "version": it.version, "resource": it.plural})
}

fn kind(object: &Value) -> Value {
    let api_version = text(object, "/apiVersion");
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    json!({"group": group, "version": version, "kind": text(object, "/kind")})
}

fn user_info(user: &crate::request::UserInfo) -> Value {
    let mut info = json!({"username": user.username, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// `CreateOptions` and the like, as far as the request gave any.
fn options(call: &Call, operation: Operation) -> Value {
    let is_patch = call.info.verb == "patch";
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update if is_patch => "PatchOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"apiVersion": "meta.k8s.io/v1", "kind": kind});
    if operation == Operation::Delete {
        for (name, value) in call.deletion.as_object().into_iter().flatten() {
            options[name] = value.clone();
        }
        return options;
    }
    for parameter in ["fieldManager", "fieldValidation"] {
        if let Some(value) = call.parameter(parameter) {
            options[parameter] = value.into();
        }
    }
    if let Some(dry_run) = call.parameter("dryRun") {
        options["dryRun"] = json!([dry_run]);
    }
    options
}
