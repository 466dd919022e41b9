//! STS: shapes of the operations.
