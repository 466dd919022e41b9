//! The kernel kept equal to the state.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use linux_nftables::{ApplyError, Family, Nft, Table};
use network_policy::TABLE;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tracing::warn;

use crate::{
    metrics::Metrics,
    ruleset::{self, Mode, Options},
    server,
    state::State,
    watch::Update,
};

/// Until a refused transaction is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// So many updates go into one transaction at most.
const MAX_BATCH: usize = 1024;
/// How often it is looked for whether the table is still there: without it every pod is open.
const CHECK: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Enforcer {
    pub(crate) state: State,
    pub(crate) nft: Nft,
    pub(crate) options: Options,
    pub(crate) metrics: Arc<Metrics>,
    /// What the kernel holds, as far as is known.
    pub(crate) old: Option<Table>,
}

impl Enforcer {
    /// In strict mode pods are shut in before the first list; a table of an earlier run stays, as it
    /// knows more.
    pub(crate) async fn close(&mut self) -> Result<(), ApplyError> {
        if self.options.mode == Mode::Strict && !self.nft.has_table(Family::Inet, TABLE)? {
            self.apply().await?;
        }
        Ok(())
    }

    /// Takes what arrived, all of it, and applies it in one transaction.
    pub(crate) async fn run(
        mut self,
        mut updates: mpsc::Receiver<Update>,
        is_synced: Arc<AtomicBool>,
    ) {
        let mut batch = Vec::new();
        let (mut is_listed, mut is_behind) = (false, false);
        let mut check_at = Instant::now() + CHECK;
        loop {
            let limit = if is_behind { Instant::now() + RETRY } else { check_at };
            if let Ok(0) = timeout_at(limit, updates.recv_many(&mut batch, MAX_BATCH)).await {
                return;
            }
            // Updates that change nothing must not keep it from being looked for.
            if Instant::now() >= check_at {
                is_behind |= is_listed && self.is_gone().await;
                check_at = Instant::now() + CHECK;
            }
            for update in batch.drain(..) {
                let is_list = matches!(update, Update::Listed(_));
                // The first list is applied whatever is in it: an earlier run's table may hold more.
                is_behind |= self.take(update) || (is_list && !is_listed);
                is_listed |= is_list;
            }
            if !is_listed || !is_behind {
                continue;
            }
            match self.apply().await {
                Ok(()) => {
                    is_behind = false;
                    is_synced.store(true, Ordering::Relaxed);
                }
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "the kernel refused the policies");
                    self.metrics.failed();
                    self.old = None;
                }
            }
        }
    }

    /// Whether somebody has taken the table away.
    async fn is_gone(&mut self) -> bool {
        let nft = self.nft.clone();
        let asked = tokio::task::spawn_blocking(move || nft.has_table(Family::Inet, TABLE)).await;
        let is_gone = matches!(asked, Ok(Ok(false)));
        if is_gone {
            warn!("the policies' table is gone: it is put in place again");
            self.old = None;
        }
        is_gone
    }

    fn take(&mut self, update: Update) -> bool {
        match update {
            Update::Set(endpoint) => self.state.set(*endpoint),
            Update::Gone(key) => self.state.remove(&key),
            Update::Listed(present) => self.state.retain(&present),
        }
    }

    async fn apply(&mut self) -> Result<(), ApplyError> {
        let ruleset = ruleset::compile(self.state.endpoints(), &self.options);
        let keeps = |old: &Table| old.chains.keys().all(|it| ruleset.table.chains.contains_key(it));
        if !self.old.as_ref().is_some_and(keeps) {
            // What goes has counted.
            server::read(&self.nft, &self.metrics).await;
        }
        let (nft, old, new) = (self.nft.clone(), self.old.take(), ruleset.table.clone());
        let done = tokio::task::spawn_blocking(move || nft.update(old.as_ref(), &new)).await;
        done.unwrap_or_else(|error| Err(ApplyError::Run { source: io::Error::other(error) }))?;
        self.metrics.applied(ruleset.drops);
        self.old = Some(ruleset.table);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use lifecycle::Scope;

    use super::*;
    use crate::ruleset::Log;

    struct Netns(String);

    impl Netns {
        fn new(tail: &str) -> Option<Self> {
            let name = format!("nst-t-enforcer-{}-{tail}", std::process::id());
            let mut add = Command::new("ip");
            add.args(["netns", "add", &name]).stderr(Stdio::null());
            if add.status().is_ok_and(|it| it.success()) {
                return Some(Self(name));
            }
            eprintln!("not run: cannot make network namespaces here");
            None
        }
    }

    impl Drop for Netns {
        fn drop(&mut self) {
            drop(Command::new("ip").args(["netns", "delete", &self.0]).status());
        }
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..200 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("never: {what}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_somebody_took_away_comes_back_though_no_policy_changes() {
        let Some(netns) = Netns::new("a") else { return };
        let nft = Nft::at(format!("/run/netns/{}", netns.0));
        let options = Options {
            mode: Mode::Strict,
            prefix: "eni".to_owned(),
            has_strict_branches: false,
            log: Log::Nothing,
            node: None,
        };
        let state = State::new("192.168.0.5");
        let metrics = Arc::default();
        let enforcer = Enforcer { state, nft: nft.clone(), options, metrics, old: None };
        let (sender, updates) = mpsc::channel(8);
        let scope = Scope::new();
        let running = scope.spawn("enforcer", enforcer.run(updates, Arc::default()));
        let has_table = || nft.has_table(Family::Inet, TABLE).unwrap();
        tokio::time::sleep(2 * CHECK).await;
        assert!(!has_table(), "nothing is known yet");
        sender.send(Update::Listed([].into())).await.unwrap();
        until("the table is there", has_table).await;
        nft.delete_table(Family::Inet, TABLE).unwrap();
        until("it is there again", has_table).await;
        drop(sender);
        running.await.unwrap();
    }
}
