//! CIDR arithmetic and address accounting.
