//! Label selectors of the API as something that matches.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

/// `None` when the selector is missing or malformed: as upstream, such a selector selects nothing.
/// An empty one selects everything.
pub fn selector(selector: Option<&LabelSelector>) -> Option<Selector> {
    selector?.clone().try_into().ok()
}

/// Whether `selector` selects an object with these labels.
pub fn matches(selector: &Selector, labels: Option<&BTreeMap<String, String>>) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    selector.matches(labels.unwrap_or(&NONE))
}
