//! temporary
use serde_json::Value;

use crate::{resources::Resource, status::FieldError, strategy::Part};

pub(crate) fn create(_resource: &Resource, object: &Value) -> Vec<FieldError> {
    let name = crate::resources::meta(object, "name");
    if name.is_empty() {
        vec![FieldError::required("metadata.name", "name or generateName is required")]
    } else {
        Vec::new()
    }
}

pub(crate) fn update(
    _resource: &Resource,
    _part: Part,
    _old: &Value,
    _new: &Value,
) -> Vec<FieldError> {
    Vec::new()
}
