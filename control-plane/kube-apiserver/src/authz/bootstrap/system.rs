//! Roles of the system's own components, and who is bound to them.

use super::{Binding, Role};

pub(super) const ROLES: &[Role] = &[
    ("cluster-admin", &["* | * | *", "* | *"]),
    (
        "system:discovery",
        &[
            "get | /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        ],
    ),
    (
        "system:basic-user",
        &[
            "create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews",
            "create | authentication.k8s.io | selfsubjectreviews",
        ],
    ),
    ("system:public-info-viewer", &["get | /healthz /livez /readyz /version /version/"]),
    (
        "system:monitoring",
        &["get | /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"],
    ),
    (
        "system:auth-delegator",
        &[
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
        ],
    ),
    (
        "system:node",
        &[
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | localsubjectaccessreviews subjectaccessreviews",
            "get list watch | core | services",
            "create get list watch | core | nodes",
            "patch update | core | nodes/status",
            "patch update | core | nodes",
            "create patch update | core | events",
            "get list watch | core | pods",
            "create delete | core | pods",
            "patch update | core | pods/status",
            "create | core | pods/eviction",
            "get list watch | core | configmaps secrets",
            "get | core | persistentvolumeclaims persistentvolumes",
            "get | core | endpoints",
            "create get list watch | certificates.k8s.io | certificatesigningrequests",
            "create delete get patch update | coordination.k8s.io | leases",
            "get | storage.k8s.io | volumeattachments",
            "create | core | serviceaccounts/token",
            "get patch update | core | persistentvolumeclaims/status",
            "get list watch | storage.k8s.io | csidrivers",
            "create delete get patch update | storage.k8s.io | csinodes",
            "get list watch | node.k8s.io | runtimeclasses",
            "get | resource.k8s.io | resourceclaims",
            "deletecollection | resource.k8s.io | resourceslices",
            "get list watch | certificates.k8s.io | clustertrustbundles",
            "get | core | serviceaccounts",
        ],
    ),
    (
        "system:cluster-trust-bundle-discovery",
        &["get list watch | certificates.k8s.io | clustertrustbundles"],
    ),
    (
        "system:node-bootstrapper",
        &["create get list watch | certificates.k8s.io | certificatesigningrequests"],
    ),
    (
        "system:node-problem-detector",
        &[
            "get | core | nodes",
            "patch | core | nodes/status",
            "create patch update | core events.k8s.io | events",
        ],
    ),
    (
        "system:node-proxier",
        &[
            "list watch | core | services endpoints",
            "get list watch | core | nodes",
            "create patch update | core events.k8s.io | events",
            "list watch | discovery.k8s.io | endpointslices",
            "list watch | networking.k8s.io | servicecidrs",
        ],
    ),
    (
        "system:kubelet-api-admin",
        &[
            "get list watch | core | nodes",
            "proxy | core | nodes",
            "* | core | nodes/log nodes/metrics nodes/proxy nodes/stats nodes/configz nodes/healthz nodes/pods nodes/checkpoint",
        ],
    ),
    ("system:kube-dns", &["list watch | core | endpoints services"]),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &["create | certificates.k8s.io | certificatesigningrequests/nodeclient"],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &["create | certificates.k8s.io | certificatesigningrequests/selfnodeclient"],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client"],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client-kubelet"],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/kubelet-serving"],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/legacy-unknown"],
    ),
    (
        "system:service-account-issuer-discovery",
        &[
            "get | /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        ],
    ),
    (
        "system:persistent-volume-provisioner",
        &[
            "create delete get list watch | core | persistentvolumes",
            "get list update watch | core | persistentvolumeclaims",
            "get list watch | storage.k8s.io | storageclasses",
            "watch | core | events",
            "create patch update | core events.k8s.io | events",
        ],
    ),
    (
        "system:volume-scheduler",
        &[
            "get list patch update watch | core | persistentvolumes persistentvolumeclaims",
            "get list watch | storage.k8s.io | storageclasses",
        ],
    ),
    (
        "system:kube-scheduler",
        &[
            "create patch update | core events.k8s.io | events",
            "create | coordination.k8s.io | leases",
            "get list update watch | coordination.k8s.io | leases | kube-scheduler",
            "get list watch | core | nodes",
            "delete get list watch | core | pods",
            "create | core | bindings pods/binding",
            "patch update | core | pods/status",
            "get list watch | core | replicationcontrollers services",
            "get list watch | apps extensions | replicasets",
            "get list watch | apps | statefulsets",
            "get list watch | policy | poddisruptionbudgets",
            "get list watch | core | persistentvolumeclaims persistentvolumes",
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
            "get list watch | storage.k8s.io | csinodes",
            "get list watch | storage.k8s.io | volumeattachments",
            "get list watch | core | namespaces",
            "get list watch | storage.k8s.io | csidrivers",
            "get list watch | storage.k8s.io | csistoragecapacities",
            "get list watch | resource.k8s.io | deviceclasses",
            // Claims for extended resources are made and, where a pod was not bound, deleted.
            "create delete get list patch update watch | resource.k8s.io | resourceclaims",
            "get list patch update watch | resource.k8s.io | resourceclaims/status",
            "patch update | resource.k8s.io | resourceclaims/binding",
            "get list patch update watch | core | pods/finalizers",
            "get list watch | resource.k8s.io | resourceslices",
        ],
    ),
    (
        "system:kube-controller-manager",
        &[
            "create patch update | core events.k8s.io | events",
            "create | coordination.k8s.io | leases",
            "get update | coordination.k8s.io | leases | kube-controller-manager",
            "create | core | secrets serviceaccounts",
            "delete | core | secrets",
            "get | core | configmaps namespaces secrets serviceaccounts",
            "update | core | secrets serviceaccounts",
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
            "list watch | * | *",
            "create | core | serviceaccounts/token",
        ],
    ),
    ("system:kube-aggregator", &["get list watch | core | endpoints services"]),
];

