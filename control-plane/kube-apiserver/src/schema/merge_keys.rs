//! How lists and maps of the built-in types merge: what the generated schemas do not say.
//!
//! A list that is not named here is atomic, in patches and in apply.
//!
//! Upstream: the `patchStrategy`, `patchMergeKey`, `listType`, `listMapKey` and `mapType` markers in
//! k8s.io/api.

/// How a list merges under server-side apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    /// Of scalars, each once.
    Set,
    /// Of objects, told apart by these fields.
    Map(&'static [&'static str]),
}

/// How a field merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Under strategic merge patch: the elements' key, `""` for scalars; `None` replaces the list.
    pub(crate) patch_key: Option<&'static str>,
    /// `retainKeys`: the patch says which fields stay.
    pub(crate) retains_keys: bool,
    pub(crate) list: ListType,
    /// A map that is applied as a whole.
    pub(crate) is_atomic_map: bool,
}

pub(crate) struct Row {
    /// The short name of the type, or of several types that agree.
    pub(crate) object: &'static str,
    pub(crate) field: &'static str,
    merge: Merge,
}

const NONE: Merge =
    Merge { patch_key: None, retains_keys: false, list: ListType::Atomic, is_atomic_map: false };

/// A list of objects, merged by one key in patches and told apart by these keys in apply.
const fn map(
    object: &'static str,
    field: &'static str,
    patch_key: &'static str,
    keys: &'static [&'static str],
) -> Row {
    let merge = Merge { patch_key: Some(patch_key), list: ListType::Map(keys), ..NONE };
    Row { object, field, merge }
}

/// As [`map`], with `retainKeys`.
const fn retaining(object: &'static str, field: &'static str, key: &'static [&'static str]) -> Row {
    let mut row = map(object, field, key[0], key);
    row.merge.retains_keys = true;
    row
}

/// Merged in patches, atomic in apply.
const fn patched(object: &'static str, field: &'static str, key: &'static str) -> Row {
    Row { object, field, merge: Merge { patch_key: Some(key), ..NONE } }
}

/// Told apart in apply, replaced in patches.
const fn applied(object: &'static str, field: &'static str, keys: &'static [&'static str]) -> Row {
    Row { object, field, merge: Merge { list: ListType::Map(keys), ..NONE } }
}

/// A set of scalars, merged in patches too.
const fn set(object: &'static str, field: &'static str) -> Row {
    Row { object, field, merge: Merge { patch_key: Some(""), list: ListType::Set, ..NONE } }
}

const fn applied_set(object: &'static str, field: &'static str) -> Row {
    Row { object, field, merge: Merge { list: ListType::Set, ..NONE } }
}

const fn atomic_map(object: &'static str, field: &'static str) -> Row {
    Row { object, field, merge: Merge { is_atomic_map: true, ..NONE } }
}

