//! What a cgroup has read from block devices and written to them.
//!
//! Upstream: cAdvisor's `diskStatsCopy`, and runc's `fs/blkio.go` and `fs2/io.go`, which say which of
//! the v1 files counts.

use std::{collections::BTreeMap, path::Path};

use super::group::{Group, text};

const OPERATIONS: [&str; 6] = ["Read", "Write", "Sync", "Async", "Discard", "Total"];
/// By what schedules the devices; the first that knows any.
const V1_KINDS: [&str; 3] = ["bfq.", "", "throttle."];
/// In v2's words: the operation, and whether bytes are meant.
const V2_FIELDS: [(&str, &str, bool); 6] = [
    ("rbytes", "Read", true),
    ("wbytes", "Write", true),
    ("dbytes", "Discard", true),
    ("rios", "Read", false),
    ("wios", "Write", false),
    ("dios", "Discard", false),
];

/// By operation.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    /// `8:0`
    pub number: String,
    pub bytes: Counts,
    pub operations: Counts,
}

impl Device {
    /// `/dev/sda`, or nothing where the kernel does not say.
    pub(crate) fn name(&self, sys: &Path) -> String {
        let link = std::fs::read_link(sys.join("dev/block").join(&self.number));
        let name = link.ok().and_then(|it| Some(it.file_name()?.to_string_lossy().into_owned()));
        name.map(|it| format!("/dev/{it}")).unwrap_or_default()
    }
}

type Devices = BTreeMap<String, Device>;

impl Group<'_> {
    pub(crate) fn devices(&self) -> Vec<Device> {
        let mut devices = Devices::new();
        if self.is_v2() {
            if let Some(folder) = self.folder("io") {
                add_v2(&mut devices, &text(&folder.join("io.stat")));
            }
        } else if let Some(folder) = self.folder("blkio") {
            for kind in V1_KINDS {
                if !devices.is_empty() {
                    break;
                }
                let read = |what: &str| text(&folder.join(format!("blkio.{kind}{what}_recursive")));
                add_v1(&mut devices, &read("io_service_bytes"), |it| &mut it.bytes);
                add_v1(&mut devices, &read("io_serviced"), |it| &mut it.operations);
            }
        }
        devices.into_values().collect()
    }
}

fn device<'a>(devices: &'a mut Devices, number: &str) -> &'a mut Device {
    let new = || Device { number: number.to_owned(), ..Device::default() };
    devices.entry(number.to_owned()).or_insert_with(new)
}

/// `8:0 Read 4096`; the last line is the sum of all devices.
fn add_v1(devices: &mut Devices, text: &str, counts: fn(&mut Device) -> &mut Counts) {
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let &[number, operation, count] = words.as_slice() else { continue };
        let operation = OPERATIONS.iter().find(|it| **it == operation);
        if let Some((operation, count)) = operation.zip(count.parse().ok()) {
            counts(device(devices, number)).insert(operation, count);
        }
    }
}

/// `8:0 rbytes=4096 wbytes=0 …`
fn add_v2(devices: &mut Devices, text: &str) {
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(number) = words.next() else { continue };
        for (name, count) in words.filter_map(|it| it.split_once('=')) {
            let known = V2_FIELDS.iter().find(|it| it.0 == name);
            let Some((&(_, operation, is_bytes), count)) = known.zip(count.parse().ok()) else {
                continue;
            };
            let device = device(devices, number);
            let counts = if is_bytes { &mut device.bytes } else { &mut device.operations };
            counts.insert(operation, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cgroups::Hierarchy;

    #[test]
    fn both_versions_tell_of_the_same_devices() {
        let folder = tempfile::tempdir().unwrap();
        let (v1, v2) = (folder.path().join("v1"), folder.path().join("v2"));
        for root in [&v1, &v2] {
            fs::create_dir_all(root.join("p")).unwrap();
        }
        let put = |path: &Path, text: &str| fs::write(path, text).unwrap();
        put(&v1.join("p/blkio.bfq.io_service_bytes_recursive"), "Total 0\n");
        let bytes = "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n";
        put(&v1.join("p/blkio.throttle.io_service_bytes_recursive"), bytes);
        put(&v1.join("p/blkio.throttle.io_serviced_recursive"), "8:0 Read 1\n8:0 Write 2\n");
        put(&v2.join("p/io.stat"), "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2\n");
        let names = vec!["blkio".to_owned()];
        for hierarchy in [
            Hierarchy::V1 { mounts: vec![(v1, names)], others: Vec::new() },
            Hierarchy::V2 { root: v2 },
        ] {
            let devices = Group::new(&hierarchy, Path::new("p")).devices();
            let wanted = Device {
                number: "8:0".to_owned(),
                bytes: [("Read", 4096), ("Write", 8192)].into(),
                operations: [("Read", 1), ("Write", 2)].into(),
            };
            assert_eq!(devices, [wanted]);
        }
    }

    #[test]
    fn a_device_has_the_kernels_name_or_none() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("dev/block")).unwrap();
        let link = sys.path().join("dev/block/8:0");
        std::os::unix::fs::symlink("../../devices/x/block/sda", link).unwrap();
        let of = |number: &str| Device { number: number.to_owned(), ..Device::default() };
        assert_eq!(of("8:0").name(sys.path()), "/dev/sda");
        assert_eq!(of("8:1").name(sys.path()), "");
    }
}
