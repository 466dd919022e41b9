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
use tokio::{sync::mpsc, time::timeout};
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
        loop {
            let limit = if is_behind { RETRY } else { Duration::from_secs(3600) };
            if let Ok(0) = timeout(limit, updates.recv_many(&mut batch, MAX_BATCH)).await {
                return;
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
