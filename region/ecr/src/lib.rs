//! The ECR service and its OCI registry.
