//! What a user types: one file per command.

pub(crate) mod completion;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod env;
pub(crate) mod explain;
pub(crate) mod image;
pub(crate) mod interrupt;
pub(crate) mod kubeconfig;
pub(crate) mod logs;
pub(crate) mod plan;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod up;
