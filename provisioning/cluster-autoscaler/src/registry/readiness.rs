//! How many nodes of a group are how far.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;

use crate::{node, options::Options};

/// Counts, by upstream's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub ready: i64,
    pub unready: i64,
    pub not_started: i64,
    /// Being removed by this autoscaler.
    pub deleted: i64,
    pub unregistered: i64,
    pub long_unregistered: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Unready,
    NotStarted,
    Deleted,
    Unregistered,
    LongUnregistered,
}

impl Readiness {
    pub(super) fn add(&mut self, state: State, more: i64) {
        let count = match state {
            State::Ready => &mut self.ready,
            State::Unready => &mut self.unready,
            State::NotStarted => &mut self.not_started,
            State::Deleted => &mut self.deleted,
            State::Unregistered => &mut self.unregistered,
            State::LongUnregistered => &mut self.long_unregistered,
        };
        *count = count.saturating_add(more);
    }

    /// Those that have a Node.
    pub fn registered(&self) -> i64 {
        self.ready + self.unready + self.not_started + self.deleted
    }
}

pub(super) fn of(it: &Node, options: &Options, now: Timestamp) -> State {
    if node::has_taint(it, node::TO_BE_DELETED) {
        return State::Deleted;
    }
    if node::is_ready(it, &options.startup_taints) {
        return State::Ready;
    }
    match node::created(it) + options.max_startup_time > now {
        true => State::NotStarted,
        false => State::Unready,
    }
}
