//! What a command says when it fails: what failed, why, what to do next; and with which code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 130 ended by Ctrl-C, 143 by SIGTERM. Wrong usage is what another
//! command line mends: flags and values that cannot be read (clap gives 2 by itself), that contradict what the
//! region was brought up with, or that ask for more than the machine has room for. A name that nothing has, or a
//! port that somebody else has, is a failure.

use std::{fmt, io, path::Path};

/// What to do where no region is found.
pub(crate) const NEXT: &str =
    "start one with `nodestead up`, or name its data directory with --data-dir";

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

    /// Why nothing can be learnt from `path`, of the data directory, which is root's alone.
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Self::new(
                format!(
                    "only root may read `{}`: whether a region runs is not known",
                    path.display()
                ),
                "run it with sudo",
            );
        }
        Self::new(format!("cannot read `{}` ({error})", path.display()), NEXT)
    }

    /// Why no daemon answers at `socket`.
    pub(crate) fn no_daemon(socket: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::unreadable(socket, error),
            _ => Self::new(format!("no region runs on `{}` ({error})", socket.display()), NEXT),
        }
    }

    #[cfg(test)]
    pub(crate) fn next(&self) -> &str {
        &self.next
    }

    /// With another way out beside its own.
    pub(crate) fn or(self, next: &str) -> Self {
        Self { next: format!("{}, {next}", self.next), ..self }
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
    // What a component found wrong with its flags after clap had read them, in clap's own form.
    let boxed = error.downcast_ref::<Box<dyn std::error::Error + Send + Sync>>();
    if let Some(usage) = boxed.and_then(|it| it.downcast_ref::<clap::Error>()) {
        eprint!("{usage}");
        return 2;
    }
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    let failure = failure_of(error);
    if let Some(failure) = failure {
        eprintln!("  next: {}", failure.next);
    }
    if failure.is_some_and(|it| it.is_usage) { 2 } else { 1 }
}

/// The innermost knows best what to do. One that says more of another error is found by its context.
fn failure_of(error: &anyhow::Error) -> Option<&Failure> {
    let inner = error.chain().find_map(|it| it.downcast_ref::<Failure>());
    inner.or_else(|| error.downcast_ref::<Failure>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_usage_has_a_code_of_its_own_whoever_finds_it() {
        assert_eq!(report(&Failure::new("a", "b").into()), 1);
        assert_eq!(report(&Failure::usage("a", "b").into()), 2);
        let component = clap::Error::raw(clap::error::ErrorKind::ValueValidation, "no such flag\n");
        let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(component);
        assert_eq!(report(&anyhow::Error::from_boxed(boxed)), 2);
        assert_eq!(report(&Status(130).into()), 130);
    }

    #[test]
    fn the_way_out_is_that_of_whoever_knows_most() {
        let around = |inner: anyhow::Error| {
            let error = inner.context(Failure::new("it was not loaded", "give an archive"));
            failure_of(&error).map(|it| it.next.clone())
        };
        assert_eq!(around(anyhow::anyhow!("refused")).as_deref(), Some("give an archive"));
        let inner = Failure::new("no region runs", "start one");
        assert_eq!(around(inner.into()).as_deref(), Some("start one"));
        assert_eq!(failure_of(&anyhow::anyhow!("x")).map(|it| &it.next), None);
    }

    #[test]
    fn who_is_not_root_is_told_so_and_not_that_nothing_runs() {
        let socket = Path::new("/var/lib/nodestead/admin.sock");
        let said = |kind: io::ErrorKind| {
            let failure = Failure::no_daemon(socket, &kind.into());
            (failure.what, failure.next)
        };
        let (what, next) = said(io::ErrorKind::PermissionDenied);
        assert!(what.starts_with("only root may read") && next.contains("sudo"), "{what}: {next}");
        let (what, _) = said(io::ErrorKind::NotFound);
        assert!(what.starts_with("no region runs on"), "{what}");
    }
}
