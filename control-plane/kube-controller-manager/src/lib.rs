//! The controllers of Kubernetes.
