//! One at a time for each claim: while a driver prepares or unprepares it, nobody asks for the other.
//!
//! **Invariant:** whoever needs several claims takes their turns in one order, so nobody waits in a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::DraManager;

/// By the UID of a claim.
#[derive(Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, Arc<AsyncMutex<()>>>>);

/// Ends when it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    held: Vec<OwnedMutexGuard<()>>,
}

impl Turns {
    pub(super) async fn take(&self, claims: impl IntoIterator<Item = String>) -> Turn<'_> {
        let claims: BTreeSet<_> = claims.into_iter().collect();
        let mut turn = Turn { turns: self, held: Vec::new() };
        for uid in claims {
            let lock = self.0.lock().entry(uid).or_default().clone();
            turn.held.push(lock.lock_owned().await);
        }
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held.clear();
        // Whoever holds or waits has a share of it.
        self.turns.0.lock().retain(|_, it| Arc::strong_count(it) > 1);
    }
}

impl DraManager {
    pub(super) async fn turn(&self, claims: impl IntoIterator<Item = String>) -> Turn<'_> {
        self.turns.take(claims).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn uids(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| (*it).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_one_pods_at_a_time_and_nothing_is_kept_of_those_that_went() {
        let turns = Turns::default();
        let first = turns.take(uids(&["b", "a"])).await;
        let other = turns.take(uids(&["c"])).await;
        let second = turns.take(uids(&["a", "b", "a"]));
        tokio::pin!(second);
        let waits = tokio::time::timeout(Duration::from_secs(1), &mut second).await;
        assert!(waits.is_err());
        drop(first);
        let second = second.await;
        // One that gives up leaves nothing behind.
        drop(tokio::time::timeout(Duration::from_secs(1), turns.take(uids(&["b", "c"]))).await);
        drop((second, other));
        assert!(turns.0.lock().is_empty());
    }
}
