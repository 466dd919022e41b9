//! What is empty in a configuration, and left out by upstream's types.
//!
//! Who applies it owns it, and it is a change where there was something; but it is not kept.

use serde_json::{Map, Value};

use crate::{
    decode::{self, FieldValidation},
    resources::Resource,
    schema::{Object, check},
};

/// Leaves out what is empty in `object` and was not there in `live`: it is no change, nor a conflict
/// with others who apply the same.
///
/// Deviation: of two owners who apply an empty map or list upstream tells the second of a conflict, as
/// neither is there to be compared with.
pub(super) fn forget_new(live: &Value, object: &mut Value, resource: &Resource) {
    if let (Some(shape), Value::Object(fields)) = (decode::shape(resource), object) {
        forget(live, fields, &shape);
    }
}

fn forget(live: &Value, fields: &mut Map<String, Value>, shape: &Object) {
    fields.retain(|name, value| {
        let (Some(field), live) = (shape.fields.get(name), &live[name]) else { return true };
        if let (Value::Object(inner), Some(shape)) = (&mut *value, field.shape.object()) {
            forget(live, inner, &shape);
        }
        !(field.is_left_out_empty && live.is_null() && check::is_empty(value))
    });
}

/// Leaves out all that is empty.
pub(super) fn leave_out(object: &mut Value, resource: &Resource) {
    if let Some(shape) = decode::shape(resource) {
        // What is wrong with it was told when the configuration was read.
        let _was_told = decode::typed(resource, &shape, object, FieldValidation::Ignore);
    }
}
