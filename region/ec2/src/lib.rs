//! The EC2 service.
