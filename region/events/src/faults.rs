//! EventBridge's faults.

use aws_wire::Fault;

use crate::pattern::PatternError;

pub(crate) fn no_rule(name: &str, bus: &str) -> Fault {
    Fault::new(
        "ResourceNotFoundException",
        format!("Rule {name} does not exist on EventBus {bus}."),
    )
}

pub(crate) fn no_bus(name: &str) -> Fault {
    Fault::new("ResourceNotFoundException", format!("Event bus {name} does not exist."))
}

pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("ValidationException", message)
}

/// In EventBridge's words.
pub(crate) fn parameter(name: &str, reason: &str) -> Fault {
    invalid(format!("Parameter {name} is not valid. Reason: {reason}"))
}

pub(crate) fn limit(message: impl Into<String>) -> Fault {
    Fault::new("LimitExceededException", message)
}

pub(crate) fn bad_pattern(error: &PatternError) -> Fault {
    Fault::new(
        "InvalidEventPatternException",
        format!("Event pattern is not valid. Reason: {error}"),
    )
}
