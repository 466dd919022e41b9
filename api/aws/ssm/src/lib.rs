//! Systems Manager: the shapes of its operations, and the messages of its sessions.

pub mod channel;
pub mod command;
pub mod instance;
pub mod message;
pub mod parameter;
pub mod session;
pub mod tag;
