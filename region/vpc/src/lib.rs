//! A VPC in the kernel: router namespace, ENIs, security groups.
