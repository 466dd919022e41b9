//! ECR: the shapes of its operations, and nothing else.
//!
//! API reference: Amazon ECR, version 2015-09-21 (json-1.1).

pub mod image;
pub mod layer;
pub mod lifecycle;
pub mod policy;
pub mod repository;
pub mod tag;
pub mod token;

/// Names an operation and its shapes.
macro_rules! operation {
    ($(#[$doc:meta])* $name:ident: $request:ty => $response:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl aws_wire::Operation for $name {
            const SERVICE: &'static str = "ecr";
            const ACTION: &'static str = stringify!($name);
            type Request = $request;
            type Response = $response;
        }
    };
}

use operation;
