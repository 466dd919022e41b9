//! PID 1 of an instance.
