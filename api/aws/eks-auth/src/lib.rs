//! EKS Auth: the shapes of its operation, which the agent of EKS Pod Identity calls.
//!
//! API reference: Amazon EKS Auth, version 2023-11-26. The protocol is rest-json, as EKS's is; dates
//! are seconds since 1970.

use aws_wire::{operations, structures};

operations! {
    service "eks-auth", case "camelCase";

    /// Gives credentials of a service account's role to the holder of a pod's token.
    AssumeRoleForPodIdentity "POST" "/clusters/{clusterName}/assume-role-for-pod-identity"
    (AssumeRoleForPodIdentityRequest {
        pub cluster_name: String,
        pub token: String,
        /// Where the pod runs, as the agent sees it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub eks_node_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub instance_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub zone: Option<String>,
    }) -> AssumeRoleForPodIdentityResponse {
        pub subject: Subject,
        /// Always `pods.eks.amazonaws.com`.
        pub audience: String,
        pub pod_identity_association: PodIdentityAssociation,
        pub assumed_role_user: AssumedRoleUser,
        pub credentials: Credentials,
    }
}

structures! {
    case "camelCase";

    /// The service account.
    Subject {
        pub namespace: String,
        pub service_account: String,
    }

    PodIdentityAssociation {
        pub association_arn: String,
        pub association_id: String,
    }

    /// The session that was made.
    AssumedRoleUser {
        pub arn: String,
        /// `AROA…:eks-CLUSTER-POD-UUID`
        pub assume_role_id: String,
    }

    Credentials {
        pub session_token: String,
        pub secret_access_key: String,
        pub access_key_id: String,
        pub expiration: f64,
    }
}
