//! What a command says when it fails: what failed, why, what to do next; and with which code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (clap gives 2 by itself).

use std::fmt;

/// An error with a way out. Wrap it in `anyhow` like any other.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    next: String,
    is_usage: bool,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), is_usage: false }
    }

    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::new(what, next) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// A program that was run for the user has failed, and has said so itself: only its code is passed
/// on.
#[derive(Debug)]
pub(crate) struct Status(pub(crate) u8);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program ended with {}", self.0)
    }
}

impl std::error::Error for Status {}

/// Prints an error with its causes and its way out, and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    if let Some(Status(code)) = error.downcast_ref::<Status>() {
        return *code;
    }
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    let failure = error.chain().find_map(|it| it.downcast_ref::<Failure>());
    if let Some(failure) = failure {
        eprintln!("  next: {}", failure.next);
    }
    if failure.is_some_and(|it| it.is_usage) { 2 } else { 1 }
}
