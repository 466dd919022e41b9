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

    /// Whether dead containers and images are on the file system that is short. With a file system of
    /// their own, removing them does not help the node's.
    pub(crate) fn is_reclaimed_by_garbage(self, has_image_fs: bool) -> bool {
        match self.resource() {
            Resource::Memory | Resource::Pids => false,
            Resource::Disk | Resource::Inodes => !(has_image_fs && self.is_of_node_fs()),
        }
    }
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
