//! The bodies of the fuzz targets: each takes any bytes and panics where something is wrong.
//!
//! `fuzz/` runs them under libFuzzer (`make fuzz`), the test of this crate over the seeds and some
//! thousand mutations of them (`make unit`), so that a target that no longer builds, or fails on what is
//! at hand, is noticed at once.

mod cni_stdin;
mod kube;
mod kube_apply;
mod kube_cel;
mod kube_patch;
mod kube_protobuf;
mod kube_schema;
mod kube_selectors;
mod kube_watch;
mod query;
mod sigv4;
mod user_data;

/// A target's name, which is also its seeds' folder, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 11] = [
    ("sigv4", sigv4::run),
    ("query", query::run),
    ("user_data", user_data::run),
    ("cni_stdin", cni_stdin::run),
    ("kube_patch", kube_patch::run),
    ("kube_apply", kube_apply::run),
    ("kube_selectors", kube_selectors::run),
    ("kube_watch", kube_watch::run),
    ("kube_protobuf", kube_protobuf::run),
    ("kube_cel", kube_cel::run),
    ("kube_schema", kube_schema::run),
];

/// Feeds one input to a target.
///
/// # Panics
///
/// Where there is no such target, and where the input shows a mistake.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(it, _)| *it == name);
    let (_, body) = target.expect("a target of this name");
    body(data);
}
