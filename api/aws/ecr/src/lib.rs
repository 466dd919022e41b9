//! ECR: shapes of the operations.
