//! The arguments of the built-in plug-ins, with upstream's names and defaults.
//!
//! Upstream: `staging/src/k8s.io/kube-scheduler/config/v1/types_pluginargs.go`.

use component_config::{duration::SignedGoDuration as GoDuration, unknown_fields};
use k8s_openapi::api::core::v1::NodeAffinity;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{API_VERSION, ProfileConfig};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultPreemptionArgs {
    pub min_candidate_nodes_percentage: i32,
    pub min_candidate_nodes_absolute: i32,
}

impl Default for DefaultPreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterPodAffinityArgs {
    pub hard_pod_affinity_weight: i32,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesFitArgs {
    pub ignored_resources: Vec<String>,
    pub ignored_resource_groups: Vec<String>,
    pub scoring_strategy: ScoringStrategy,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScoringStrategy {
    #[serde(rename = "type")]
    pub kind: String,
    pub resources: Vec<ResourceSpec>,
    pub requested_to_capacity_ratio: Option<RequestedToCapacityRatio>,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        Self {
            kind: "LeastAllocated".to_owned(),
            resources: cpu_and_memory(),
            requested_to_capacity_ratio: None,
        }
    }
}

fn cpu_and_memory() -> Vec<ResourceSpec> {
    ["cpu", "memory"].map(|it| ResourceSpec { name: it.to_owned(), weight: 1 }).to_vec()
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSpec {
    pub name: String,
    pub weight: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestedToCapacityRatio {
    pub shape: Vec<ShapePoint>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShapePoint {
    pub utilization: i32,
    pub score: i32,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesBalancedAllocationArgs {
    pub resources: Vec<ResourceSpec>,
}

impl Default for NodeResourcesBalancedAllocationArgs {
    fn default() -> Self {
        Self { resources: cpu_and_memory() }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTopologySpreadArgs {
    pub default_constraints: Vec<DefaultConstraint>,
    pub defaulting_type: String,
}

impl Default for PodTopologySpreadArgs {
    fn default() -> Self {
        Self { default_constraints: Vec::new(), defaulting_type: "System".to_owned() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultConstraint {
    pub max_skew: i32,
    pub topology_key: String,
    pub when_unsatisfiable: String,
    pub label_selector: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinityArgs {
    pub added_affinity: Option<NodeAffinity>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeBindingArgs {
    pub bind_timeout_seconds: i64,
    pub shape: Vec<ShapePoint>,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self { bind_timeout_seconds: 600, shape: Vec::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DynamicResourcesArgs {
    pub filter_timeout: GoDuration,
    pub binding_timeout: GoDuration,
}

impl Default for DynamicResourcesArgs {
    fn default() -> Self {
        Self { filter_timeout: GoDuration::seconds(10), binding_timeout: GoDuration::seconds(600) }
    }
}

/// The plug-ins that take arguments.
pub(super) const WITH_ARGS: [&str; 8] = [
    "DefaultPreemption",
    "DynamicResources",
    "InterPodAffinity",
    "NodeAffinity",
    "NodeResourcesBalancedAllocation",
    "NodeResourcesFit",
    "PodTopologySpread",
    "VolumeBinding",
];

/// The arguments of a plug-in; its defaults where the file says nothing.
pub(super) fn of<A>(profile: &ProfileConfig, plugin: &str) -> Result<A, String>
where
    A: Default + Serialize + DeserializeOwned,
{
    let Some(config) = profile.plugin_config.iter().find(|it| it.name == plugin) else {
        return Ok(A::default());
    };
    read(plugin, &config.args)
}

/// Strictly, as the rest of the file; the kind must be the plug-in's, if it is told.
fn read<A>(plugin: &str, args: &Value) -> Result<A, String>
where
    A: Default + Serialize + DeserializeOwned,
{
    let failed = |why: String| format!("decoding args for plugin {plugin}: {why}");
    let Value::Object(mut fields) = args.clone() else {
        return match args {
            Value::Null => Ok(A::default()),
            _ => Err(failed("args must be an object".to_owned())),
        };
    };
    let kind = format!("{plugin}Args");
    let told = |it: Option<Value>| it.and_then(|it| it.as_str().map(str::to_owned));
    let (version, found) = (told(fields.remove("apiVersion")), told(fields.remove("kind")));
    let version = version.unwrap_or_else(|| API_VERSION.to_owned());
    if version != API_VERSION {
        return Err(failed(format!(
            "no kind \"{}\" is registered for version \"{version}\"",
            found.unwrap_or_default()
        )));
    }
    if let Some(found) = found.filter(|it| *it != kind) {
        return Err(failed(format!(
            "args for plugin {plugin} were not of type {kind}.kubescheduler.config.k8s.io, got \
             {found}.kubescheduler.config.k8s.io"
        )));
    }
    let fields = Value::Object(fields);
    let open = ["addedAffinity", "labelSelector", "requestedToCapacityRatio"];
    let unknown = unknown_fields(&fields, &json!(A::default()), &open);
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.iter().map(|it| format!("unknown field \"{it}\"")).collect();
        return Err(failed(format!("strict decoding error: {}", unknown.join(", "))));
    }
    serde_json::from_value(fields).map_err(|it| failed(it.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(args: Value) -> Result<NodeResourcesFitArgs, String> {
        read("NodeResourcesFit", &args)
    }

    #[test]
    fn what_is_not_said_keeps_its_default() {
        let args = fit(json!({ "scoringStrategy": { "type": "MostAllocated" } })).unwrap();
        let strategy = ScoringStrategy { kind: "MostAllocated".into(), ..Default::default() };
        assert_eq!(args, NodeResourcesFitArgs { scoring_strategy: strategy, ..Default::default() });
        assert_eq!(fit(Value::Null), Ok(NodeResourcesFitArgs::default()));
    }

    #[test]
    fn arguments_of_another_kind_or_with_unknown_fields_are_refused() {
        let kind = json!({ "kind": "InterPodAffinityArgs", "apiVersion": API_VERSION });
        assert_eq!(
            fit(kind).unwrap_err(),
            "decoding args for plugin NodeResourcesFit: args for plugin NodeResourcesFit were not of \
             type NodeResourcesFitArgs.kubescheduler.config.k8s.io, got \
             InterPodAffinityArgs.kubescheduler.config.k8s.io"
        );
        assert_eq!(
            fit(json!({ "scoring": 1 })).unwrap_err(),
            "decoding args for plugin NodeResourcesFit: strict decoding error: unknown field \"scoring\""
        );
    }
}
