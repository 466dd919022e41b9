//! EKS: shapes of the operations.
//!
//! The protocol is rest-json: labels of the path are fields of the request, dates are seconds since
//! 1970.

/// Ties an operation's name to its method, path and shapes.
macro_rules! operation {
    ($name:ident, $method:literal, $path:literal, $request:ty, $response:ty) => {
        impl aws_wire::Operation for $name {
            const SERVICE: &'static str = "eks";
            const ACTION: &'static str = stringify!($name);
            const HTTP: aws_wire::Http = aws_wire::Http { method: $method, path: $path };
            type Request = $request;
            type Response = $response;
        }
    };
}

pub mod access;
pub mod addon;
pub mod cluster;
pub mod fargate;
pub mod lookup;
pub mod nodegroup;
pub mod pod_identity;
pub mod tags;
pub mod update;

pub use self::{
    access::*, addon::*, cluster::*, fargate::*, lookup::*, nodegroup::*, pod_identity::*, tags::*,
    update::*,
};
