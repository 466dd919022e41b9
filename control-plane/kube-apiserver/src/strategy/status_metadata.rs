//! Which metadata a write to `/status` changes besides the status.
//!
//! Upstream's strategies of most kinds put only the old `spec` back, so that who may write a status
//! may write labels and annotations too. Some put them back: those of Deployments (labels alone),
//! and of everything younger, custom resources above all.
//!
//! Upstream: `PrepareForUpdate` of the `statusStrategy` in pkg/registry; `ResetObjectMetaForStatus`.

use crate::resources::Resource;

pub(super) fn changed(resource: &Resource) -> &'static [&'static str] {
    if resource.custom.is_some() {
        return &[];
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", "deployments") => &["annotations"],
        (
            "admissionregistration.k8s.io"
            | "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "resource.k8s.io"
            | "storage.k8s.io",
            _,
        ) => &[],
        _ => &["labels", "annotations"],
    }
}
