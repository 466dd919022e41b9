//! The faults that many operations share, with EC2's codes and wording.

use aws_wire::{Fault, StatusCode};

use crate::state::Record;

/// Not there, or not an id of that type at all.
pub(crate) fn no_such<T: Record>(id: &str) -> Fault {
    if !T::PREFIX.is_empty() && !is_id(id, T::PREFIX) {
        return malformed::<T>(id);
    }
    let (code, noun) = (T::CODE, T::NOUN);
    match T::TYPE {
        "natgateway" => {
            Fault::new("NatGatewayNotFound", format!("The Nat Gateway {id} was not found"))
        }
        "vpc-endpoint" => Fault::new(
            "InvalidVpcEndpointId.NotFound",
            format!("The Vpc Endpoint Id '{id}' does not exist"),
        ),
        "image" => {
            Fault::new("InvalidAMIID.NotFound", format!("The image id '[{id}]' does not exist"))
        }
        "launch-template" => Fault::new(
            "InvalidLaunchTemplateId.NotFound",
            format!("The launch template ID '{id}' does not exist."),
        ),
        "placement-group" => Fault::new(
            "InvalidPlacementGroup.Unknown",
            format!("The placement group '{id}' is unknown."),
        ),
        "security-group" => {
            Fault::new("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"))
        }
        _ => Fault::new(format!("{code}.NotFound"), format!("The {noun} ID '{id}' does not exist")),
    }
}

fn malformed<T: Record>(id: &str) -> Fault {
    let code = match T::TYPE {
        "security-group" => "InvalidGroupId.Malformed".to_owned(),
        "natgateway" => "NatGatewayMalformed".to_owned(),
        "instance" | "image" => format!("{}.Malformed", T::CODE),
        _ => format!("{}.Malformed", T::CODE.replace("ID", "Id")),
    };
    Fault::new(code, format!("Invalid id: \"{id}\" (expecting \"{}...\")", T::PREFIX))
}

fn is_id(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix).is_some_and(|rest| {
        matches!(rest.len(), 8 | 17)
            && rest.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
    })
}

/// For operations that take ids of any type.
pub(crate) fn unknown_id(id: &str) -> Fault {
    Fault::new("InvalidID", format!("The ID '{id}' is not valid"))
}

pub(crate) fn missing(parameter: &str) -> Fault {
    Fault::new("MissingParameter", format!("The request must contain the parameter {parameter}"))
}

pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterValue", message)
}

pub(crate) fn invalid_value(parameter: &str, value: impl std::fmt::Display) -> Fault {
    invalid(format!("Value ({value}) for parameter {parameter} is invalid."))
}

pub(crate) fn combination(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterCombination", message)
}

pub(crate) fn dependency(message: impl Into<String>) -> Fault {
    Fault::new("DependencyViolation", message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> Fault {
    Fault::new("UnsupportedOperation", message)
}

pub(crate) fn incorrect_state(message: impl Into<String>) -> Fault {
    Fault::new("IncorrectInstanceState", message)
}

pub(crate) fn dry_run() -> Fault {
    let message = "Request would have succeeded, but DryRun flag is set.";
    Fault::new("DryRunOperation", message).with_status(StatusCode::PRECONDITION_FAILED)
}
