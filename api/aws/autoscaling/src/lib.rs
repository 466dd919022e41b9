//! EC2 Auto Scaling: the shapes of its operations, and nothing else.
//!
//! Deviation: only the fields that some component of ours reads or writes are here.

pub mod activity;
pub mod capacity;
pub mod group;
pub mod instance;
pub mod instance_refresh;
pub mod instance_requirements;
pub mod kinds;
pub mod launch_configuration;
pub mod lifecycle_hook;
pub mod other;
pub mod policy;
pub mod process;
pub mod scheduled_action;
pub mod standby;
pub mod tag;
pub mod warm_pool;
