//! The EKS service: clusters, access entries, add-ons, updates.
