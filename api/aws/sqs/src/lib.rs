//! Amazon SQS: the shapes of its operations, and nothing else.

pub mod batch;
pub mod message;
pub mod queue;
pub mod tag;
