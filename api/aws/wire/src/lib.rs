//! SigV4, the AWS protocols, operations and errors.
