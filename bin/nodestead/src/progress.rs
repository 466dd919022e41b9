//! Progress on standard error: a spinner with a bar on a terminal, plain lines elsewhere.

use std::{
    cell::RefCell,
    io::IsTerminal,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// One step after the other; each is printed with the time that it took.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    step: Option<(String, Instant)>,
    /// What was said last where there is no terminal, and when.
    said: RefCell<(String, Instant)>,
}

/// Where there is no terminal, a step that takes longer says how far it is, this often.
const SAID_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    /// A bar of `steps` steps.
    pub(crate) fn new(steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps);
            bar.set_style(
                ProgressStyle::with_template("{spinner} [{bar:24}] {msg} ({elapsed})")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, step: None, said: RefCell::new((String::new(), Instant::now())) }
    }

    /// Ends the step before and begins this one.
    pub(crate) fn step(&mut self, what: impl Into<String>) {
        self.finish_step();
        let what = what.into();
        if let Some(bar) = &self.bar {
            bar.set_message(what.clone());
        }
        self.step = Some((what, Instant::now()));
        self.said.replace((String::new(), Instant::now()));
    }

    /// Says how far the current step is, or what it waits for.
    pub(crate) fn detail(&self, detail: &str) {
        let Some((what, _)) = &self.step else { return };
        let line = format!("{what}: {detail}");
        if let Some(bar) = &self.bar {
            return bar.set_message(line);
        }
        let mut said = self.said.borrow_mut();
        if said.0 != line && said.1.elapsed() >= SAID_EVERY {
            eprintln!("… {line}");
            *said = (line, Instant::now());
        }
    }

    /// Says something that is to stay, at once.
    pub(crate) fn say(&self, what: &str) {
        match &self.bar {
            None => eprintln!("… {what}"),
            Some(bar) => bar.println(format!("… {what}")),
        }
    }

    fn finish_step(&mut self) {
        let Some((what, started)) = self.step.take() else { return };
        let line = format!("✓ {what} ({:.1} s)", started.elapsed().as_secs_f32());
        match &self.bar {
            None => eprintln!("{line}"),
            Some(bar) => {
                bar.println(line);
                bar.inc(1);
            }
        }
    }

    /// Ends the last step.
    pub(crate) fn done(mut self) {
        self.finish_step();
    }
}

/// Whatever ends the work, its bar goes.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            // A terminal that lost its cursor to somebody else's bar gets it back too.
            eprint!("{SHOW_CURSOR}");
        }
    }
}

/// What a command waits for, shown while it does if that takes long: most are done at once. It goes with
/// the value, and must, before anything else is printed.
pub(crate) struct Waiting {
    over: Option<Sender<()>>,
    shown: Option<JoinHandle<()>>,
}

/// How long nothing is shown of what may be done at once.
const PATIENCE: Duration = Duration::from_secs(1);

impl Waiting {
    /// From now on.
    pub(crate) fn new(what: &'static str) -> Self {
        let (over, is_over) = channel();
        // A thread, for the command may compute or read files without a pause.
        let shown = std::thread::spawn(move || {
            let patience = if std::io::stderr().is_terminal() { PATIENCE } else { SAID_EVERY };
            unless_over(&is_over, patience, || {
                let mut progress = Progress::new(1);
                match progress.bar {
                    Some(_) => progress.step(what),
                    None => progress.say(what),
                }
                progress
            });
        });
        Self { over: Some(over), shown: Some(shown) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.over.take());
        drop(self.shown.take().map(JoinHandle::join));
    }
}

/// Does `show` after `patience`, and keeps what it gives until `is_over`, whose sender is then gone.
fn unless_over<T>(is_over: &Receiver<()>, patience: Duration, show: impl FnOnce() -> T) {
    if is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        let shown = show();
        let _over = is_over.recv();
        drop(shown);
    }
}

/// `cnorm` of every terminal that understands the bar.
const SHOW_CURSOR: &str = "\x1b[?25h";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_at_once_is_not_shown_and_what_takes_longer_is_until_it_is_over() {
        let (over, is_over) = channel::<()>();
        drop(over);
        unless_over(&is_over, Duration::from_secs(600), || panic!("it is over"));

        let (over, is_over) = channel::<()>();
        let (began, has_begun) = channel::<Sender<()>>();
        let (alive, is_gone) = channel::<()>();
        let showing = std::thread::spawn(move || {
            unless_over(&is_over, Duration::ZERO, || {
                began.send(alive.clone()).unwrap();
                alive
            });
        });
        drop(has_begun.recv().unwrap());
        assert!(is_gone.try_recv().is_err_and(|it| it == std::sync::mpsc::TryRecvError::Empty));
        drop(over);
        showing.join().unwrap();
        assert!(is_gone.recv().is_err(), "what was shown has gone");
    }
}
