//! Seats: how many requests of a priority level are worked on at once, and who waits for one.
//!
//! Every level has its nominal seats whatever the others do. Beyond them it borrows what others
//! have no use for and may lend, as far as its own limit goes. Who waits does so in the queue of
//! its flow, and the flows of a level take turns.
//!
//! Upstream: KEP-1040, k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

/// What a PriorityLevelConfiguration allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) is_exempt: bool,
    pub(super) nominal: usize,
    /// Nominal seats that are not lent.
    kept: usize,
    /// With all that may be borrowed.
    most: usize,
    /// How many requests of one flow may wait; none: nobody waits.
    flow_queue: usize,
    /// How many of all flows.
    queues: usize,
}

impl Limits {
    /// `of` is how many shares there are and how many seats for them.
    pub(super) fn read(spec: &Value, of: (u64, u64)) -> Self {
        let limited = &spec["limited"];
        let number = |value: &Value| value.as_u64();
        let shares = shares(spec);
        let nominal = (of.1 * shares).div_ceil(of.0.max(1));
        let part = |percent: u64| (nominal * percent + 50) / 100;
        let lent = part(number(&limited["lendablePercent"]).unwrap_or_default());
        let most = number(&limited["borrowingLimitPercent"]).map_or(of.1, |it| nominal + part(it));
        let queuing = &limited["limitResponse"]["queuing"];
        let product = |a: &str, b: &str| {
            number(&queuing[a]).unwrap_or_default() * number(&queuing[b]).unwrap_or_default()
        };
        let size = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
        Self {
            is_exempt: spec["type"] == "Exempt",
            nominal: size(nominal),
            kept: size(nominal.saturating_sub(lent)),
            most: size(most),
            flow_queue: size(product("handSize", "queueLengthLimit")),
            queues: size(product("queues", "queueLengthLimit")),
        }
    }
}

/// The level's part of all seats.
pub(super) fn shares(spec: &Value) -> u64 {
    match spec["type"].as_str() {
        Some("Exempt") => spec["exempt"]["nominalConcurrencyShares"].as_u64().unwrap_or(0),
        _ => spec["limited"]["nominalConcurrencyShares"].as_u64().unwrap_or(30),
    }
}

/// All levels' seats.
#[derive(Debug, Default)]
pub(super) struct Pool {
    total: usize,
    levels: BTreeMap<String, Level>,
}

#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) limits: Limits,
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) served: u64,
    pub(super) refused: u64,
    is_gone: bool,
    /// Flows that have requests waiting, the next one first.
    flows: VecDeque<(String, VecDeque<oneshot::Sender<Permit>>)>,
}

impl Level {
    fn waiting_of(&self, flow: &str) -> usize {
        self.flows.iter().find(|it| it.0 == flow).map_or(0, |it| it.1.len())
    }

    /// Who has given up waits no more.
    fn forget_closed(&mut self) {
        self.flows.iter_mut().for_each(|(_, queue)| queue.retain(|it| !it.is_closed()));
        self.flows.retain(|(_, queue)| !queue.is_empty());
        self.waiting = self.flows.iter().map(|(_, queue)| queue.len()).sum();
    }
}

/// A seat. Dropped, it is free.
#[derive(Debug)]
pub(crate) struct Permit {
    pool: Arc<Mutex<Pool>>,
    level: String,
    is_armed: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_armed {
            release(&self.pool, &self.level);
        }
    }
}

/// How a request is received.
#[derive(Debug)]
pub(super) enum Received {
    Seat(Permit),
    Wait(oneshot::Receiver<Permit>),
    Refused,
}