pub(crate) const ROWS: &[Row] = &[
    map("ObjectMeta", "ownerReferences", "uid", &["uid"]),
    set("ObjectMeta", "finalizers"),
    retaining("PodSpec", "volumes", &["name"]),
    map("PodSpec", "containers", "name", &["name"]),
    map("PodSpec", "initContainers", "name", &["name"]),
    map("PodSpec", "ephemeralContainers", "name", &["name"]),
    map("PodSpec", "imagePullSecrets", "name", &["name"]),
    map("PodSpec", "hostAliases", "ip", &["ip"]),
    map(
        "PodSpec",
        "topologySpreadConstraints",
        "topologyKey",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    retaining("PodSpec", "resourceClaims", &["name"]),
    map("PodSpec", "schedulingGates", "name", &["name"]),
    atomic_map("PodSpec", "nodeSelector"),
    map("Container", "ports", "containerPort", &["containerPort", "protocol"]),
    map("Container", "env", "name", &["name"]),
    map("Container", "volumeMounts", "mountPath", &["mountPath"]),
    map("Container", "volumeDevices", "devicePath", &["devicePath"]),
    map("EphemeralContainer", "ports", "containerPort", &["containerPort", "protocol"]),
    map("EphemeralContainer", "env", "name", &["name"]),
    map("EphemeralContainer", "volumeMounts", "mountPath", &["mountPath"]),
    map("EphemeralContainer", "volumeDevices", "devicePath", &["devicePath"]),
    applied("ResourceRequirements", "claims", &["name"]),
    map("PodStatus", "conditions", "type", &["type"]),
    map("PodStatus", "podIPs", "ip", &["ip"]),
    patched("PodStatus", "hostIPs", "ip"),
    retaining("PodStatus", "resourceClaimStatuses", &["name"]),
    map("ServiceSpec", "ports", "port", &["port", "protocol"]),
    atomic_map("ServiceSpec", "selector"),
    map("ServiceStatus", "conditions", "type", &["type"]),
    map("ServiceAccount", "secrets", "name", &["name"]),
    set("NodeSpec", "podCIDRs"),
    map("NodeStatus", "conditions", "type", &["type"]),
    map("NodeStatus", "addresses", "type", &["type"]),
    map("NamespaceStatus", "conditions", "type", &["type"]),
    map("PersistentVolumeClaimStatus", "conditions", "type", &["type"]),
    atomic_map("ReplicationControllerSpec", "selector"),
    map("ReplicationControllerStatus", "conditions", "type", &["type"]),
    Row {
        object: "DeploymentSpec",
        field: "strategy",
        merge: Merge { retains_keys: true, ..NONE },
    },
    map("DeploymentStatus", "conditions", "type", &["type"]),
    map("ReplicaSetStatus", "conditions", "type", &["type"]),
    map("DaemonSetStatus", "conditions", "type", &["type"]),
    map("StatefulSetStatus", "conditions", "type", &["type"]),
    patched("JobStatus", "conditions", "type"),
    map("HorizontalPodAutoscalerStatus", "conditions", "type", &["type"]),
    applied("CertificateSigningRequestStatus", "conditions", &["type"]),
    map("PodDisruptionBudgetStatus", "conditions", "type", &["type"]),
    applied_set("Endpoint", "addresses"),
    map("CSINodeSpec", "drivers", "name", &["name"]),
    applied_set("CSIDriverSpec", "volumeLifecycleModes"),
    map("MutatingAdmissionPolicySpec", "matchConditions", "name", &["name"]),
    map("MutatingAdmissionPolicySpec", "variables", "name", &["name"]),
    map("MutatingWebhookConfiguration", "webhooks", "name", &["name"]),
    map("ValidatingAdmissionPolicySpec", "matchConditions", "name", &["name"]),
    map("ValidatingAdmissionPolicySpec", "variables", "name", &["name"]),
    map("ValidatingWebhookConfiguration", "webhooks", "name", &["name"]),
    map("MutatingWebhook", "matchConditions", "name", &["name"]),
    map("ValidatingWebhook", "matchConditions", "name", &["name"]),
    map("ValidatingAdmissionPolicySpec", "matchConditions", "name", &["name"]),
    map("ValidatingAdmissionPolicySpec", "variables", "name", &["name"]),
    map("ServiceCIDRStatus", "conditions", "type", &["type"]),
    applied("CustomResourceDefinitionStatus", "conditions", &["type"]),
    applied("APIServiceStatus", "conditions", &["type"]),
    map("FlowSchemaStatus", "conditions", "type", &["type"]),
    map("PriorityLevelConfigurationStatus", "conditions", "type", &["type"]),
    atomic_map("Scheduling", "nodeSelector"),
    applied_set("UncountedTerminatedPods", "failed"),
    applied_set("UncountedTerminatedPods", "succeeded"),
    applied("AllocatedDeviceStatus", "conditions", &["type"]),
    applied("ResourceClaimStatus", "devices", &["driver", "device", "pool", "shareID"]),
    map("ResourceClaimStatus", "reservedFor", "uid", &["uid"]),
];

/// Types that are owned as a whole.
pub(crate) const ATOMIC_OBJECTS: &[&str] = &[
    "ConfigMapKeySelector",
    "CrossVersionObjectReference",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "MatchResources",
    "NamedRuleWithOperations",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ParamKind",
    "ParamRef",
    "ResourceFieldSelector",
    "RoleRef",
    "ScopeSelector",
    "ScopedResourceSelectorRequirement",
    "SecretKeySelector",
    "SecretReference",
    "Subject",
    "TopologySelectorTerm",
    "TypedLocalObjectReference",
    "Variable",
];

/// Names of fields that are structs, or lists that are written where they are empty.
const ALWAYS_THERE: &[&str] = &[
    "acceptedNames",
    "containers",
    "daemonEndpoints",
    "deprecatedSource",
    "jobTemplate",
    "kubeletEndpoint",
    "loadBalancer",
    "metadata",
    "nodeInfo",
    "podSelector",
    "priorityLevelConfiguration",
    "source",
    "spec",
    "status",
    "strategy",
    "updateStrategy",
];

/// See [`super::Field::is_always_there`].
pub(super) fn is_always_there(object: &str, field: &str) -> bool {
    match (object, field) {
        (_, "template") => object != "ReplicationControllerSpec",
        ("PersistentVolumeClaimSpec", "resources") => true,
        ("CustomResourceDefinitionSpec", "names") => true,
        ("TopologySpreadConstraint" | "NetworkPolicyPeer", _) => false,
        _ => ALWAYS_THERE.contains(&field),
    }
}

/// See [`super::Field::default`]: a port without a protocol is a TCP one.
pub(super) fn key_default(object: &str, field: &str) -> Option<Box<serde_json::Value>> {
    let is_port = matches!(object, "ContainerPort" | "ServicePort");
    (is_port && field == "protocol").then(|| Box::new("TCP".into()))
}

/// How a field of a type merges.
pub(crate) fn find(object: &str, field: &str) -> Merge {
    let row = ROWS.iter().find(|it| it.object == object && it.field == field);
    row.map_or(NONE, |it| it.merge)
}
