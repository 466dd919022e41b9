//! The Auto Scaling service.
