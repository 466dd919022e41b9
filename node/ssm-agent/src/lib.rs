//! The agent of Systems Manager: sessions and commands on an instance.
//!
//! It says what its instance is, keeps a control channel to the message gateway with the rights of
//! the instance's role, and for each session that it is handed a data channel: a shell of `ssm-user` on
//! a terminal, a command, or a connection to a port.
//!
//! **Invariant:** nothing of a session runs on when the session has ended.
//!
//! Deviation: `amazon-ssm-agent` is a daemon with workers, plug-ins and a configuration file; here is
//! what sessions and `AWS-RunShellScript` need. It says to be a version whose port forwarding carries
//! one connection at a time, so that clients do not multiplex. No encryption by KMS, no logs to S3 or
//! CloudWatch, no run-as but `ssm-user`.
//!
//! Deviation: where the instance's role has no rights the agent ends, and takes no memory; init starts it
//! again, at last every five minutes. `amazon-ssm-agent` stays, and asks less and less often.

pub mod command;
mod control;
mod gateway;
mod link;
mod port;
mod program;
mod script;
mod session;
mod stream;
mod terminal;
mod user;

/// What clients are told: later ones multiplex connections to a port.
const VERSION: &str = "3.0.161.0";
