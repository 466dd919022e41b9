//! Elastic Load Balancing's fault codes.

use aws_wire::{CallError, Fault};

pub(crate) fn validation(message: impl Into<String>) -> Fault {
    Fault::new("ValidationError", message)
}

pub(crate) fn no_load_balancer(name: &str) -> Fault {
    Fault::new("LoadBalancerNotFound", format!("There is no ACTIVE Load Balancer named '{name}'"))
}

pub(crate) fn configuration(message: impl Into<String>) -> Fault {
    Fault::new("InvalidConfigurationRequest", message)
}

pub(crate) fn no_policy(name: &str) -> Fault {
    Fault::new("PolicyNotFound", format!("There is no policy with name {name} for load balancer."))
}

/// EC2 was asked about something that it does not know; anything else is no fault of the caller.
pub(crate) fn of_call(error: &CallError, unknown: &str, fault: impl FnOnce() -> Fault) -> Fault {
    match error.fault() {
        Some(it) if it.code.starts_with(unknown) => fault(),
        Some(it) if !it.status.is_server_error() => validation(it.message.clone()),
        _ => Fault::internal(telemetry::chain(error).to_string()),
    }
}
