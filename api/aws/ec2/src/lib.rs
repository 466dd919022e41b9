//! EC2: shapes of the operations.
