//! SSM Parameter Store: the shapes of its operations, and nothing else.

pub mod parameter;
pub mod tag;
