//! What drivers are told about the devices that they prepare.

use serde_json::Value;

use super::{Faults, claims::Names, text, volumes};
use crate::status::FieldError;

/// `DeviceConfigMaxSize`
pub(super) const CONFIGURATIONS: usize = 32;
const PARAMETERS_LENGTH: usize = 10 * 1024;

/// The configurations of a class, or of a claim with those requests.
pub(super) fn all(
    faults: &mut Faults,
    field: &str,
    list: &Value,
    names: Option<&Names<'_>>,
    is_stored: bool,
) {
    if !super::is_short(faults, field, list, CONFIGURATIONS) {
        return;
    }
    for (index, it) in list.as_array().into_iter().flatten().enumerate() {
        let at = format!("{field}[{index}]");
        if let Some(names) = names {
            names.check_all(faults, &format!("{at}.requests"), &it["requests"]);
        }
        opaque(faults, &format!("{at}.opaque"), &it["opaque"], is_stored);
    }
}

pub(super) fn opaque(faults: &mut Faults, at: &str, opaque: &Value, is_stored: bool) {
    if !opaque.is_object() {
        return faults.required(at);
    }
    volumes::driver(faults, &format!("{at}.driver"), text(opaque, "driver"));
    let most = if is_stored { usize::MAX } else { PARAMETERS_LENGTH };
    object(faults, &format!("{at}.parameters"), &opaque["parameters"], most);
}

/// An object of the driver's.
pub(super) fn object(faults: &mut Faults, field: &str, value: &Value, most: usize) {
    if value.is_null() {
        faults.required(field);
    } else if value.to_string().len() > most {
        faults.add(FieldError::too_long(field, most));
    } else if !value.is_object() {
        faults.invalid(field, "<value omitted>", "must be a valid JSON object");
    }
}
