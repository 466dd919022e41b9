//! IAM: shapes of the operations.
