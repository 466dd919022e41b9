//! Faults that the gateway itself answers, with the code of each protocol.

use aws_wire::{
    Fault, StatusCode,
    service::{Protocol, Service},
    sigv4::Problem,
    tree::ShapeError,
};

/// Why a caller is not known.
#[derive(Debug)]
pub(crate) enum Unauthenticated {
    NotSigned,
    UnknownKey,
    ExpiredToken,
    BadSignature(Problem),
    WrongRegion { given: String, expected: String },
    WrongService { expected: String },
}

const INVALID_TOKEN: &str = "The security token included in the request is invalid.";
const NOT_VALIDATED: &str = "AWS was not able to validate the provided access credentials";

pub(crate) fn unauthenticated(service: &Service, why: Unauthenticated) -> Fault {
    let is_ec2 = service.protocol == Protocol::Ec2;
    let (query, json, message) = match why {
        Unauthenticated::NotSigned if is_ec2 => {
            return Fault::new("AuthFailure", NOT_VALIDATED).with_status(StatusCode::UNAUTHORIZED);
        }
        Unauthenticated::NotSigned => (
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "Request is missing Authentication Token".to_owned(),
        ),
        Unauthenticated::UnknownKey | Unauthenticated::BadSignature(Problem::Mismatch)
            if is_ec2 =>
        {
            return Fault::new("AuthFailure", NOT_VALIDATED).with_status(StatusCode::UNAUTHORIZED);
        }
        Unauthenticated::UnknownKey => {
            ("InvalidClientTokenId", "UnrecognizedClientException", INVALID_TOKEN.to_owned())
        }
        Unauthenticated::ExpiredToken | Unauthenticated::BadSignature(Problem::Expired(_))
            if is_ec2 =>
        {
            return Fault::new("RequestExpired", "Request has expired.");
        }
        Unauthenticated::ExpiredToken => (
            "ExpiredToken",
            "ExpiredTokenException",
            "The security token included in the request is expired".to_owned(),
        ),
        Unauthenticated::BadSignature(problem) => {
            let message = problem.to_string();
            match problem {
                Problem::Incomplete(_) => {
                    let fault = match service.protocol {
                        Protocol::Query | Protocol::Ec2 => "IncompleteSignature",
                        _ => "IncompleteSignatureException",
                    };
                    return Fault::new(fault, message);
                }
                Problem::Mismatch | Problem::Expired(_) => {
                    ("SignatureDoesNotMatch", "InvalidSignatureException", message)
                }
            }
        }
        Unauthenticated::WrongRegion { given, expected } => (
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            format!(
                "Credential should be scoped to a valid region, not '{given}'. Use '{expected}'."
            ),
        ),
        Unauthenticated::WrongService { expected } => (
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            format!("Credential should be scoped to correct service: '{expected}'."),
        ),
    };
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => {
            Fault::new(query, message).with_status(StatusCode::FORBIDDEN)
        }
        Protocol::RestJson => Fault::new(json, message).with_status(StatusCode::FORBIDDEN),
        Protocol::Json11 => Fault::new(json, message),
        Protocol::Json10 => {
            Fault::new(json, message).with_status(StatusCode::FORBIDDEN).with_query_code(query)
        }
    }
}

/// AWS's codes; the words say too that it may be this region that lacks the operation.
pub(crate) fn unknown_action(service: &Service, action: &str) -> Fault {
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => Fault::new(
            "InvalidAction",
            format!(
                "The action {action} is not valid for this web service: this region does not serve \
                 it."
            ),
        ),
        Protocol::RestJson => {
            Fault::new("UnknownOperationException", "").with_status(StatusCode::NOT_FOUND)
        }
        Protocol::Json11 | Protocol::Json10 => Fault::new(
            "UnknownOperationException",
            format!("This region does not serve the operation {action}."),
        )
        .with_query_code("InvalidAction"),
    }
}

/// As AWS puts it.
pub(crate) fn unknown_version(action: &str, version: &str) -> Fault {
    Fault::new("InvalidAction", format!("Could not find operation {action} for version {version}"))
}

