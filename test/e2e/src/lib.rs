//! The whole product, driven by real clients; everything is in `tests/`.
