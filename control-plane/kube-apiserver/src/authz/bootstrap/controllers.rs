//! The controllers' roles (`system:controller:NAME`), one per controller.

use super::Role;

const EVENTS: &str = "create patch update | core events.k8s.io | events";

pub(super) const ROLES: &[Role] = &[
    (
        "attachdetach-controller",
        &[
            "get list watch | core | persistentvolumeclaims persistentvolumes pods nodes",
            "patch update | core | nodes/status",
            "create delete get list watch patch update | storage.k8s.io | volumeattachments",
            "get list watch | storage.k8s.io | csidrivers csinodes",
            EVENTS,
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &["escalate get list patch update watch | rbac.authorization.k8s.io | clusterroles"],
    ),
    (
        "cronjob-controller",
        &[
            "get list update watch | batch | cronjobs",
            "create delete get list patch update watch | batch | jobs",
            "update | batch | cronjobs/status",
            "update | batch | cronjobs/finalizers",
            "delete list | core | pods",
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            "get list watch | apps extensions | daemonsets",
            "update patch | apps extensions | daemonsets/status",
            "update | apps extensions | daemonsets/finalizers",
            "list watch | core | nodes",
            "create delete list patch watch get | core | pods",
            "create | core | pods/binding",
            "create delete get list patch update watch | apps | controllerrevisions",
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            "get list update patch watch | apps extensions | deployments",
            "update patch | apps extensions | deployments/status",
            "update | apps extensions | deployments/finalizers",
            "create delete get list patch update watch | apps extensions | replicasets",
            "get list update watch | core | pods",
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            "get list watch | apps extensions | deployments replicasets statefulsets",
            "get list watch | core | pods replicationcontrollers",
            "get list watch | policy | poddisruptionbudgets",
            "update patch | policy | poddisruptionbudgets/status",
            "patch update | core | pods/status",
            "get | * | */scale",
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            "get list watch | core | pods services",
            "create delete get list update patch watch | core | endpoints",
            "create | core | endpoints/restricted",
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            "get list watch | core | nodes pods services",
            "update | core | services/finalizers",
            "create delete get list update patch watch | discovery.k8s.io | endpointslices",
            "create | discovery.k8s.io | endpointslices/restricted",
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            "get list watch | core | endpoints services",
            "update | core | services/finalizers endpoints/finalizers",
            "create delete get list update patch watch | discovery.k8s.io | endpointslices",
            "create | discovery.k8s.io | endpointslices/restricted",
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            "update | core | pods/finalizers",
            "get list watch | core | pods",
            "create get list watch | core | persistentvolumeclaims",
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            "get list patch update watch | core | persistentvolumes",
            "patch update | core | persistentvolumeclaims/status",
            "get list watch | core | persistentvolumeclaims",
            EVENTS,
        ],
    ),
    ("generic-garbage-collector", &["delete get list patch update watch | * | *", EVENTS]),
    (
        "horizontal-pod-autoscaler",
        &[
            "get list watch | autoscaling | horizontalpodautoscalers",
            "update patch | autoscaling | horizontalpodautoscalers/status",
            "get update | * | */scale",
            "list | core | pods",
            "get list | metrics.k8s.io | pods",
            "get list | custom.metrics.k8s.io | *",
            "get list | external.metrics.k8s.io | *",
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            "get list patch update watch | batch | jobs",
            "update patch | batch | jobs/status",
            "update | batch | jobs/finalizers",
            "create delete list patch watch get | core | pods",
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            "get | core | configmaps | kube-apiserver-legacy-service-account-token-tracking",
            "delete patch | core | secrets",
        ],
    ),
    // Ours: volumes on the nodes' own disks.
    ("local-path-provisioner", &["create | storage.k8s.io | storageclasses"]),
    (
        "namespace-controller",
        &[
            "delete get list watch | core | namespaces",
            "update patch | core | namespaces/finalize namespaces/status",
            "delete deletecollection get list watch | * | *",
        ],
    ),
    (
        "node-controller",
        &[
            "delete get list patch update watch | core | nodes",
            "patch update | core | nodes/status",
            "patch update | core | pods/status",
            "delete get list watch | core | pods",
            "get list watch | coordination.k8s.io | leases",
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            "create delete get list update patch watch | core | persistentvolumes",
            "update patch | core | persistentvolumes/status persistentvolumeclaims/status",
            "get list update patch watch | core | persistentvolumeclaims",
            "create delete get list watch | core | pods",
            "get list watch | storage.k8s.io | storageclasses",
            "get | core | secrets",
            "get list | core | nodes",
            EVENTS,
        ],
    ),
    (
        "pod-garbage-collector",
        &[
            "delete list watch get | core | pods",
            "get list | core | nodes",
            "patch update | core | pods/status",
        ],
    ),
    ("pv-protection-controller", &["get list update watch | core | persistentvolumes", EVENTS]),
    (
        "pvc-protection-controller",
        &[
            "get list update watch | core | persistentvolumeclaims",
            "get list watch | core | pods",
            EVENTS,
        ],
    ),
    (
        "replicaset-controller",
        &[
            "get list update watch | apps extensions | replicasets",
            "update patch | apps extensions | replicasets/status",
            "update | apps extensions | replicasets/finalizers",
            "create delete list patch watch get | core | pods",
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            "get list update watch | core | replicationcontrollers",
            "update patch | core | replicationcontrollers/status",
            "update | core | replicationcontrollers/finalizers",
            "create delete list patch watch get | core | pods",
            EVENTS,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            "get list watch | core | pods",
            "update | core | pods/finalizers",
            "patch update | core | pods/status",
            "get list watch | resource.k8s.io | resourceclaimtemplates",
            "get list watch create delete update patch | resource.k8s.io | resourceclaims",
            "update patch | resource.k8s.io | resourceclaims/status",
            EVENTS,
        ],
    ),
    (
        "resourcequota-controller",
        &["list watch | * | *", "update patch | core | resourcequotas/status", EVENTS],
    ),
    (
        "kube-apiserver-serving-clustertrustbundle-publisher",
        &[
            "attest | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-serving",
            "create update delete list watch | certificates.k8s.io | clustertrustbundles",
            EVENTS,
        ],
    ),
    (
        "root-ca-cert-publisher",
        &[
            "create update patch get list watch | core | configmaps",
            "list watch | core | namespaces",
            EVENTS,
        ],
    ),
    ("route-controller", &["list watch | core | nodes", "patch | core | nodes/status", EVENTS]),
    (
        "service-account-controller",
        &[
            "create get list watch | core | serviceaccounts",
            "list watch | core | namespaces",
            EVENTS,
        ],
    ),
    (
        "service-controller",
        &[
            "get list watch | core | services",
            "patch update | core | services/status",
            "list watch | core | nodes",
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            "list watch get | core | pods",
            "get list watch | apps | statefulsets",
            "update patch | apps | statefulsets/status",
            "update | apps | statefulsets/finalizers",
            "create delete get patch update | core | pods",
            "create delete get list patch update watch | apps | controllerrevisions",
            "create get list watch patch update delete | core | persistentvolumeclaims",
            EVENTS,
        ],
    ),
    ("ttl-controller", &["list patch update watch | core | nodes", EVENTS]),
    ("ttl-after-finished-controller", &["delete get list watch | batch | jobs", EVENTS]),
    (
        "taint-eviction-controller",
        &[
            "delete get list watch | core | pods",
            "patch update | core | pods/status",
            "get list watch | core | nodes",
            EVENTS,
        ],
    ),
    (
        "volumeattributesclass-protection-controller",
        &[
            "get list watch | core | persistentvolumeclaims persistentvolumes",
            "get list update watch | storage.k8s.io | volumeattributesclasses",
            EVENTS,
        ],
    ),
    (
        "certificate-controller",
        &[
            "delete get list watch | certificates.k8s.io | certificatesigningrequests",
            "update patch | certificates.k8s.io | certificatesigningrequests/approval certificatesigningrequests/status",
            "approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving",
            "sign | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            "create | authorization.k8s.io | subjectaccessreviews",
            EVENTS,
        ],
    ),
    (
        "device-taint-eviction-controller",
        &[
            "get list watch delete | core | pods",
            "patch | core | pods/status",
            "get list watch | resource.k8s.io | resourceclaims resourceslices deviceclasses devicetaintrules",
            EVENTS,
        ],
    ),
    // Of controllers that only upstream's process has.
    (
        "selinux-warning-controller",
        &[
            "get list watch | core | persistentvolumes persistentvolumeclaims pods",
            "get list watch | storage.k8s.io | csidrivers",
            EVENTS,
        ],
    ),
    (
        "service-cidrs-controller",
        &[
            "get list watch patch update | networking.k8s.io | servicecidrs",
            "patch update | networking.k8s.io | servicecidrs/finalizers servicecidrs/status",
            "get list watch | networking.k8s.io | ipaddresses",
            EVENTS,
        ],
    ),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            "get list watch | admissionregistration.k8s.io | validatingadmissionpolicies",
            "get patch update | admissionregistration.k8s.io | validatingadmissionpolicies/status",
            EVENTS,
        ],
    ),
];
