//! What is measured, what it is a measure of, and what it means for the node.

/// Upstream's signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Signal {
    Memory,
    AllocatableMemory,
    NodeFs,
    NodeFsInodes,
    ImageFs,
    ImageFsInodes,
    ContainerFs,
    ContainerFsInodes,
    Pids,
}

/// What is scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    Disk,
    Inodes,
    Pids,
}

const ALL: [Signal; 9] = [
    Signal::Memory,
    Signal::AllocatableMemory,
    Signal::NodeFs,
    Signal::NodeFsInodes,
    Signal::ImageFs,
    Signal::ImageFsInodes,
    Signal::ContainerFs,
    Signal::ContainerFsInodes,
    Signal::Pids,
];

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::AllocatableMemory => "allocatableMemory.available",
            Self::NodeFs => "nodefs.available",
            Self::NodeFsInodes => "nodefs.inodesFree",
            Self::ImageFs => "imagefs.available",
            Self::ImageFsInodes => "imagefs.inodesFree",
            Self::ContainerFs => "containerfs.available",
            Self::ContainerFsInodes => "containerfs.inodesFree",
            Self::Pids => "pid.available",
        }
    }

    pub(crate) fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|it| it.name() == name)
    }

    pub(crate) fn resource(self) -> Resource {
        match self {
            Self::Memory | Self::AllocatableMemory => Resource::Memory,
            Self::NodeFs | Self::ImageFs | Self::ContainerFs => Resource::Disk,
            Self::NodeFsInodes | Self::ImageFsInodes | Self::ContainerFsInodes => Resource::Inodes,
            Self::Pids => Resource::Pids,
        }
    }

    pub(crate) fn is_of_node_fs(self) -> bool {
        matches!(self, Self::NodeFs | Self::NodeFsInodes)
    }

    /// What can be swept from the file system that is short: what is on another one does not help it.
    pub(crate) fn garbage(self, disks: Disks) -> Swept {
        let is_disk = matches!(self.resource(), Resource::Disk | Resource::Inodes);
        let (containers, images) = match (disks, self.is_of_node_fs()) {
            (Disks::One, _) | (Disks::Runtime, false) => (true, true),
            (Disks::Runtime, true) => (false, false),
            (Disks::Images, is_node) => (is_node, !is_node),
        };
        Swept { containers: is_disk && containers, images: is_disk && images }
    }
}

/// Which file systems a node has for its own files, for what containers write, and for images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Disks {
    #[default]
    One,
    /// The runtime has one of its own.
    Runtime,
    /// Images have one of their own, and containers write to the node's.
    Images,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Swept {
    pub containers: bool,
    pub images: bool,
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_another_disk_than_the_one_that_is_short_stays() {
        let swept = |signal: Signal, disks| {
            let it = signal.garbage(disks);
            (it.containers, it.images)
        };
        assert_eq!(swept(Signal::NodeFs, Disks::One), (true, true));
        assert_eq!(swept(Signal::NodeFs, Disks::Runtime), (false, false));
        assert_eq!(swept(Signal::ImageFsInodes, Disks::Runtime), (true, true));
        assert_eq!(swept(Signal::NodeFsInodes, Disks::Images), (true, false));
        assert_eq!(swept(Signal::ImageFs, Disks::Images), (false, true));
        assert_eq!(swept(Signal::Memory, Disks::One), (false, false));
    }
}
