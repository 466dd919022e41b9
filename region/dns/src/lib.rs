//! The VPC resolver.
