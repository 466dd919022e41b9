//! Progress on standard error: a spinner with a bar on a terminal, plain lines elsewhere.

use std::{
    cell::RefCell,
    io::IsTerminal,
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

/// `cnorm` of every terminal that understands the bar.
const SHOW_CURSOR: &str = "\x1b[?25h";
