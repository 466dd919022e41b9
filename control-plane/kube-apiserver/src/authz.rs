//! Who may do what. (Builder A2's; the signatures that the router calls are below.)

use serde_json::Value;

use crate::{
    registry::Reader,
    request::{RequestInfo, UserInfo},
};

#[derive(Clone, Debug)]
pub struct Authorizer {}

#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
}

impl Authorizer {
    pub fn new(_objects: Reader) -> Self {
        Self {}
    }

    pub fn authorize(&self, user: &UserInfo, _request: &RequestInfo) -> Decision {
        Decision { allowed: user.is_in("system:masters"), reason: String::new() }
    }
}

/// The RBAC objects that exist from the start.
pub fn bootstrap_objects() -> Vec<Value> {
    Vec::new()
}
