//! StorageObjectInUseProtection, DefaultStorageClass and PersistentVolumeClaimResize.
//!
//! Upstream: plugin/pkg/admission/storage.

use std::{cmp::Reverse, sync::Arc};

use api_kube::annotations::DEFAULT_STORAGE_CLASS;
use resources::Quantity;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::{
    authz::{Objects, text},
    status::Status,
};

const CLASSES: &str = "storageclasses.storage.k8s.io";
const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";
/// As the annotations were called before there was a field.
const OLD_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";
const OLD_CLASS: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";

pub(super) fn admit(objects: &dyn Objects, attributes: &Attributes<'_>, new: &mut Value) {
    if attributes.is(Operation::Create, "", "persistentvolumeclaims") {
        protect(new, OF_CLAIMS);
        choose_class(objects, new);
    }
    if attributes.is(Operation::Create, "", "persistentvolumes") {
        protect(new, OF_VOLUMES);
    }
    if attributes.is(Operation::Create, "storage.k8s.io", "volumeattributesclasses") {
        protect(new, OF_CLASSES);
    }
}

/// What is in use does not go: a controller takes the finalizer away when it is not any more.
fn protect(object: &mut Value, finalizer: &str) {
    let all = &mut object["metadata"]["finalizers"];
    match all.as_array_mut() {
        Some(all) if all.iter().any(|it| it == finalizer) => {}
        Some(all) => all.push(finalizer.into()),
        None => *all = json!([finalizer]),
    }
}

/// A claim that names no class gets the default one: of several the youngest, of those of one moment
/// the first by name.
fn choose_class(objects: &dyn Objects, claim: &mut Value) {
    let is_named = claim.pointer("/spec/storageClassName").is_some_and(|it| !it.is_null())
        || claim.pointer(OLD_CLASS).is_some();
    if is_named {
        return;
    }
    let classes = objects.list(CLASSES, "");
    let is_default = |it: &&Arc<Value>| {
        let annotations = &it["metadata"]["annotations"];
        [DEFAULT_STORAGE_CLASS, OLD_DEFAULT].iter().any(|name| annotations[name] == "true")
    };
    let youngest = |it: &&Arc<Value>| {
        let made = text(it, "/metadata/creationTimestamp").to_owned();
        (made, Reverse(text(it, "/metadata/name").to_owned()))
    };
    if let Some(class) = classes.iter().filter(is_default).max_by_key(youngest) {
        claim["spec"]["storageClassName"] = text(class, "/metadata/name").into();
    }
}

/// A claim grows only where its class allows that.
pub(super) fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    new: &Value,
) -> Result<(), Status> {
    let Some(old) = attributes.old else { return Ok(()) };
    if !attributes.is(Operation::Update, "", "persistentvolumeclaims") {
        return Ok(());
    }
    let size = |claim: &Value| {
        let text = text(claim, "/spec/resources/requests/storage");
        text.parse::<Quantity>().unwrap_or(Quantity::ZERO)
    };
    if size(new) <= size(old) {
        return Ok(());
    }
    if text(old, "/status/phase") != "Bound" {
        let why = "Only bound persistent volume claims can be expanded";
        return Err(attributes.forbidden(new, why));
    }
    let class = class(new);
    let allows = !class.is_empty()
        && class == self::class(old)
        && objects.get(CLASSES, "", class).is_some_and(|it| it["allowVolumeExpansion"] == true);
    if allows {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions \
               the pvc must support resize";
    Err(attributes.forbidden(new, why))
}

fn class(claim: &Value) -> &str {
    match text(claim, OLD_CLASS) {
        "" => text(claim, "/spec/storageClassName"),
        old => old,
    }
}
