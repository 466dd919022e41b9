//! The STS service.
