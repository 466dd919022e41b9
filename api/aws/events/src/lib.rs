//! Amazon EventBridge: the shapes of its operations, and nothing else.

pub mod event;
pub mod rule;
pub mod tag;
pub mod target;
