//! STS tokens to Kubernetes users.
