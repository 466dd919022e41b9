//! What selectors look at: an object's labels and its selectable fields.
//!
//! They are derived once per stored record and kept with it.
//!
//! Upstream: the `SelectableFields` functions of each type in pkg/registry.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::{
    convert::custom,
    resources::Resource,
    selectors::{Fields, Labels},
    status::Status,
};

/// Labels and selectable fields of one object.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    labels: BTreeMap<String, String>,
    fields: Vec<(&'static str, String)>,
}

/// Selectable fields beside `metadata.name` and `metadata.namespace`.
fn selectable(group: &str, plural: &str) -> &'static [&'static str] {
    match (group, plural) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles") => {
            &["spec.signerName"]
        }
        ("resource.k8s.io", "resourceslices") => &["spec.nodeName", "spec.driver"],
        _ => &[],
    }
}

/// The stored field that a selectable field stands for.
fn pointer(field: &str) -> String {
    let field = match field {
        "status.successful" => "status.succeeded",
        "reportingController" => "reportingComponent",
        "source" => "source.component",
        other => other,
    };
    // Events of the newer group are stored as the core group's.
    format!("/{}", field.replace("regarding.", "involvedObject.").replace('.', "/"))
}

impl Attributes {
    pub(crate) fn of(group: &str, plural: &str, bytes: &[u8]) -> Self {
        Self::of_object(group, plural, &serde_json::from_slice(bytes).unwrap_or_default())
    }

    fn of_object(group: &str, plural: &str, object: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.clone(), text(value))).collect();
        let mut fields: Vec<(&'static str, String)> = ["metadata.name", "metadata.namespace"]
            .iter()
            .chain(selectable(group, plural))
            .map(|field| (*field, object.pointer(&pointer(field)).map_or_else(String::new, text)))
            .collect();
        for (field, value) in &mut fields {
            // Events of the newer group have no source.
            if *field == "source" && value.is_empty() {
                *value = text(&object["reportingComponent"]);
            }
            let is_number = matches!(*field, "status.replicas" | "status.successful");
            let is_flag = matches!(*field, "spec.unschedulable" | "spec.hostNetwork");
            if value.is_empty() && (is_number || is_flag) {
                *value = if is_number { "0" } else { "false" }.into();
            }
        }
        Self { labels, fields }
    }

    fn field(&self, name: &str) -> &str {
        let name = match name {
            "reportingController" => "reportingComponent",
            other => other,
        };
        let renamed = name.replace("regarding.", "involvedObject.");
        let found = self.fields.iter().find(|(it, _)| *it == renamed);
        found.map_or("", |(_, value)| value)
    }
}

/// A selectable field of a custom resource, as text.
fn own_field(object: &Value, path: &str) -> String {
    match object.pointer(&format!("/{}", path.replace('.', "/"))) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A request's selectors, checked for its resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    group: String,
    plural: String,
    pub(crate) labels: Labels,
    pub(crate) fields: Fields,
    /// `selectableFields` of a custom resource.
    selectable: Arc<[String]>,
    /// It is the object as the version shows it that is selected, not the one that is stored.
    is_of_shown: bool,
}

impl Selection {
    pub(crate) fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Status> {
        let labels = Labels::parse(labels.unwrap_or_default()).map_err(Status::bad_request)?;
        let fields = Fields::parse(fields.unwrap_or_default()).map_err(Status::bad_request)?;
        let known = selectable(&resource.group, &resource.plural);
        let own = resource.custom.as_ref().map(|it| it.selectable.clone()).unwrap_or_default();
        let unknown = fields.names().find(|it| {
            !matches!(*it, "metadata.name" | "metadata.namespace")
                && !known.contains(it)
                && !own.iter().any(|own| own == it)
        });
        if let Some(field) = unknown {
            // In the words of kinds that have fields of their own, or of all others.
            let why = if known.is_empty() && resource.custom.is_none() {
                format!(
                    "{field:?} is not a known field selector: only \"metadata.name\", \
                     \"metadata.namespace\""
                )
            } else {
                format!("field label not supported: {field}")
            };
            return Err(Status::bad_request(why));
        }
        let is_converted =
            custom::needs_webhook(resource) && !(labels.is_empty() && fields.is_empty());
        let names_own = fields.names().any(|it| own.iter().any(|own| own == it));
        let (group, plural) = resource.storage();
        Ok(Self {
            group: group.into(),
            plural: plural.into(),
            labels,
            fields,
            selectable: own,
            is_of_shown: is_converted || names_own,
        })
    }

    /// Whether only the object as it is shown can be selected, by [`Self::matches_shown`].
    pub(crate) fn is_of_shown(&self) -> bool {
        self.is_of_shown
    }

    /// Of a custom resource in the version that was asked for, with its defaults.
    pub(crate) fn matches_shown(&self, object: &Value) -> bool {
        let attributes = Attributes::of_object(&self.group, &self.plural, object);
        let own = self.selectable.iter().map(|path| (path.as_str(), own_field(object, path)));
        let own: BTreeMap<&str, String> = own.collect();
        self.labels.matches(&attributes.labels)
            && self.fields.matches(|field| {
                own.get(field).map_or_else(|| attributes.field(field), String::as_str)
            })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Of an object that is not stored.
    pub(crate) fn matches_bytes(&self, bytes: &[u8]) -> bool {
        let attributes = Attributes::of(&self.group, &self.plural, bytes);
        self.labels.matches(&attributes.labels)
            && self.fields.matches(|field| attributes.field(field))
    }

    pub(crate) fn matches(&self, record: &mvcc::Record) -> bool {
        if self.is_empty() {
            return true;
        }
        let derive = |bytes: &[u8]| Attributes::of(&self.group, &self.plural, bytes);
        let Some(attributes) = record.memo(derive) else { return false };
        self.labels.matches(&attributes.labels)
            && self.fields.matches(|field| attributes.field(field))
    }
}
