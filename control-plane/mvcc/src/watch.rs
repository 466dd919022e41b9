//! The reading end of a watch.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::{
    Event,
    state::{State, Subscription},
};

/// Events below one prefix, in order. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watcher {
    state: Arc<RwLock<State>>,
    backlog: VecDeque<Arc<Event>>,
    events: mpsc::Receiver<Arc<Event>>,
}

impl Watcher {
    pub(crate) fn new(state: Arc<RwLock<State>>, subscription: Subscription) -> Self {
        Self { state, backlog: subscription.backlog, events: subscription.events }
    }

    /// The next event. `None`: the watcher was too slow and has been cancelled, or the store is
    /// closed; a new watch after the last event's revision goes on without loss.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match self.backlog.pop_front() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        }
    }

    /// An event that is already there.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.backlog.pop_front().or_else(|| self.events.try_recv().ok())
    }

    /// A revision up to which this watcher has seen everything, if nothing waits for it. `None` for
    /// ever once it has been cancelled: what it missed is not in its queue.
    pub fn progress(&self) -> Option<u64> {
        // Events are queued, and slow watchers cancelled, under the state's lock: what happened up
        // to `revision` is in the queue, or the channel is closed.
        let state = self.state.read();
        let has_seen_all = self.backlog.is_empty() && self.events.is_empty();
        (has_seen_all && !self.events.is_closed()).then_some(state.revision)
    }
}
