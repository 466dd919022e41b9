//! What a served version of a CustomResourceDefinition adds to a [`Resource`](super::Resource).

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::Resource;
use crate::{
    convert::custom::Webhook,
    schema::{self, Object, structural::Node},
    validation::rules::Rules,
};

/// The custom part of a custom resource.
#[derive(Debug)]
pub(crate) struct Custom {
    /// The structural schema, parsed.
    pub(crate) shape: Arc<Object>,
    /// The schema as given, for OpenAPI.
    pub(crate) schema: Value,
    node: OnceLock<Node>,
    rules: OnceLock<Rules>,
    /// `additionalPrinterColumns`.
    pub(crate) columns: Vec<Value>,
    /// `subresources.scale`, or null.
    pub(crate) scale: Value,
    /// Paths of `selectableFields`, without their first dot.
    pub(crate) selectable: Arc<[String]>,
    /// `names.listKind`
    pub(crate) list_kind: String,
    /// The definition is on its way out: nothing new is taken.
    pub(crate) is_ending: bool,
    /// `apiVersion` of what is stored.
    pub(crate) stored: String,
    /// Who converts between versions; `None`: only their name differs.
    pub(crate) webhook: Option<Arc<Webhook>>,
    /// The warning that goes with each answer of a deprecated version.
    pub(crate) deprecated: Option<String>,
}

impl Custom {
    /// The schema for pruning, defaults and checks. Read when it is first asked for: most
    /// definitions are stored long before anybody uses them.
    pub(crate) fn node(&self) -> &Node {
        self.node.get_or_init(|| Node::of(&self.schema))
    }

    /// The rules of `x-kubernetes-validations`, compiled at their first use.
    pub(crate) fn rules(&self) -> &Rules {
        self.rules.get_or_init(|| Rules::of(&self.schema))
    }
}

/// The served resources of one stored definition.
pub(crate) fn resources(definition: &Value) -> Vec<Arc<Resource>> {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let served = versions.iter().filter(|it| it["served"] == true);
    let group = text(&spec["group"]);
    let stored = versions.iter().find(|it| it["storage"] == true);
    let stored = stored.map_or_else(String::new, |it| format!("{group}/{}", text(&it["name"])));
    let webhook = Webhook::of(&spec["conversion"]).map(Arc::new);
    let is_ending = definition["metadata"]["deletionTimestamp"].is_string();
    let made = Made { stored, webhook, is_ending };
    let all = served.map(|it| Arc::new(resource(spec, it, &made)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|it| std::cmp::Reverse(priority(&it.version)));
    all
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What discovery prefers: general availability before beta before alpha, then the higher number;
/// names of other forms come last.
fn priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let other = (0, 0, 0, std::cmp::Reverse(version.to_owned()));
    let Some(rest) = version.strip_prefix('v') else { return other };
    let digits = rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len();
    let Ok(major) = rest[..digits].parse() else { return other };
    let rest = &rest[digits..];
    let (rank, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        _ if rest.is_empty() => (3, Some(0)),
        (Some(minor), _) => (2, minor.parse().ok()),
        (_, Some(minor)) => (1, minor.parse().ok()),
        _ => return other,
    };
    minor.map_or(other, |it| (rank, major, it, std::cmp::Reverse(String::new())))
}

/// What all versions of a definition have.
struct Made {
    stored: String,
    webhook: Option<Arc<Webhook>>,
    is_ending: bool,
}

fn resource(spec: &Value, version: &Value, made: &Made) -> Resource {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let names = &spec["names"];
    let (group, name) = (text(&spec["group"]), text(&version["name"]));
    let kind = text(&names["kind"]);
    let singular = names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned);
    let schema = version["schema"]["openAPIV3Schema"].clone();
    let subresources = version["subresources"].as_object();
    let subresources = subresources.map(|it| it.keys().cloned().collect()).unwrap_or_default();
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    let selectable =
        selectable.map(|it| text(&it["jsonPath"]).trim_start_matches('.').to_owned()).collect();
    let deprecated = (version["deprecated"] == true).then(|| {
        let told = version["deprecationWarning"].as_str().map(str::to_owned);
        told.unwrap_or_else(|| format!("{group}/{name} {kind} is deprecated"))
    });
    Resource {
        group,
        version: name,
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
            node: OnceLock::new(),
            rules: OnceLock::new(),
            schema,
            selectable,
            list_kind: text(&names["listKind"]),
            is_ending: made.is_ending,
            stored: made.stored.clone(),
            webhook: made.webhook.clone(),
            deprecated,
        })),
        kind,
        ..Resource::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_preferred_as_kubernetes_sorts_them() {
        let mut all =
            ["foo1", "v1alpha1", "v10", "v11alpha2", "v2", "v11beta2", "v3beta1", "foo10"];
        all.sort_by_key(|it| std::cmp::Reverse(priority(it)));
        let wanted = ["v10", "v2", "v11beta2", "v3beta1", "v11alpha2", "v1alpha1", "foo1", "foo10"];
        assert_eq!(all, wanted);
    }
}
