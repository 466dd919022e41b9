//! An instance as an isolated Linux host.
