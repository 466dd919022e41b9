//! The AWS endpoint: routing, SigV4, IAM, errors, event log.
