//! The roles for people: `admin`, `edit`, `view` and what is aggregated into them.

use serde_json::{Value, json};

use super::{cluster_role, rule, skeleton};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";

/// What `view` sees, as `groups | resources`. No secrets: they would hold its own promotion.
const VIEW: &[&str] = &[
    "core | configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
    "core | bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status",
    "core | namespaces",
    "discovery.k8s.io | endpointslices",
    "apps | controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    "autoscaling | horizontalpodautoscalers horizontalpodautoscalers/status",
    "batch | cronjobs cronjobs/status jobs jobs/status",
    "extensions | daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    "policy | poddisruptionbudgets poddisruptionbudgets/status",
    "networking.k8s.io | ingresses ingresses/status networkpolicies",
    "resource.k8s.io | resourceclaims resourceclaims/status resourceclaimtemplates",
];

/// What `edit` may read beyond `view`: these act as the pods that they reach.
const EDIT_READ: &[&str] =
    &["core | pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"];

const EDIT_WRITE: &[&str] = &[
    "core | pods pods/attach pods/exec pods/portforward pods/proxy",
    "core | configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    "apps | daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
    "autoscaling | horizontalpodautoscalers",
    "batch | cronjobs jobs",
    "extensions | daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale",
    "policy | poddisruptionbudgets",
    "networking.k8s.io | ingresses networkpolicies",
    "resource.k8s.io | resourceclaims resourceclaimtemplates",
];

const EDIT_OTHER: &[&str] = &[
    "impersonate | core | serviceaccounts",
    "create | core | pods/eviction serviceaccounts/token",
    "create delete deletecollection get list patch update watch | coordination.k8s.io | leases",
];

const ADMIN: &[&str] = &[
    "create | authorization.k8s.io | localsubjectaccessreviews",
    "create delete deletecollection get list patch update watch | rbac.authorization.k8s.io | rolebindings roles",
];

pub(super) fn roles() -> Vec<Value> {
    let with = |verbs: &str, lines: &[&str]| -> Vec<String> {
        lines.iter().map(|line| format!("{verbs} | {line}")).collect()
    };
    let own = |lines: &[&str]| -> Vec<String> { lines.iter().map(|it| (*it).to_owned()).collect() };
    let view = with(READ, VIEW);
    let edit = [with(READ, EDIT_READ), own(EDIT_OTHER), with(WRITE, EDIT_WRITE)].concat();
    let admin = own(ADMIN);
    let all = |parts: &[&[String]]| parts.concat();
    let metrics = ["get list watch | metrics.k8s.io | nodes pods".to_owned()];
    vec![
        // Upstream's is in metrics-server's manifest.
        part("system:aggregated-metrics-reader", "view", &metrics),
        part("system:aggregate-to-view", "view", &view),
        part("system:aggregate-to-edit", "edit", &edit),
        part("system:aggregate-to-admin", "admin", &admin),
        whole("view", Some("edit"), &["view"], &view),
        whole("edit", Some("admin"), &["edit"], &all(&[&edit, &view])),
        whole("admin", None, &["admin"], &all(&[&admin, &edit, &view])),
    ]
}

/// A role that is aggregated into another.
fn part(name: &str, into: &str, rules: &[String]) -> Value {
    let lines: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut role = cluster_role(name, &lines);
    role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")] =
        "true".into();
    role
}

fn whole(name: &str, into: Option<&str>, from: &[&str], rules: &[String]) -> Value {
    let mut role = skeleton("ClusterRole", "", name);
    if let Some(into) = into {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")] =
            "true".into();
    }
    let selectors = from.iter().map(|it| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{it}");
        json!({"matchLabels": {label: "true"}})
    });
    role["aggregationRule"] = json!({"clusterRoleSelectors": selectors.collect::<Vec<_>>()});
    role["rules"] = rules.iter().map(|line| rule(line)).collect();
    role
}