pub(super) fn receive(pool: &Arc<Mutex<Pool>>, level: &str, flow: String) -> Received {
    let mut all = pool.lock();
    let can_run = all.can_run(level);
    let Some(found) = all.levels.get_mut(level) else { return Received::Refused };
    if can_run && found.flows.is_empty() {
        found.running += 1;
        found.served += 1;
        let (pool, level) = (pool.clone(), level.to_owned());
        return Received::Seat(Permit { pool, level, is_armed: true });
    }
    let (limits, mine) = (found.limits.clone(), found.waiting_of(&flow));
    if mine >= limits.flow_queue || found.waiting >= limits.queues {
        found.forget_closed();
    }
    if found.waiting_of(&flow) >= limits.flow_queue || found.waiting >= limits.queues {
        found.refused += 1;
        return Received::Refused;
    }
    let (sender, receiver) = oneshot::channel();
    match found.flows.iter_mut().find(|it| it.0 == flow) {
        Some((_, queue)) => queue.push_back(sender),
        None => found.flows.push_back((flow, VecDeque::from([sender]))),
    }
    found.waiting += 1;
    Received::Wait(receiver)
}

/// Somebody has waited in vain.
pub(super) fn gave_up(pool: &Arc<Mutex<Pool>>, level: &str) {
    if let Some(found) = pool.lock().levels.get_mut(level) {
        found.refused += 1;
        found.forget_closed();
    }
}

fn release(pool: &Arc<Mutex<Pool>>, level: &str) {
    let mut all = pool.lock();
    if let Some(found) = all.levels.get_mut(level) {
        found.running -= 1;
    }
    all.levels.retain(|_, it| !it.is_gone || it.running + it.waiting > 0);
    all.seat_waiting(pool);
}

