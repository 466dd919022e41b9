//! Logging set-up, error chains, and what the kernel says of the process.
//!
//! Errors of ours never print their source in their own message; [`chain`] prints the whole chain
//! once, where the error is handled.

pub mod process;

use std::{error::Error, fmt, io::IsTerminal};

use tracing_subscriber::EnvFilter;

/// Logs to standard error, at `default` unless `NODESTEAD_LOG` says otherwise.
///
/// Colours only on a terminal. Calling it twice is harmless.
pub fn init(default: &str) {
    let filter =
        EnvFilter::try_from_env("NODESTEAD_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let already_set = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    drop(already_set);
}

/// Displays an error and all its sources, `outer: inner: innermost`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// See [`chain`].
#[derive(Debug)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = std::io::Error::other("disk on fire");
        assert_eq!(chain(&error).to_string(), "disk on fire");
    }
}
