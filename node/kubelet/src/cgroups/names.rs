//! What the groups of pods are called, for each of the two drivers.
//!
//! With `cgroupfs` a group is a folder in its parent's folder. With `systemd` it is a slice, whose name
//! tells the way to it: `a-b.slice` lies in `a.slice`. A `-` in a part of the name becomes `_`.
//!
//! Upstream: `CgroupName` in `pkg/kubelet/cm/cgroup_manager_linux.go`; systemd.slice(5).

use std::path::{Path, PathBuf};

use crate::{pod::PodUid, qos::QosClass};

const SUFFIX: &str = ".slice";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Cgroupfs,
    Systemd,
}

#[derive(Debug)]
pub(super) struct Names {
    driver: Driver,
    /// The parts of the name of the group above all pods.
    root: Vec<String>,
}

impl Names {
    pub(super) fn new(driver: Driver, root: &str) -> Self {
        let parts = root.split('/').filter(|it| !it.is_empty()).map(str::to_owned);
        Self { driver, root: parts.chain(["kubepods".to_owned()]).collect() }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.path(&[])
    }

    pub(super) fn class(&self, class: QosClass) -> PathBuf {
        self.path(class_part(class).as_slice())
    }

    pub(super) fn pod(&self, class: QosClass, uid: &PodUid) -> PathBuf {
        let own = format!("pod{uid}");
        let parts: Vec<&str> = class_part(class).into_iter().chain([own.as_str()]).collect();
        self.path(&parts)
    }

    /// The pod whose group has this name among those of a class.
    pub(super) fn pod_of(&self, class: QosClass, folder: &str) -> Option<PodUid> {
        let uid = match self.driver {
            Driver::Cgroupfs => folder.strip_prefix("pod")?.to_owned(),
            Driver::Systemd => {
                let class = slice(&self.class(class))?.strip_suffix(SUFFIX)?.to_owned();
                let own = folder.strip_suffix(SUFFIX)?.strip_prefix(&class)?;
                own.strip_prefix("-pod")?.replace('_', "-")
            }
        };
        Some(PodUid(uid))
    }

    /// A group that the configuration names.
    pub(super) fn given(&self, name: &str) -> PathBuf {
        match self.driver {
            Driver::Cgroupfs => PathBuf::from(name.trim_start_matches('/')),
            Driver::Systemd => {
                let last = name.rsplit('/').next().unwrap_or_default();
                expand(last.strip_suffix(SUFFIX).unwrap_or(last))
            }
        }
    }

    fn path(&self, below: &[&str]) -> PathBuf {
        let parts = self.root.iter().map(String::as_str).chain(below.iter().copied());
        match self.driver {
            Driver::Cgroupfs => parts.collect(),
            Driver::Systemd => {
                let escaped: Vec<_> = parts.map(|it| it.replace('-', "_")).collect();
                expand(&escaped.join("-"))
            }
        }
    }
}

fn class_part(class: QosClass) -> Option<&'static str> {
    match class {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some("burstable"),
        QosClass::BestEffort => Some("besteffort"),
    }
}

/// `a-b` becomes `a.slice/a-b.slice`.
fn expand(name: &str) -> PathBuf {
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.filter(|it| *it > 0).map(|it| format!("{}{SUFFIX}", &name[..it])).collect()
}

/// The slice at the end of a path.
pub(super) fn slice(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The slice around the one at the end of a path; systemd's own root is `-.slice`.
pub(super) fn parent(path: &Path) -> &str {
    path.parent().and_then(slice).unwrap_or("-.slice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_the_slices_that_their_names_begin_with() {
        let names = Names::new(Driver::Systemd, "/");
        let uid = PodUid("0a-1b".to_owned());
        assert_eq!(names.root(), Path::new("kubepods.slice"));
        let burstable = "kubepods.slice/kubepods-burstable.slice";
        assert_eq!(names.class(QosClass::Burstable), Path::new(burstable));
        let pod = names.pod(QosClass::Burstable, &uid);
        assert_eq!(pod, Path::new(burstable).join("kubepods-burstable-pod0a_1b.slice"));
        assert_eq!(slice(&pod), Some("kubepods-burstable-pod0a_1b.slice"));
        assert_eq!(parent(&pod), "kubepods-burstable.slice");
        assert_eq!(parent(&names.root()), "-.slice");
        assert_eq!(
            names.pod(QosClass::Guaranteed, &uid),
            Path::new("kubepods.slice/kubepods-pod0a_1b.slice")
        );
        let below = Names::new(Driver::Systemd, "/my-own/x");
        assert_eq!(below.root(), Path::new("my_own.slice/my_own-x.slice/my_own-x-kubepods.slice"));
        assert_eq!(names.given("/runtime.slice"), Path::new("runtime.slice"));
        assert_eq!(names.given("/a.slice/a-b.slice"), Path::new("a.slice/a-b.slice"));
    }

    #[test]
    fn the_pods_of_a_class_are_known_by_their_groups_names() {
        let uid = Some(PodUid("0a-1b".to_owned()));
        for driver in [Driver::Cgroupfs, Driver::Systemd] {
            let names = Names::new(driver, "/");
            for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
                let path = names.pod(class, uid.as_ref().unwrap());
                assert_eq!(names.pod_of(class, slice(&path).unwrap()), uid);
                assert_eq!(names.pod_of(class, "other.slice"), None);
            }
            let burstable = names.class(QosClass::Burstable);
            assert_eq!(names.pod_of(QosClass::Guaranteed, slice(&burstable).unwrap()), None);
        }
    }
}
