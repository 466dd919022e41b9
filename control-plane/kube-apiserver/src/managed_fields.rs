//! temporary
use serde_json::Value;

use crate::server::Call;

pub(crate) fn on_create(_call: &Call, object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

pub(crate) fn on_update(_call: &Call, _old: &Value, new: &mut Value) {
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}
