//! Mounts and root file systems.
