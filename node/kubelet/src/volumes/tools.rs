//! Programs of the host without which a kind of volume cannot be had.
//!
//! Upstream: `pkg/volume/iscsi/iscsi_util.go`, which runs `iscsiadm` and tells that it is not there.

use std::{env, path::Path};

use k8s_openapi::api::core::v1::Volume;

use super::claims::Bound;

const ISCSI: &str = "iscsiadm";

/// The program that a volume needs and that is not there.
pub(super) fn missing(volume: &Volume, bound: Option<&Bound>) -> Option<&'static str> {
    let of_claim =
        bound.and_then(|it| it.volume.spec.as_ref()).is_some_and(|it| it.iscsi.is_some());
    let is_wanted = volume.iscsi.is_some() || of_claim;
    let paths = env::var_os("PATH").unwrap_or_default();
    let is_there = || env::split_paths(&paths).any(|it| is_program(&it.join(ISCSI)));
    (is_wanted && !is_there()).then_some(ISCSI)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_iscsi_needs_a_program() {
        let volume = |it| serde_json::from_value::<Volume>(it).unwrap();
        let iscsi = json!({ "name": "v", "iscsi": { "iqn": "i", "lun": 0, "targetPortal": "t" } });
        let is_there = env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .any(|it| is_program(&it.join(ISCSI)));
        assert_eq!(missing(&volume(iscsi), None).is_some(), !is_there);
        assert_eq!(missing(&volume(json!({ "name": "v", "emptyDir": {} })), None), None);
        assert!(is_program(Path::new("/bin/sh")) && !is_program(Path::new("/etc/passwd")));
    }
}
