//! Whether a CSI volume's files are given to the pod's group by this kubelet.

use super::CsiVolume;

/// What a driver's object says of it; upstream's default without one.
pub(super) const DEFAULT_POLICY: &str = "ReadWriteOnceWithFSType";

pub(super) fn applies(volume: &CsiVolume, policy: &str, driver_sets_it: bool) -> bool {
    if volume.read_only || volume.is_block || driver_sets_it {
        return false;
    }
    match policy {
        "None" => false,
        "File" => true,
        _ => {
            let modes = &volume.access_modes;
            let once = |it: &String| matches!(it.as_str(), "ReadWriteOnce" | "ReadWriteOncePod");
            !volume.fs_type.is_empty() && (volume.is_ephemeral || modes.iter().any(once))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_set_where_the_volume_belongs_to_one_node_or_the_driver_asks() {
        let once = CsiVolume {
            fs_type: "ext4".to_owned(),
            access_modes: vec!["ReadWriteOnce".to_owned()],
            ..CsiVolume::default()
        };
        assert!(applies(&once, DEFAULT_POLICY, false));
        assert!(!applies(&once, "None", false));
        assert!(!applies(&once, DEFAULT_POLICY, true), "the driver does it itself");
        let many = CsiVolume { access_modes: vec!["ReadWriteMany".to_owned()], ..once.clone() };
        assert!(!applies(&many, DEFAULT_POLICY, false));
        assert!(applies(&many, "File", false));
        let untyped = CsiVolume { fs_type: String::new(), ..once.clone() };
        assert!(!applies(&untyped, DEFAULT_POLICY, false));
        assert!(!applies(&CsiVolume { read_only: true, ..once }, "File", false));
    }
}
