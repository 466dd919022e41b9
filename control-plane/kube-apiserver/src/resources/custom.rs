//! What a served version of a CustomResourceDefinition adds to a [`Resource`](super::Resource).

use std::sync::Arc;

use serde_json::Value;

use super::Resource;
use crate::schema::{self, Object};

/// The custom part of a custom resource.
#[derive(Debug)]
pub(crate) struct Custom {
    /// The structural schema, parsed.
    pub(crate) shape: Arc<Object>,
    /// The schema as given, for OpenAPI and validation.
    pub(crate) schema: Value,
    /// `additionalPrinterColumns`.
    pub(crate) columns: Vec<Value>,
    /// `subresources.scale`, or null.
    pub(crate) scale: Value,
}

/// The served resources of one stored definition.
pub(crate) fn resources(definition: &Value) -> Vec<Arc<Resource>> {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let served = versions.iter().filter(|it| it["served"] == true);
    served.map(|version| Arc::new(resource(spec, version))).collect()
}

fn resource(spec: &Value, version: &Value) -> Resource {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let names = &spec["names"];
    let kind = text(&names["kind"]);
    let singular = names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned);
    let schema = version["schema"]["openAPIV3Schema"].clone();
    let subresources = version["subresources"].as_object();
    let subresources = subresources.map(|it| it.keys().cloned().collect()).unwrap_or_default();
    Resource {
        group: text(&spec["group"]),
        version: text(&version["name"]),
        plural: text(&names["plural"]),
        singular,
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        subresources,
        has_generation: true,
        custom: Some(Arc::new(Custom {
            shape: schema::custom::root(&kind, &schema),
            columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
            scale: version["subresources"]["scale"].clone(),
            schema,
        })),
        kind,
        ..Resource::default()
    }
}
