//! The IAM service.
