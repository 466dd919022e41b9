//! SQS's faults: the code of today's protocol, and that of the one before it.
//!
//! Source: Amazon SQS API reference; botocore's model for the codes of today.

use aws_wire::Fault;

pub(crate) fn no_queue() -> Fault {
    Fault::new("QueueDoesNotExist", "The specified queue does not exist.")
        .with_query_code("AWS.SimpleQueueService.NonExistentQueue")
}

pub(crate) fn name_exists(attribute: &str) -> Fault {
    Fault::new(
        "QueueNameExists",
        format!(
            "A queue already exists with the same name and a different value for attribute \
             {attribute}"
        ),
    )
    .with_query_code("QueueAlreadyExists")
}

pub(crate) fn deleted_recently() -> Fault {
    Fault::new(
        "QueueDeletedRecently",
        "You must wait 60 seconds after deleting a queue before you can create another with the \
         same name.",
    )
    .with_query_code("AWS.SimpleQueueService.QueueDeletedRecently")
}

pub(crate) fn bad_address(url: &str) -> Fault {
    Fault::new("InvalidAddress", format!("The address {url} is not valid for this endpoint."))
        .with_query_code("InvalidAddress")
}

pub(crate) fn unsupported(message: impl Into<String>) -> Fault {
    Fault::new("UnsupportedOperation", message)
        .with_query_code("AWS.SimpleQueueService.UnsupportedOperation")
}

pub(crate) fn unknown_attribute(name: &str) -> Fault {
    Fault::new("InvalidAttributeName", format!("Unknown Attribute {name}."))
}

pub(crate) fn bad_attribute(name: &str) -> Fault {
    Fault::new("InvalidAttributeValue", format!("Invalid value for the parameter {name}."))
}

/// Of a parameter that is no attribute of a queue.
pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterValueException", message).with_query_code("InvalidParameterValue")
}

pub(crate) fn out_of_range(name: &str, value: i64, reason: &str) -> Fault {
    invalid(format!("Value {value} for parameter {name} is invalid. Reason: {reason}."))
}

pub(crate) fn bad_handle(handle: &str) -> Fault {
    Fault::new(
        "ReceiptHandleIsInvalid",
        format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
    )
}

pub(crate) fn not_in_flight(message: &str) -> Fault {
    Fault::new("MessageNotInflight", message)
        .with_query_code("AWS.SimpleQueueService.MessageNotInflight")
}

pub(crate) fn over_limit() -> Fault {
    Fault::new("OverLimit", "Too many messages in flight: 120000 at the most.")
        .with_query_code("OverLimit")
}

/// Clients come back after a pause.
pub(crate) fn throttled() -> Fault {
    Fault::new("RequestThrottled", "This region holds as many messages as it has room for.")
        .with_query_code("RequestThrottled")
}

/// `value` is the whole document.
pub(crate) fn no_dead_letter_queue(value: &str) -> Fault {
    invalid(format!(
        "Value {value} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not \
         exist."
    ))
}

pub(crate) fn purge_in_progress(name: &str) -> Fault {
    Fault::new(
        "PurgeQueueInProgress",
        format!("Only one PurgeQueue operation on {name} is allowed every 60 seconds."),
    )
    .with_query_code("AWS.SimpleQueueService.PurgeQueueInProgress")
}

pub(crate) fn bad_contents() -> Fault {
    Fault::new("InvalidMessageContents", "The message contains characters outside the allowed set.")
}