pub(crate) fn no_action() -> Fault {
    Fault::new("MissingAction", "The request must contain the parameter Action or Operation.")
}

pub(crate) fn malformed(service: &Service, message: &str) -> Fault {
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => Fault::new("MalformedQueryString", message),
        Protocol::RestJson | Protocol::Json11 => Fault::new("SerializationException", message),
        Protocol::Json10 => {
            Fault::new("SerializationException", message).with_query_code("MalformedQueryString")
        }
    }
}

/// EC2's refusal of what is no parameter of the operation.
pub(crate) fn unknown_parameter(name: &str) -> Fault {
    Fault::new("UnknownParameter", format!("The parameter {name} is not recognized"))
}

/// The request is not of the operation's shape.
pub(crate) fn misshapen(service: &Service, error: &ShapeError) -> Fault {
    let text = error.to_string();
    let missing = text.find("missing field `").map(|at| &text[at + "missing field `".len()..]);
    let missing = missing.and_then(|rest| rest.split('`').next());
    match (service.protocol, missing) {
        (Protocol::Ec2, Some(name)) => {
            Fault::new("MissingParameter", format!("The request must contain the parameter {name}"))
        }
        (Protocol::Ec2, None) => Fault::new("InvalidParameterValue", text),
        (Protocol::Query, Some(name)) => Fault::new(
            "ValidationError",
            format!(
                "1 validation error detected: Value null at '{}' failed to satisfy constraint: \
                 Member must not be null",
                lower_first(name)
            ),
        ),
        (Protocol::Query, None) => Fault::new("ValidationError", text),
        (Protocol::RestJson, Some(name)) => {
            Fault::new("InvalidParameterException", format!("{name} is required"))
        }
        (Protocol::Json10, Some(name)) => Fault::new(
            "MissingRequiredParameterException",
            format!("The request must contain the parameter {name}."),
        )
        .with_query_code("MissingParameter"),
        (Protocol::Json11, Some(name)) => Fault::new(
            "ValidationException",
            format!(
                "1 validation error detected: Value null at '{}' failed to satisfy constraint: \
                 Member must not be null",
                lower_first(name)
            ),
        ),
        (_, None) => Fault::new("SerializationException", text),
    }
}

fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    let first = characters.next().map(|it| it.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

pub(crate) fn too_large() -> Fault {
    Fault::new("RequestEntityTooLarge", "The request is too large.")
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// Clients come back after a pause.
pub(crate) fn busy() -> Fault {
    Fault::new("RequestLimitExceeded", "Request limit exceeded.")
        .with_status(StatusCode::SERVICE_UNAVAILABLE)
}

pub(crate) fn too_slow() -> Fault {
    Fault::new("RequestTimeout", "The request's body did not arrive in time.")
        .with_status(StatusCode::REQUEST_TIMEOUT)
}

pub(crate) fn cut_off() -> Fault {
    Fault::new("IncompleteBody", "The request's body ended before its end.")
}

/// For the record alone: nobody hears it.
pub(crate) fn abandoned() -> Fault {
    let message = "The client went away, or the region ended, before the answer.";
    let status = StatusCode::from_u16(499).expect("it is a status");
    Fault::new("RequestAbandoned", message).with_status(status)
}

pub(crate) fn not_ready() -> Fault {
    Fault::new("ServiceUnavailable", "The region is starting.")
        .with_status(StatusCode::SERVICE_UNAVAILABLE)
}

pub(crate) fn ending() -> Fault {
    Fault::new("ServiceUnavailable", "The region is ending.")
        .with_status(StatusCode::SERVICE_UNAVAILABLE)
}

/// A handler failed in a way that nobody foresaw; the process's log has it.
pub(crate) fn broken(service: &Service) -> Fault {
    let message = "An internal error has occurred";
    match service.protocol {
        Protocol::Ec2 => {
            Fault::new("InternalError", message).with_status(StatusCode::INTERNAL_SERVER_ERROR)
        }
        _ => Fault::internal(message),
    }
}

pub(crate) fn dry_run() -> Fault {
    Fault::new("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
        .with_status(StatusCode::PRECONDITION_FAILED)
}
