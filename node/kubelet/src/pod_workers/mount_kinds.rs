//! What a container's mount asks for beside the volume: a part of it, and how deep read-only goes.
//!
//! Upstream: `makeMounts` and `resolveRecursiveReadOnly` in `pkg/kubelet/kubelet_pods.go`.

use std::cell::RefCell;

use k8s_openapi::api::core::v1::VolumeMount;

use crate::expand::expand;

/// The part of the volume that is mounted; `None` for all of it.
pub(super) fn subpath<'a>(
    mount: &VolumeMount,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<Option<String>, String> {
    let plain = mount.sub_path.as_deref().filter(|it| !it.is_empty());
    let Some(text) = mount.sub_path_expr.as_deref().filter(|it| !it.is_empty()) else {
        return Ok(plain.map(str::to_owned));
    };
    let missing = RefCell::new(Vec::new());
    let expanded = expand(text, |name| {
        let found = lookup(name);
        if found.is_none() {
            missing.borrow_mut().push(format!("missing value for {name:?}"));
        }
        found
    });
    let missing = missing.into_inner();
    match missing.as_slice() {
        [] => Ok(Some(expanded)),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

/// Whether a mount asks for more than to be read-only itself.
pub(super) fn asks_recursive(mount: &VolumeMount) -> bool {
    mount.recursive_read_only.as_deref().is_some_and(|it| it != "Disabled")
}

/// Whether what is mounted below a mount is read-only too; `able` says what the runtime can do.
pub(super) fn is_recursive_read_only(mount: &VolumeMount, able: bool) -> Result<bool, String> {
    let name = &mount.name;
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    if mode == "Disabled" {
        return Ok(false);
    }
    let asked = format!("volume {name:?} requested recursive read-only mode, but it is not");
    if mount.read_only != Some(true) {
        return Err(format!("{asked} read-only"));
    }
    let propagation = mount.mount_propagation.as_deref().unwrap_or("None");
    if propagation != "None" {
        return Err(format!("{asked} compatible with propagation {propagation:?}"));
    }
    match mode {
        "IfPossible" => Ok(able),
        "Enabled" if able => Ok(true),
        "Enabled" => Err(format!("{asked} supported by the runtime")),
        other => Err(format!("unknown recursive read-only mode {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mount(changes: serde_json::Value) -> VolumeMount {
        let mut it = json!({ "name": "v", "mountPath": "/v" });
        it.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn a_part_may_be_named_by_variables_that_exist() {
        let lookup = |name: &str| (name == "A").then_some("a");
        let ask = |changes| subpath(&mount(changes), lookup);
        assert_eq!(ask(json!({})), Ok(None));
        assert_eq!(ask(json!({ "subPath": "x/$(A)" })), Ok(Some("x/$(A)".to_owned())));
        assert_eq!(ask(json!({ "subPathExpr": "x/$(A)" })), Ok(Some("x/a".to_owned())));
        let missing = ask(json!({ "subPathExpr": "$(B)" }));
        assert_eq!(missing, Err("missing value for \"B\"".to_owned()));
    }

    #[test]
    fn recursive_read_only_is_refused_in_upstreams_words() {
        let ask = |changes| is_recursive_read_only(&mount(changes), false);
        assert_eq!(ask(json!({})), Ok(false));
        assert_eq!(ask(json!({ "recursiveReadOnly": "Disabled" })), Ok(false));
        let asked = |mode| json!({ "recursiveReadOnly": mode, "readOnly": true });
        assert_eq!(ask(asked("IfPossible")), Ok(false));
        for mode in ["IfPossible", "Enabled"] {
            assert_eq!(is_recursive_read_only(&mount(asked(mode)), true), Ok(true));
        }
        assert_eq!(
            ask(json!({ "recursiveReadOnly": "Enabled", "readOnly": true })).unwrap_err(),
            "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime"
        );
        assert_eq!(
            ask(json!({ "recursiveReadOnly": "Enabled" })).unwrap_err(),
            "volume \"v\" requested recursive read-only mode, but it is not read-only"
        );
        let wide = json!({ "recursiveReadOnly": "IfPossible", "readOnly": true, "mountPropagation": "HostToContainer" });
        assert!(
            ask(wide).unwrap_err().ends_with("not compatible with propagation \"HostToContainer\"")
        );
    }
}