impl Pool {
    /// Takes over new limits. A level that is gone serves those who are there.
    pub(super) fn set(pool: &Arc<Mutex<Self>>, total: usize, limits: BTreeMap<String, Limits>) {
        let mut all = pool.lock();
        all.total = total;
        for (name, level) in &mut all.levels {
            level.is_gone = !limits.contains_key(name);
        }
        for (name, limits) in limits {
            all.levels.entry(name).or_default().limits = limits;
        }
        all.levels.retain(|_, it| !it.is_gone || it.running + it.waiting > 0);
        all.seat_waiting(pool);
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = (&String, &Level)> {
        self.levels.iter()
    }

    fn can_run(&self, level: &str) -> bool {
        let Some(own) = self.levels.get(level) else { return false };
        if own.limits.is_exempt || own.running < own.limits.nominal {
            return true;
        }
        let others = self.levels.iter().filter(|it| it.0 != level && !it.1.limits.is_exempt);
        let others: usize = others.map(|(_, it)| it.running.max(it.limits.kept)).sum();
        own.running < own.limits.most && others + own.running < self.total
    }

    /// Gives free seats to those who wait, flow by flow.
    fn seat_waiting(&mut self, pool: &Arc<Mutex<Self>>) {
        let waiting = self.levels.iter().filter(|it| !it.1.flows.is_empty());
        let names: Vec<String> = waiting.map(|it| it.0.clone()).collect();
        for name in names {
            while self.can_run(&name) {
                let Some(level) = self.levels.get_mut(&name) else { break };
                let Some((flow, mut queue)) = level.flows.pop_front() else { break };
                if let Some(next) = queue.pop_front() {
                    level.waiting -= 1;
                    let (pool, name) = (pool.clone(), name.clone());
                    match next.send(Permit { pool, level: name, is_armed: true }) {
                        Ok(()) => {
                            level.running += 1;
                            level.served += 1;
                        }
                        // It has given up, and never had the seat.
                        Err(mut permit) => permit.is_armed = false,
                    }
                }
                if !queue.is_empty() {
                    level.flows.push_back((flow, queue));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(nominal: usize, kept: usize, flow_queue: usize) -> Limits {
        let (most, queues) = (usize::MAX, usize::MAX);
        Limits { nominal, kept, most, flow_queue, queues, ..Limits::default() }
    }

    fn pool(levels: &[(&str, Limits)], total: usize) -> Arc<Mutex<Pool>> {
        let pool = Arc::default();
        let levels = levels.iter().map(|(name, limits)| ((*name).to_owned(), limits.clone()));
        Pool::set(&pool, total, levels.collect());
        pool
    }

    fn seat(pool: &Arc<Mutex<Pool>>, level: &str) -> Option<Permit> {
        match receive(pool, level, "f".into()) {
            Received::Seat(permit) => Some(permit),
            _ => None,
        }
    }

    fn wait(pool: &Arc<Mutex<Pool>>, level: &str, flow: &str) -> oneshot::Receiver<Permit> {
        match receive(pool, level, flow.into()) {
            Received::Wait(receiver) => receiver,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_level_borrows_what_others_lend_and_never_what_they_keep() {
        let pool = pool(&[("a", limits(2, 2, 0)), ("b", limits(4, 3, 0))], 6);
        let held: Vec<_> = std::iter::from_fn(|| seat(&pool, "a")).collect();
        assert_eq!(held.len(), 3, "two of its own and the one that b lends");
        let own: Vec<_> = std::iter::from_fn(|| seat(&pool, "b")).collect();
        assert_eq!(own.len(), 4, "what is b's is b's at once");
    }

    #[test]
    fn all_flows_together_wait_no_longer_than_the_levels_queues() {
        let only = Limits { queues: 2, ..limits(1, 1, 1) };
        let pool = pool(&[("a", only)], 1);
        let held = seat(&pool, "a").unwrap();
        let (first, mut second) = (wait(&pool, "a", "f1"), wait(&pool, "a", "f2"));
        assert!(matches!(receive(&pool, "a", "f3".into()), Received::Refused));
        // Who gives up makes room.
        drop(first);
        gave_up(&pool, "a");
        let third = wait(&pool, "a", "f3");
        assert_eq!(pool.lock().levels["a"].refused, 2);
        drop(held);
        assert!(second.try_recv().is_ok());
        drop(third);
    }

    #[test]
    fn flows_take_turns_and_a_long_queue_holds_up_only_itself() {
        let pool = pool(&[("a", limits(1, 1, 3))], 1);
        let held = seat(&pool, "a").unwrap();
        let mut flood: Vec<_> = (0..3).map(|_| wait(&pool, "a", "flood")).collect();
        assert!(matches!(receive(&pool, "a", "flood".into()), Received::Refused));
        let mut other = wait(&pool, "a", "other");
        drop(held);
        let first = flood[0].try_recv().unwrap();
        assert!(other.try_recv().is_err());
        drop(first);
        let second = other.try_recv().unwrap();
        assert!(flood[1].try_recv().is_err());
        drop(second);
        assert!(flood[1].try_recv().is_ok());
    }

    #[test]
    fn who_gives_up_neither_keeps_a_place_nor_a_seat() {
        let pool = pool(&[("a", limits(1, 1, 1))], 1);
        let held = seat(&pool, "a").unwrap();
        drop(wait(&pool, "a", "f"));
        let mut next = wait(&pool, "a", "f");
        drop(held);
        drop(next.try_recv().unwrap());
        let after = seat(&pool, "a");
        assert!(after.is_some());
        let gave_up = wait(&pool, "a", "f");
        drop(after);
        drop(gave_up);
        assert!(seat(&pool, "a").is_some(), "a seat that came too late is free");
    }

    #[test]
    fn a_level_that_goes_serves_those_who_are_there() {
        let pool = pool(&[("a", limits(1, 1, 1))], 1);
        let held = seat(&pool, "a").unwrap();
        let mut waiting = wait(&pool, "a", "f");
        Pool::set(&pool, 1, BTreeMap::new());
        drop(held);
        drop(waiting.try_recv().unwrap());
        assert_eq!(pool.lock().levels.len(), 0);
    }

    #[test]
    fn shares_become_seats() {
        let spec = json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 30, "lendablePercent": 33, "borrowingLimitPercent": 50,
            "limitResponse": {"queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}},
        }});
        let (flow_queue, queues) = (300, 3200);
        let expected =
            Limits { is_exempt: false, nominal: 74, kept: 50, most: 111, flow_queue, queues };
        assert_eq!(Limits::read(&spec, (245, 600)), expected);
    }
}
