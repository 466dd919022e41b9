//! One AWS API operation as a type: its service, its name and the shapes that cross the wire.
//!
//! The client and the region are both generic over [`Operation`], so neither can send what the
//! other cannot read.

use serde::{Serialize, de::DeserializeOwned};

/// See the module. Implemented by an empty enum per operation in the `aws-*` crates.
pub trait Operation: 'static {
    /// The signing name: `ec2`, `iam`, `sts`, `eks`, `eks-auth`, `autoscaling`, `ssm`,
    /// `ssmmessages`, `ecr`, `elasticloadbalancing`, `sqs`, `events`.
    const SERVICE: &'static str;
    const ACTION: &'static str;
    /// Only REST protocols differ from the default.
    const HTTP: Http = Http { method: "POST", path: "/" };
    type Request: Serialize + DeserializeOwned + Send + 'static;
    type Response: Serialize + DeserializeOwned + Send + 'static;
}

/// Where a REST operation lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    pub method: &'static str,
    /// `/clusters/{name}/node-groups/{nodegroupName}`: labels are fields of the request. In a
    /// `GET` or `DELETE` all other fields are query parameters, else they are the body.
    pub path: &'static str,
}
