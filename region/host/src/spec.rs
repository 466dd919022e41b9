//! What an instance is to be: one value, which the launcher reads from a file.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    pub instance_id: String,
    /// The EC2 private DNS name.
    pub hostname: String,
    pub vcpus: u32,
    #[serde(default = "HostSpec::two")]
    pub threads_per_core: u32,
    pub memory_bytes: u64,
    /// The instance's own folder, on a real file system.
    pub folder: PathBuf,
    /// The root file system that it starts from, made by [`crate::ami::build`].
    pub ami: PathBuf,
    /// The root file system of a user's image, which lies over that one ([`crate::image`]).
    #[serde(default)]
    pub image: Option<PathBuf>,
    /// The program that is `/opt/nodestead/bin/nodestead` inside, and its PID 1.
    pub binary: PathBuf,
    /// The name of its network namespace.
    pub netns: String,
    /// Its cgroup, relative to the roots of the hierarchies: `nodestead/CLUSTER/INSTANCE`.
    pub cgroup: String,
    /// The VPC's resolver.
    pub resolver: Ipv4Addr,
    /// The domain that names without a dot are looked up in.
    pub search_domain: String,
    /// What PID 1 is started with: `["run", "init"]`.
    #[serde(default = "HostSpec::default_init")]
    pub init: Vec<String>,
    /// Which boot this is: starts and reboots, as EC2 counts them.
    #[serde(default)]
    pub boot: u64,
}

/// What is left to remove of an instance besides its folder: by names, so that it needs nothing of
/// what was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    pub instance_id: String,
    /// The name of its network namespace.
    pub netns: String,
    /// Its cgroup.
    pub cgroup: String,
}

impl HostSpec {
    pub fn remains(&self) -> Remains {
        Remains {
            instance_id: self.instance_id.clone(),
            netns: self.netns.clone(),
            cgroup: self.cgroup.clone(),
        }
    }

    /// The arguments that make the binary an init.
    pub fn default_init() -> Vec<String> {
        ["run", "init"].map(str::to_owned).to_vec()
    }

    fn two() -> u32 {
        2
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The writable layer: what the instance has changed about its root file system.
    pub fn upper(&self) -> PathBuf {
        self.path("upper")
    }

    /// What the instance's console has shown (`ec2:GetConsoleOutput`).
    pub fn console(&self) -> PathBuf {
        console_of(&self.folder)
    }
}

pub(crate) fn console_of(folder: &Path) -> PathBuf {
    folder.join("console.log")
}
