//! What a container does when it is started.

use std::time::Duration;

/// Runs until stopped, unless told otherwise.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(crate) lives: Option<Duration>,
    pub(crate) code: i32,
    pub(crate) start_takes: Duration,
    /// How long it takes to end after it was asked to; longer than the grace means killed.
    pub(crate) stop_takes: Duration,
    pub(crate) exec_code: i32,
    pub(crate) exec_takes: Duration,
    /// Bytes that it uses.
    pub(crate) memory: u64,
}

impl Script {
    /// Ends by itself after `lives`, with `code`.
    pub fn exits(lives: Duration, code: i32) -> Self {
        Self { lives: Some(lives), code, ..Self::default() }
    }

    pub fn start_takes(self, start_takes: Duration) -> Self {
        Self { start_takes, ..self }
    }

    pub fn stop_takes(self, stop_takes: Duration) -> Self {
        Self { stop_takes, ..self }
    }

    /// What commands in it (probes, hooks) exit with.
    pub fn exec_code(self, exec_code: i32) -> Self {
        Self { exec_code, ..self }
    }

    pub fn exec_takes(self, exec_takes: Duration) -> Self {
        Self { exec_takes, ..self }
    }

    /// How many bytes of memory it uses.
    pub fn memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }
}
