//! Ctrl-C while `up` works: what was begun stays and runs on, and the user hears what that is.
//!
//! The daemon has a process group of its own and lives on; the region goes on with what it was asked
//! for. What was not asked for yet, a second `up` asks for: this process alone knew of it.

use std::cell::Cell;

use crate::{
    commands::down,
    failure::Status,
    layout::Layout,
    signals,
    sweep::leftovers::{self, Leftovers},
};

/// How far `up` has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was made or changed.
    #[default]
    Checking,
    /// The data directory has the region's settings; its daemon was not started.
    Prepared,
    /// The daemon's process was started and has not answered.
    Starting,
    /// The daemon answers, and is asked for one thing after the other.
    Asking,
    /// All that was asked for is there.
    Up,
}

/// The phase, which the work sets and whoever interrupts it reads.
#[derive(Debug, Default)]
pub(super) struct Reached(Cell<Phase>);

impl Reached {
    pub(super) fn set(&self, phase: Phase) {
        self.0.set(phase);
    }
}

/// Does `work`; one of the signals ends it with a word about what goes on.
pub(super) async fn or_told(
    work: impl Future<Output = anyhow::Result<()>>,
    layout: &Layout,
    reached: &Reached,
) -> anyhow::Result<()> {
    let code = match signals::unless_asked_to_end(work).await? {
        Ok(done) => return done,
        Err(code) => code,
    };
    let has_daemon = down::daemon(layout).is_some();
    // Of an earlier run, whose daemon was killed.
    let left = leftovers::find(layout).unwrap_or_default();
    let left = left.iter().find(|it| it.id == layout.id());
    eprint!("{}", words(layout, reached.0.get(), has_daemon, left));
    Err(Status(code).into())
}

fn words(layout: &Layout, phase: Phase, has_daemon: bool, left: Option<&Leftovers>) -> String {
    let at = layout.root().display();
    let up = format!("`nodestead up --data-dir {at}`");
    let down = format!("`nodestead down --purge --data-dir {at}`");
    let all = format!(
        "watch it with `nodestead status --data-dir {at}`, finish with {up}, or remove it with {down}"
    );
    let runs = match left {
        None => "nothing runs".to_owned(),
        Some(left) => format!("of an earlier run there is left: {}", left.summary()),
    };
    let (what, next) = match (phase, has_daemon) {
        (Phase::Checking, false) => {
            (format!("nothing was made, and {runs}"), format!("begin again with {up}"))
        }
        (Phase::Checking | Phase::Prepared, true) => {
            ("the region's daemon runs on as before; it was asked for nothing".to_owned(), all)
        }
        (Phase::Prepared, false) => (
            format!("the daemon was not started, and {runs}; the region's settings are in `{at}`"),
            format!("go on with {up}, or remove them with {down}"),
        ),
        (Phase::Starting, _) => (
            "the daemon was started and goes on starting in the background; it was asked for nothing yet"
                .to_owned(),
            all,
        ),
        (Phase::Asking, true) => (
            "the daemon runs on in the background with what it was asked for so far; the rest is not asked for"
                .to_owned(),
            all,
        ),
        (Phase::Asking | Phase::Up, false) => (
            "the region's daemon has ended meanwhile; its instances may still run".to_owned(),
            format!("see `nodestead logs daemon --data-dir {at}`, go on with {up}, or remove it with {down}"),
        ),
        (Phase::Up, true) => ("the region is up".to_owned(), all),
    };
    format!("interrupted: {what}\n  next: {next}\n")
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    #[test]
    fn an_interrupted_user_is_told_what_goes_on_and_how_to_end_it() {
        let layout = Layout::new(Path::new("/var/lib/no-such-region")).unwrap();
        for (phase, has_daemon, parts) in [
            (Phase::Checking, false, &["nothing was made", "nodestead up"][..]),
            (Phase::Checking, true, &["as before", "nodestead status"]),
            (Phase::Prepared, false, &["not started", "settings are in `/var/lib/no-such", "down"]),
            (Phase::Prepared, true, &["as before", "nodestead status"]),
            (Phase::Starting, false, &["goes on starting in the background", "nodestead down"]),
            (Phase::Asking, true, &["the rest is not asked for", "nodestead up", "status"]),
            (Phase::Asking, false, &["has ended", "nodestead logs daemon", "nodestead down"]),
            (Phase::Up, true, &["the region is up\n", "nodestead status"]),
        ] {
            let said = words(&layout, phase, has_daemon, None);
            for part in parts {
                assert!(said.contains(part), "{phase:?} {has_daemon}: {part}: {said}");
            }
        }
        let early = words(&layout, Phase::Checking, false, None);
        assert!(!early.contains("background") && !early.contains("down"), "{early}");
        assert!(early.contains("nothing runs"), "{early}");
        let left = Leftovers { namespaces: vec!["nst-0-a".to_owned()], ..Leftovers::default() };
        let again = words(&layout, Phase::Prepared, false, Some(&left));
        assert!(again.contains("there is left: 1 namespace") && !again.contains("nothing runs"));
    }

    /// The signal goes to this process: no other test of this program listens for it.
    #[tokio::test]
    async fn work_that_is_terminated_ends_with_the_shells_code() {
        let layout = Layout::new(Path::new("/var/lib/no-such-region")).unwrap();
        assert!(or_told(std::future::ready(Ok(())), &layout, &Reached::default()).await.is_ok());
        let work = async {
            let own = std::process::id().to_string();
            let killed = Command::new("kill").args(["-TERM", &own]).status()?;
            assert!(killed.success());
            std::future::pending().await
        };
        let error = or_told(work, &layout, &Reached::default()).await.unwrap_err();
        assert_eq!(error.downcast_ref::<Status>().map(|it| it.0), Some(143));
    }
}
