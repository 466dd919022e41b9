//! What of the host a kind of volume needs before anything can be mounted: programs, disks.
//!
//! Upstream: `pkg/volume/iscsi/iscsi_util.go`, which runs `iscsiadm` and tells that it is not there;
//! `pkg/volume/fc/fc_util.go`, which looks for the disk of a target.

use std::{env, path::Path};

use k8s_openapi::api::core::v1::{FCVolumeSource, Volume};

use super::claims::Bound;

const ISCSI: &str = "iscsiadm";
const DISKS: &str = "/dev/disk";

/// Why a volume cannot be attached to this host, in upstream's words.
pub(super) fn missing(volume: &Volume, bound: Option<&Bound>) -> Option<String> {
    let of_claim = bound.and_then(|it| it.volume.spec.as_ref());
    if volume.iscsi.is_some() || of_claim.is_some_and(|it| it.iscsi.is_some()) {
        let paths = env::var_os("PATH").unwrap_or_default();
        let is_there = env::split_paths(&paths).any(|it| is_program(&it.join(ISCSI)));
        let text = || format!("exec: \"{ISCSI}\": executable file not found in $PATH");
        return (!is_there).then(text);
    }
    let disk = volume.fc.as_ref().or_else(|| of_claim.and_then(|it| it.fc.as_ref()))?;
    (!has_disk(Path::new(DISKS), disk)).then(|| "no fc disk found".to_owned())
}

/// Whether udev shows a disk of one of the targets, or of one of the identifiers.
fn has_disk(disks: &Path, source: &FCVolumeSource) -> bool {
    let lun = source.lun.unwrap_or_default();
    let names = |folder: &str| {
        let entries = std::fs::read_dir(disks.join(folder)).into_iter().flatten().flatten();
        entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let (paths, ids) = (names("by-path"), names("by-id"));
    let is_target = |wwn: &String| {
        let wanted = format!("fc-0x{}-lun-{lun}", wwn.to_lowercase());
        paths.iter().any(|it| it.ends_with(&wanted))
    };
    // In the names of links there are no spaces.
    let is_identified = |wwid: &String| {
        let wanted = format!("scsi-{}", wwid.replace(' ', "_"));
        ids.contains(&wanted)
    };
    source.target_wwns.iter().flatten().any(is_target)
        || source.wwids.iter().flatten().any(is_identified)
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
    fn iscsi_needs_a_program_and_others_do_not() {
        let volume = |it| serde_json::from_value::<Volume>(it).unwrap();
        let iscsi = json!({ "name": "v", "iscsi": { "iqn": "i", "lun": 0, "targetPortal": "t" } });
        let is_there = env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .any(|it| is_program(&it.join(ISCSI)));
        assert_eq!(missing(&volume(iscsi), None).is_some(), !is_there);
        assert_eq!(missing(&volume(json!({ "name": "v", "emptyDir": {} })), None), None);
        assert!(is_program(Path::new("/bin/sh")) && !is_program(Path::new("/etc/passwd")));
    }

    #[test]
    fn a_disk_is_found_by_its_target_or_its_identifier() {
        let folder = tempfile::tempdir().unwrap();
        for link in ["by-path/pci-0-fc-0x500a0981891b8dc5-lun-2", "by-id/scsi-3600_x"] {
            let path = folder.path().join(link);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let has = |source| {
            let source = serde_json::from_value::<FCVolumeSource>(source).unwrap();
            has_disk(folder.path(), &source)
        };
        assert!(has(json!({ "targetWWNs": ["x", "500A0981891B8DC5"], "lun": 2 })));
        assert!(!has(json!({ "targetWWNs": ["500a0981891b8dc5"], "lun": 1 })));
        assert!(has(json!({ "wwids": ["3600 x"] })));
        assert!(!has(json!({ "wwids": ["3600"] })));
    }
}
