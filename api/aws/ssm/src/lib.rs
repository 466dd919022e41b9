//! SSM: shapes of the operations.