pub(super) const BINDINGS: &[Binding] = &[
    ("cluster-admin", &["Group system:masters"]),
    ("system:monitoring", &["Group system:monitoring"]),
    ("system:discovery", &["Group system:authenticated"]),
    ("system:basic-user", &["Group system:authenticated"]),
    ("system:public-info-viewer", &["Group system:authenticated", "Group system:unauthenticated"]),
    ("system:node-proxier", &["User system:kube-proxy"]),
    ("system:kube-controller-manager", &["User system:kube-controller-manager"]),
    ("system:kube-dns", &["ServiceAccount kube-system/kube-dns"]),
    ("system:kube-scheduler", &["User system:kube-scheduler"]),
    ("system:volume-scheduler", &["User system:kube-scheduler"]),
    // No subject: nodes are authorized by the Node authorizer.
    ("system:node", &[]),
    ("system:service-account-issuer-discovery", &["Group system:serviceaccounts"]),
    ("system:cluster-trust-bundle-discovery", &["Group system:serviceaccounts"]),
];

type Namespaced = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// Roles in namespaces, each with the binding of the same name.
pub(super) const NAMESPACED: &[Namespaced] = &[
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            "get list watch | core | configmaps",
            "update | core | configmaps | cluster-info",
            "create patch update | core events.k8s.io | events",
        ],
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &["get list watch | core | secrets"],
        &["ServiceAccount kube-system/bootstrap-signer"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &["create get list watch | core | configmaps"],
        &["ServiceAccount kube-system/cloud-provider"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[
            "delete get list watch | core | secrets",
            "create patch update | core events.k8s.io | events",
        ],
        &["ServiceAccount kube-system/token-cleaner"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        LEADER_LOCKING,
        &[
            "User system:kube-controller-manager",
            "ServiceAccount kube-system/kube-controller-manager",
            "ServiceAccount kube-system/leader-election-controller",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        LEADER_LOCKING,
        &["User system:kube-scheduler", "ServiceAccount kube-system/kube-scheduler"],
    ),
];

const LEADER_LOCKING: &[&str] = &[
    "create get list update watch | coordination.k8s.io | leases",
    "create get list update watch | coordination.k8s.io | leasecandidates",
];

/// Whose binding has another name.
pub(super) const AUTHENTICATION_READER: (&str, &[&str]) = (
    "extension-apiserver-authentication-reader",
    &["get list watch | core | configmaps | extension-apiserver-authentication"],
);
