//! Cluster DNS for Services and pods.
