//! Durable, versioned resources with a change feed.
