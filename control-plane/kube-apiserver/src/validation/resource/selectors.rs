//! CEL expressions that choose devices. There is no `includes`: upstream's is behind a feature gate
//! that is off in 1.36 (`DRAListTypeAttributes`).
//!
//! Upstream: k8s.io/dynamic-resource-allocation/cel.

use serde_json::Value;

use super::Faults;
use crate::{
    cel::{self, Environment, Record, Type},
    status::FieldError,
};

const SELECTORS: usize = 32;
const LONGEST: usize = 10 * 1024;

pub(super) fn check(faults: &mut Faults, field: &str, list: &Value, is_stored: bool) {
    if !super::is_short(faults, field, list, SELECTORS) {
        return;
    }
    for (index, selector) in list.as_array().into_iter().flatten().enumerate() {
        let at = format!("{field}[{index}].cel");
        if !selector["cel"].is_object() {
            faults.required(at);
        } else if !is_stored {
            expression(faults, &format!("{at}.expression"), &selector["cel"]);
        }
    }
}

fn expression(faults: &mut Faults, field: &str, selector: &Value) {
    let text = super::text(selector, "expression");
    if text.len() > LONGEST {
        faults.add(FieldError::too_long(field, LONGEST));
    } else if let Err(why) = cel::compile(text, &environment(), &[]).and_then(|it| bool(&it.result))
    {
        faults.invalid(field, text, why);
    }
}

fn bool(of: &Type) -> Result<(), String> {
    if of.may_be(&Type::Bool) {
        return Ok(());
    }
    Err(format!("must evaluate to bool or the unknown type, not {of}"))
}

fn environment() -> Environment {
    let domains = || Type::map(Type::map(Type::Dyn));
    let device = [
        ("driver", Type::String),
        ("attributes", domains()),
        ("capacity", domains()),
        ("allowMultipleAllocations", Type::Bool),
    ];
    let device = device.map(|(name, of)| (name.to_owned(), of));
    let environment = Environment::default().with_bindings();
    environment.with("device", Record::of("kubernetes.DRADevice", device))
}
