//! The whole product, driven by real clients.
