//! CNI configuration, results and error codes.
