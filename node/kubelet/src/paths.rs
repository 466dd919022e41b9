//! Where the kubelet keeps what belongs to a pod; the layout is upstream's.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::{PodExt, PodUid};

/// Makes a folder, and those above it, that nobody looks into but root and its group: what volumes hold is
/// open to every user of a pod, and no user of the host is one.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
    logs: PathBuf,
    container_links: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &str, logs: &str) -> Self {
        let logs = PathBuf::from(logs);
        let container_links = logs.with_file_name("containers");
        Self { root: PathBuf::from(root), logs, container_links }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What is there before anything else is.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let below = ["pods", "plugins", "plugins_registry", "pod-resources"];
        let below = below.map(|it| self.root.join(it));
        [vec![self.root.clone(), self.logs.clone()], below.to_vec()].concat()
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> PathBuf {
        self.pods().join(&uid.0)
    }

    pub(crate) fn volume(&self, uid: &PodUid, plugin: &str, name: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
    }

    /// A file that says that a volume has been made to its end.
    pub(crate) fn volume_ready(&self, uid: &PodUid, plugin: &str, name: &str) -> PathBuf {
        let folder = self.pod(uid).join("plugins").join(format!("kubernetes.io~{plugin}"));
        folder.join(name).join("ready")
    }

    pub(crate) fn subpath(
        &self,
        uid: &PodUid,
        volume: &str,
        container: &str,
        index: usize,
    ) -> PathBuf {
        self.pod(uid).join("volume-subpaths").join(volume).join(container).join(index.to_string())
    }

    pub(crate) fn container(&self, uid: &PodUid, name: &str) -> PathBuf {
        self.pod(uid).join("containers").join(name)
    }

    pub(crate) fn hosts_file(&self, uid: &PodUid) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    pub(crate) fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }

    pub(crate) fn pod_logs(&self, pod: &Pod) -> PathBuf {
        self.logs.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
    }

    pub(crate) fn all_pod_logs(&self) -> &Path {
        &self.logs
    }

    /// The link that log collectors follow.
    pub(crate) fn container_log_link(&self, pod: &Pod, container: &str, id: &str) -> PathBuf {
        let file = format!("{}_{}_{container}-{id}.log", pod.name(), pod.namespace());
        self.container_links.join(file)
    }

    pub(crate) fn container_log_links(&self) -> &Path {
        &self.container_links
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn users_of_the_host_do_not_look_into_what_is_made_for_pods() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let paths = Paths::new(&at("kubelet"), &at("log/pods"));
        for folder in paths.folders() {
            make_private(&folder).unwrap();
        }
        make_private(&paths.volume(&PodUid("u".to_owned()), "secret", "s")).unwrap();
        for name in
            ["kubelet", "kubelet/pods", "kubelet/pods/u", "kubelet/pods/u/volumes", "log/pods"]
        {
            let mode = fs::metadata(at(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o750, "{name}");
        }
        // What somebody else has made stays as it is.
        fs::set_permissions(at("kubelet"), fs::Permissions::from_mode(0o755)).unwrap();
        make_private(paths.root()).unwrap();
        assert_eq!(fs::metadata(at("kubelet")).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
