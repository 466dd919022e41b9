//! What the configuration files of Kubernetes' components have in common: Go's durations, and fields
//! that nobody knows.
//!
//! Upstream: `k8s.io/component-base/config`, `k8s.io/apimachinery/pkg/runtime/serializer`.

pub mod duration;
mod unknown;

pub use self::unknown::unknown_fields;
