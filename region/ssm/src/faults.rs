//! Systems Manager's refusals, with its codes and words.

use aws_wire::Fault;
use region_gateway::Caller;

pub(crate) fn not_connected(target: &str) -> Fault {
    Fault::new("TargetNotConnected", format!("{target} is not connected."))
}

pub(crate) fn no_document(name: &str) -> Fault {
    Fault::new("InvalidDocument", format!("Document with name {name} does not exist."))
}

pub(crate) fn parameters(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameters", message)
}

pub(crate) fn no_session(id: &str) -> Fault {
    Fault::new("DoesNotExistException", format!("Session with id {id} does not exist."))
}

pub(crate) fn validation(message: impl Into<String>) -> Fault {
    Fault::new("ValidationException", message)
}

pub(crate) fn filter_key(key: &str) -> Fault {
    Fault::new("InvalidFilterKey", format!("The filter key {key} is not valid."))
}

pub(crate) fn busy(message: impl Into<String>) -> Fault {
    Fault::new("ThrottlingException", message)
}

pub(crate) fn not_the_instance(caller: &Caller, instance: &str) -> Fault {
    let message = format!("{} is not the instance {instance}", caller.arn);
    Fault::new("AccessDeniedException", message)
}
