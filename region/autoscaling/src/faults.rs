//! Auto Scaling's fault codes.

use aws_wire::{CallError, Fault};

pub(crate) fn validation(message: impl Into<String>) -> Fault {
    Fault::new("ValidationError", message)
}

/// What EC2 has against a request's parameter is what Auto Scaling has against it.
pub(crate) fn of_call(error: &CallError) -> Fault {
    match error.fault() {
        Some(fault) => validation(fault.message.clone()),
        None => Fault::internal(error.to_string()),
    }
}

pub(crate) fn no_such_group(name: &str) -> Fault {
    validation(format!("AutoScalingGroup name not found - AutoScalingGroup '{name}' not found"))
}

pub(crate) fn no_such_member(id: &str) -> Fault {
    validation(format!("Instance Id not found - No managed instance found for instance ID: {id}"))
}

pub(crate) fn unsupported(what: &str) -> Fault {
    validation(format!("{what} are not supported in this region."))
}
