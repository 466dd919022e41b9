//! Auto Scaling: shapes of the operations.
