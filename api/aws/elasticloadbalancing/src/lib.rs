//! Elastic Load Balancing, classic: the shapes of its operations, one file per noun.
//!
//! API reference: Elastic Load Balancing, version 2012-06-01.

pub mod attribute;
pub mod instance;
pub mod listener;
pub mod load_balancer;
pub mod policy;
pub mod tag;
