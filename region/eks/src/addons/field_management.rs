//! Whose value stays where somebody has changed a field of an add-on that EKS manages: server-side
//! apply as manager `eks`, and `resolveConflicts`.
//!
//! `OVERWRITE` takes the fields over. `PRESERVE` leaves those that others have changed, and manages
//! them no more. `NONE`, which is the default, changes nothing where there is a conflict and fails with
//! `ConfigurationConflict`. At creation `PRESERVE` is as `NONE`.

use aws_wire::Fault;
use kube::{
    Api, Error,
    api::{DynamicObject, Patch, PatchParams},
    core::Status,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults;

const MANAGER: &str = "eks";

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ResolveConflicts {
    #[default]
    None,
    Overwrite,
    Preserve,
}

impl ResolveConflicts {
    pub(crate) fn of_update(text: Option<&str>) -> Result<Self, Fault> {
        match text {
            None | Some("NONE") => Ok(Self::None),
            Some("OVERWRITE") => Ok(Self::Overwrite),
            Some("PRESERVE") => Ok(Self::Preserve),
            Some(other) => Err(faults::invalid_parameter(format!(
                "resolveConflicts {other} is not one of OVERWRITE, NONE, PRESERVE"
            ))),
        }
    }

    pub(crate) fn of_creation(text: Option<&str>) -> Result<Self, Fault> {
        Ok(match Self::of_update(text)? {
            Self::Preserve => Self::None,
            other => other,
        })
    }
}

/// What others have changed of `object`, as far as the API server can say without changing it.
pub(crate) async fn conflicts(
    api: &Api<DynamicObject>,
    name: &str,
    object: &Value,
) -> Result<Vec<String>, Error> {
    let params = PatchParams { dry_run: true, ..PatchParams::apply(MANAGER) };
    match api.patch(name, &params, &Patch::Apply(object)).await {
        Err(Error::Api(status)) if !contested(&status).is_empty() => Ok(contested(&status)),
        // What the definition of comes with the same add-on cannot be tried yet.
        Err(Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        result => result.map(|_| Vec::new()),
    }
}

/// Makes the object as it is wanted, but for what others keep.
pub(crate) async fn apply(
    api: &Api<DynamicObject>,
    name: &str,
    mut object: Value,
    mode: ResolveConflicts,
) -> Result<(), Error> {
    let is_forced = mode == ResolveConflicts::Overwrite;
    let params = PatchParams { force: is_forced, ..PatchParams::apply(MANAGER) };
    loop {
        match api.patch(name, &params, &Patch::Apply(&object)).await {
            Err(Error::Api(status)) if mode == ResolveConflicts::Preserve => {
                let mut has_less = false;
                for field in contested(&status) {
                    has_less |= leave_out(&mut object, &field);
                }
                if !has_less {
                    return Err(Error::Api(status));
                }
            }
            result => return result.map(drop),
        }
    }
}

/// The fields that other managers have other values in.
fn contested(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|it| &it.causes);
    let causes = causes.filter(|it| it.reason == "FieldManagerConflict");
    causes.map(|it| it.field.clone()).collect()
}

/// Takes a field away that is written as the API server writes it in a conflict:
/// `.spec.containers[name="a"].image`. A name may have dots itself: it is the one that is there.
fn leave_out(value: &mut Value, path: &str) -> bool {
    if let Some(path) = path.strip_prefix('.') {
        let Some(fields) = value.as_object_mut() else { return false };
        if fields.remove(path).is_some() {
            return true;
        }
        let within = |name: &str| path.strip_prefix(name).filter(|it| it.starts_with(['.', '[']));
        let mut known = fields.iter_mut().filter_map(|(name, it)| Some((within(name)?, it)));
        return known.any(|(rest, it)| leave_out(it, rest));
    }
    let Some(items) = value.as_array_mut() else { return false };
    let Some((place, rest)) = items.iter().enumerate().find_map(|(number, it)| {
        let rest = path.strip_prefix('[').and_then(|path| within_item(path, it))?;
        Some((number, rest))
    }) else {
        return false;
    };
    if rest.is_empty() {
        items.remove(place);
        return true;
    }
    leave_out(&mut items[place], rest)
}

/// What follows `name="a",port=1]` where the item is the one that is meant.
fn within_item<'a>(mut path: &'a str, item: &Value) -> Option<&'a str> {
    loop {
        let (name, rest) = path.split_once('=')?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let wanted = values.next()?.ok()?;
        let rest = &rest[values.byte_offset()..];
        let found = if name.is_empty() { Some(item) } else { item.get(name) };
        if found != Some(&wanted) {
            return None;
        }
        match rest.strip_prefix(',') {
            Some(more) => path = more,
            None => return rest.strip_prefix(']'),
        }
    }
}

#[cfg(test)]
mod tests;
