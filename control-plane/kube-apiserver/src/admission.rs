//! Changes and refusals of objects on their way in. (Builder A2's; see the signatures below.)

use serde_json::Value;

use crate::{
    registry::Reader,
    request::{RequestInfo, UserInfo},
    status::Status,
};

/// What admission plugins may look at.
#[derive(Clone, Debug)]
pub struct Context {
    pub objects: Reader,
    pub clock: clock::Clock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// May change `new` and may refuse. For `Delete`, `new` is the object that is to go.
pub async fn admit(
    _context: &Context,
    _operation: Operation,
    _user: &UserInfo,
    _request: &RequestInfo,
    _old: Option<&Value>,
    _new: &mut Value,
) -> Result<(), Status> {
    Ok(())
}
