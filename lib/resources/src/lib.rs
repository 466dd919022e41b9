//! Quantities, pod requests, node allocatable.
