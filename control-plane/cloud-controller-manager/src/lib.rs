//! Keeps Nodes in step with EC2 instances.
