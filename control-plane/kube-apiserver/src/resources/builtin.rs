//! The table of built-in resources of Kubernetes 1.36 that are served.
//!
//! Deviation: ClusterTrustBundles are served as if their feature gate and `runtime-config` were set, at
//! v1beta1 alone.
//!
//! Upstream: the storage providers in pkg/registry, and what `kubectl api-resources` prints.

use std::sync::Arc;

use super::Resource;

/// Properties of a resource, one word each.
const NAMESPACED: &str = "namespaced";
/// See [`Resource::has_generation`].
const GENERATION: &str = "generation";
/// See [`Resource::unconditional_update`]; upstream's default, so it is named where it is absent.
const CONDITIONAL: &str = "conditional";
const CREATE_ON_UPDATE: &str = "create-on-update";
const RETURNS_DELETED: &str = "returns-deleted";
/// See [`Resource::deletes_singly`].
const SINGLY: &str = "singly";
const VIRTUAL: &str = "virtual";
const COMPUTED: &str = "computed";

struct Group {
    group: &'static str,
    version: &'static str,
    /// Prefix of the schemas' names.
    schemas: &'static str,
    rows: &'static [Row],
}

/// Kind, plural, short names, categories, properties, subresources: words, separated by spaces.
struct Row(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

const GROUPS: &[Group] = &[
    Group {
        group: "",
        version: "v1",
        schemas: "io.k8s.api.core.v1",
        rows: &[
            Row("Binding", "bindings", "", "", &[NAMESPACED, VIRTUAL], ""),
            Row("ComponentStatus", "componentstatuses", "cs", "", &[COMPUTED], ""),
            Row("ConfigMap", "configmaps", "cm", "", &[NAMESPACED], ""),
            Row("Endpoints", "endpoints", "ep", "", &[NAMESPACED, CREATE_ON_UPDATE], ""),
            Row("Event", "events", "ev", "", &[NAMESPACED, CREATE_ON_UPDATE], ""),
            Row("LimitRange", "limitranges", "limits", "", &[NAMESPACED, CREATE_ON_UPDATE], ""),
            Row("Namespace", "namespaces", "ns", "", &[SINGLY], "status finalize"),
            Row("Node", "nodes", "no", "", &[], "status proxy"),
            Row(
                "PersistentVolumeClaim",
                "persistentvolumeclaims",
                "pvc",
                "",
                &[NAMESPACED, RETURNS_DELETED],
                "status",
            ),
            Row("PersistentVolume", "persistentvolumes", "pv", "", &[RETURNS_DELETED], "status"),
            Row(
                "Pod",
                "pods",
                "po",
                "all",
                &[NAMESPACED, RETURNS_DELETED, GENERATION],
                "status binding eviction log exec attach portforward proxy ephemeralcontainers \
                 resize",
            ),
            Row(
                "PodTemplate",
                "podtemplates",
                "",
                "",
                &[NAMESPACED, GENERATION, RETURNS_DELETED],
                "",
            ),
            Row(
                "ReplicationController",
                "replicationcontrollers",
                "rc",
                "all",
                &[NAMESPACED, GENERATION],
                "status scale",
            ),
            Row(
                "ResourceQuota",
                "resourcequotas",
                "quota",
                "",
                &[NAMESPACED, RETURNS_DELETED],
                "status",
            ),
            Row("Secret", "secrets", "", "", &[NAMESPACED], ""),
            Row(
                "ServiceAccount",
                "serviceaccounts",
                "sa",
                "",
                &[NAMESPACED, RETURNS_DELETED],
                "token",
            ),
            Row(
                "Service",
                "services",
                "svc",
                "all",
                &[NAMESPACED, CREATE_ON_UPDATE, RETURNS_DELETED],
                "status proxy",
            ),
        ],
    },
    Group {
        group: "apps",
        version: "v1",
        schemas: "io.k8s.api.apps.v1",
        rows: &[
            Row("ControllerRevision", "controllerrevisions", "", "", &[NAMESPACED], ""),
            Row("DaemonSet", "daemonsets", "ds", "all", &[NAMESPACED, GENERATION], "status"),
            Row(
                "Deployment",
                "deployments",
                "deploy",
                "all",
                &[NAMESPACED, GENERATION],
                "status scale",
            ),
            Row(
                "ReplicaSet",
                "replicasets",
                "rs",
                "all",
                &[NAMESPACED, GENERATION],
                "status scale",
            ),
            Row(
                "StatefulSet",
                "statefulsets",
                "sts",
                "all",
                &[NAMESPACED, GENERATION],
                "status scale",
            ),
        ],
    },
    Group {
        group: "events.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.events.v1",
        rows: &[Row("Event", "events", "ev", "", &[NAMESPACED, CREATE_ON_UPDATE], "")],
    },
    Group {
        group: "authentication.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.authentication.v1",
        rows: &[
            Row("SelfSubjectReview", "selfsubjectreviews", "", "", &[VIRTUAL], ""),
            Row("TokenReview", "tokenreviews", "", "", &[VIRTUAL], ""),
        ],
    },
    Group {
        group: "authorization.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.authorization.v1",
        rows: &[
            Row(
                "LocalSubjectAccessReview",
                "localsubjectaccessreviews",
                "",
                "",
                &[NAMESPACED, VIRTUAL],
                "",
            ),
            Row("SelfSubjectAccessReview", "selfsubjectaccessreviews", "", "", &[VIRTUAL], ""),
            Row("SelfSubjectRulesReview", "selfsubjectrulesreviews", "", "", &[VIRTUAL], ""),
            Row("SubjectAccessReview", "subjectaccessreviews", "", "", &[VIRTUAL], ""),
        ],
    },
    Group {
        group: "autoscaling",
        version: "v2",
        schemas: "io.k8s.api.autoscaling.v2",
        rows: &[Row(
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "hpa",
            "all",
            &[NAMESPACED],
            "status",
        )],
    },
    Group {
        group: "autoscaling",
        version: "v1",
        schemas: "io.k8s.api.autoscaling.v1",
        rows: &[Row(
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "hpa",
            "all",
            &[NAMESPACED],
            "status",
        )],
    },
    Group {
        group: "batch",
        version: "v1",
        schemas: "io.k8s.api.batch.v1",
        rows: &[
            Row("CronJob", "cronjobs", "cj", "all", &[NAMESPACED, GENERATION], "status"),
            Row("Job", "jobs", "", "all", &[NAMESPACED, GENERATION], "status"),
        ],
    },
    Group {
        group: "certificates.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.certificates.v1",
        rows: &[Row(
            "CertificateSigningRequest",
            "certificatesigningrequests",
            "csr",
            "",
            &[],
            "status approval",
        )],
    },
    Group {
        group: "certificates.k8s.io",
        version: "v1beta1",
        schemas: "io.k8s.api.certificates.v1beta1",
        rows: &[Row("ClusterTrustBundle", "clustertrustbundles", "", "", &[], "")],
    },
    Group {
        group: "networking.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.networking.v1",
        rows: &[
            Row("IngressClass", "ingressclasses", "", "", &[GENERATION], ""),
            Row("Ingress", "ingresses", "ing", "", &[NAMESPACED, GENERATION], "status"),
            Row("IPAddress", "ipaddresses", "ip", "", &[CONDITIONAL], ""),
            Row("NetworkPolicy", "networkpolicies", "netpol", "", &[NAMESPACED, GENERATION], ""),
            Row("ServiceCIDR", "servicecidrs", "", "", &[CONDITIONAL], "status"),
        ],
    },
    Group {
        group: "policy",
        version: "v1",
        schemas: "io.k8s.api.policy.v1",
        rows: &[Row(
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            "pdb",
            "",
            &[NAMESPACED, GENERATION, CONDITIONAL],
            "status",
        )],
    },
    Group {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.rbac.v1",
        rows: &[
            Row("ClusterRoleBinding", "clusterrolebindings", "", "", &[CREATE_ON_UPDATE], ""),
            Row("ClusterRole", "clusterroles", "", "", &[CREATE_ON_UPDATE], ""),
            Row("RoleBinding", "rolebindings", "", "", &[NAMESPACED, CREATE_ON_UPDATE], ""),
            Row("Role", "roles", "", "", &[NAMESPACED, CREATE_ON_UPDATE], ""),
        ],
    },
    Group {
        group: "storage.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.storage.v1",
        rows: &[
            Row("CSIDriver", "csidrivers", "", "", &[GENERATION, CONDITIONAL, RETURNS_DELETED], ""),
            Row("CSINode", "csinodes", "", "", &[CONDITIONAL, RETURNS_DELETED], ""),
            Row(
                "CSIStorageCapacity",
                "csistoragecapacities",
                "",
                "",
                &[NAMESPACED, CONDITIONAL],
                "",
            ),
            Row("StorageClass", "storageclasses", "sc", "", &[RETURNS_DELETED], ""),
            Row(
                "VolumeAttachment",
                "volumeattachments",
                "",
                "",
                &[CONDITIONAL, RETURNS_DELETED],
                "status",
            ),
            Row(
                "VolumeAttributesClass",
                "volumeattributesclasses",
                "vac",
                "",
                &[RETURNS_DELETED],
                "",
            ),
        ],
    },
    Group {
        group: "admissionregistration.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.admissionregistration.v1",
        rows: &[
            Row(
                "MutatingAdmissionPolicy",
                "mutatingadmissionpolicies",
                "",
                "api-extensions",
                &[GENERATION, CONDITIONAL],
                "",
            ),
            Row(
                "MutatingAdmissionPolicyBinding",
                "mutatingadmissionpolicybindings",
                "",
                "api-extensions",
                &[GENERATION, CONDITIONAL],
                "",
            ),
            Row(
                "MutatingWebhookConfiguration",
                "mutatingwebhookconfigurations",
                "",
                "api-extensions",
                &[GENERATION, CONDITIONAL],
                "",
            ),
            Row(
                "ValidatingAdmissionPolicy",
                "validatingadmissionpolicies",
                "",
                "api-extensions",
                &[GENERATION, CONDITIONAL],
                "status",
            ),
            Row(
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
                "",
                "api-extensions",
                &[GENERATION, CONDITIONAL],
                "",
            ),
            Row(
                "ValidatingWebhookConfiguration",
                "validatingwebhookconfigurations",
                "",
                "api-extensions",
                &[GENERATION, CONDITIONAL],
                "",
            ),
        ],
    },
    Group {
        group: "apiextensions.k8s.io",
        version: "v1",
        schemas: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
        rows: &[Row(
            "CustomResourceDefinition",
            "customresourcedefinitions",
            "crd crds",
            "api-extensions",
            &[GENERATION, CONDITIONAL],
            "status",
        )],
    },
    Group {
        group: "apiregistration.k8s.io",
        version: "v1",
        schemas: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
        rows: &[Row("APIService", "apiservices", "", "api-extensions", &[CONDITIONAL], "status")],
    },
    Group {
        group: "scheduling.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.scheduling.v1",
        rows: &[Row("PriorityClass", "priorityclasses", "pc", "", &[GENERATION], "")],
    },
    Group {
        group: "coordination.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.coordination.v1",
        rows: &[Row("Lease", "leases", "", "", &[NAMESPACED, CREATE_ON_UPDATE, CONDITIONAL], "")],
    },
    Group {
        group: "node.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.node.v1",
        rows: &[Row("RuntimeClass", "runtimeclasses", "", "", &[CONDITIONAL], "")],
    },
    Group {
        group: "discovery.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.discovery.v1",
        rows: &[Row("EndpointSlice", "endpointslices", "", "", &[NAMESPACED, GENERATION], "")],
    },
    Group {
        group: "flowcontrol.apiserver.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.flowcontrol.v1",
        rows: &[
            Row("FlowSchema", "flowschemas", "", "", &[GENERATION, CONDITIONAL], "status"),
            Row(
                "PriorityLevelConfiguration",
                "prioritylevelconfigurations",
                "",
                "",
                &[GENERATION, CONDITIONAL],
                "status",
            ),
        ],
    },
    Group {
        group: "resource.k8s.io",
        version: "v1",
        schemas: "io.k8s.api.resource.v1",
        rows: &[
            Row("DeviceClass", "deviceclasses", "", "", &[GENERATION, RETURNS_DELETED], ""),
            Row(
                "ResourceClaim",
                "resourceclaims",
                "",
                "",
                &[NAMESPACED, RETURNS_DELETED],
                "status",
            ),
            Row(
                "ResourceClaimTemplate",
                "resourceclaimtemplates",
                "",
                "",
                &[NAMESPACED, RETURNS_DELETED],
                "",
            ),
            Row("ResourceSlice", "resourceslices", "", "", &[GENERATION, RETURNS_DELETED], ""),
        ],
    },
];

/// Whether a group is built in.
pub(crate) fn has_group(group: &str) -> bool {
    GROUPS.iter().any(|it| it.group == group)
}

/// Whether objects of this name are ours in some version, so that no definition may have them.
pub(crate) fn has(group: &str, plural: &str) -> bool {
    GROUPS.iter().any(|it| it.group == group && it.rows.iter().any(|row| row.1 == plural))
}

/// All built-in resources, in the order of discovery.
pub(super) fn table() -> Vec<Arc<Resource>> {
    GROUPS
        .iter()
        .flat_map(|group| group.rows.iter().map(|row| Arc::new(row.resource(group))))
        .collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Row {
    fn resource(&self, group: &Group) -> Resource {
        let Self(kind, plural, short, categories, properties, subresources) = self;
        let is = |property: &str| properties.contains(&property);
        let stored_as = match (group.group, group.version) {
            ("events.k8s.io", _) => Some((String::new(), (*plural).to_owned())),
            ("autoscaling", "v1") => Some((group.group.to_owned(), (*plural).to_owned())),
            _ => None,
        };
        Resource {
            group: group.group.into(),
            version: group.version.into(),
            kind: (*kind).into(),
            plural: (*plural).into(),
            singular: kind.to_lowercase(),
            short_names: words(short),
            categories: words(categories),
            namespaced: is(NAMESPACED),
            subresources: words(subresources),
            schema: format!("{}.{kind}", group.schemas),
            has_generation: is(GENERATION),
            is_virtual: is(VIRTUAL),
            is_computed: is(COMPUTED),
            unconditional_update: !is(CONDITIONAL),
            create_on_update: is(CREATE_ON_UPDATE),
            returns_deleted: is(RETURNS_DELETED),
            deletes_singly: is(SINGLY),
            stored_as,
            delegated: None,
            custom: None,
        }
    }
}
