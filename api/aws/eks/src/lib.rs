//! EKS: shapes of the operations.
