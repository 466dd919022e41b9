//! What the EKS access policies allow, in the terms of RBAC.
//!
//! Source: Amazon EKS user guide, "Review access policy permissions".
//! Deviation: `AmazonEKSAdminPolicy`, `AmazonEKSEditPolicy` and `AmazonEKSViewPolicy` are the rules
//! of Kubernetes' `admin`, `edit` and `view` for the resources that exist here.

use serde_json::Value;

/// What is asked, of a `SubjectAccessReview`'s spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// With its subresource: `pods/log`.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    /// Set where no resource is asked for.
    pub(crate) path: String,
}

impl Asked {
    pub(crate) fn of(spec: &Value) -> Self {
        let text = |pointer: &str| {
            spec.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        if spec.get("resourceAttributes").is_none_or(Value::is_null) {
            let (verb, path) =
                (text("/nonResourceAttributes/verb"), text("/nonResourceAttributes/path"));
            return Self { verb, path, ..Self::default() };
        }
        let mut resource = text("/resourceAttributes/resource");
        let subresource = text("/resourceAttributes/subresource");
        if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        Self {
            verb: text("/resourceAttributes/verb"),
            group: text("/resourceAttributes/group"),
            resource,
            namespace: text("/resourceAttributes/namespace"),
            path: String::new(),
        }
    }
}

/// Verbs, API group (`core` for the empty one), resources.
type Rule = (&'static str, &'static str, &'static str);

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL: &str = "get list watch create delete deletecollection patch update";

const VIEW: &[Rule] = &[
    (
        READ,
        "core",
        "bindings configmaps endpoints events limitranges namespaces namespaces/status \
         persistentvolumeclaims persistentvolumeclaims/status pods pods/log pods/status \
         replicationcontrollers replicationcontrollers/scale replicationcontrollers/status \
         resourcequotas resourcequotas/status serviceaccounts services services/status",
    ),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale \
         deployments/status replicasets replicasets/scale replicasets/status statefulsets \
         statefulsets/scale statefulsets/status",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (READ, "discovery.k8s.io", "endpointslices"),
    (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
];

const EDIT: &[Rule] = &[
    (READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    ("impersonate", "core", "serviceaccounts"),
    ("create", "core", "pods/eviction serviceaccounts/token"),
    (
        WRITE,
        "core",
        "configmaps events persistentvolumeclaims pods pods/attach pods/exec pods/portforward \
         pods/proxy replicationcontrollers replicationcontrollers/scale secrets serviceaccounts \
         services services/proxy",
    ),
    (
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets \
         replicasets/scale statefulsets statefulsets/scale",
    ),
    (WRITE, "autoscaling", "horizontalpodautoscalers"),
    (WRITE, "batch", "cronjobs jobs"),
    (WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    (WRITE, "policy", "poddisruptionbudgets"),
    (ALL, "coordination.k8s.io", "leases"),
];

const ADMIN: &[Rule] = &[
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (ALL, "rbac.authorization.k8s.io", "rolebindings roles"),
];

const SECRETS: &[Rule] = &[(READ, "core", "secrets")];

/// Whether the policy of this name allows it; an unknown policy allows nothing.
pub(crate) fn allows(policy: &str, asked: &Asked) -> bool {
    let any = |tables: &[&[Rule]]| {
        asked.path.is_empty()
            && tables.iter().flat_map(|table| table.iter()).any(|rule| covers(rule, asked))
    };
    match policy {
        "AmazonEKSClusterAdminPolicy" => true,
        "AmazonEKSAdminPolicy" => any(&[ADMIN, EDIT, VIEW]),
        "AmazonEKSEditPolicy" => any(&[EDIT, VIEW]),
        "AmazonEKSViewPolicy" => any(&[VIEW]),
        "AmazonEKSAdminViewPolicy" => {
            asked.path.is_empty() && READ.split(' ').any(|verb| verb == asked.verb)
        }
        "AmazonEKSSecretReaderPolicy" => any(&[SECRETS]),
        // Of all groups, as the policy says.
        "AmazonEKSHybridPolicy" => {
            asked.path.is_empty() && asked.verb == "list" && asked.resource == "nodes"
        }
        _ => false,
    }
}

fn covers((verbs, group, resources): &Rule, asked: &Asked) -> bool {
    let group = if *group == "core" { "" } else { *group };
    verbs.split(' ').any(|verb| verb == asked.verb)
        && group == asked.group
        && resources.split_whitespace().any(|resource| resource == asked.resource)
}
