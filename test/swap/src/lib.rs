//! Nothing: the tests are in `tests/swap`.
