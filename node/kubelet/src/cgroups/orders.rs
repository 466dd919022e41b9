//! Orders to systemd that nobody waits for: of each unit the latest, in the order in which units came.
//!
//! **Invariants:** an order ends only when it was followed, refused, or overtaken by a later one of its
//! unit; so there are never more of them than units that this kubelet has.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::dbus::wire::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    Set(Vec<Value>),
    Stop,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(String, Order)>,
    /// The unit of the order that is being followed.
    current: Option<String>,
}

/// Where orders are given.
pub(super) struct Orders {
    state: Arc<Mutex<State>>,
    wake: mpsc::Sender<()>,
}

/// Where they are taken.
pub(super) struct Waiting {
    state: Arc<Mutex<State>>,
    woken: mpsc::Receiver<()>,
}

impl Orders {
    pub(super) fn new() -> (Self, Waiting) {
        let (wake, woken) = mpsc::channel(1);
        let state = Arc::default();
        (Self { state: Arc::clone(&state), wake }, Waiting { state, woken })
    }

    pub(super) fn put(&self, unit: &str, order: Order) {
        self.state.lock().put(unit, order);
        // Where it is full, there is one already.
        self.wake.try_send(()).ok();
    }

    /// Whatever was ordered for a unit is overtaken.
    pub(super) fn revoke(&self, unit: &str) {
        let mut state = self.state.lock();
        state.waiting.retain(|(it, _)| it != unit);
        if state.current.as_deref() == Some(unit) {
            state.current = None;
        }
    }
}

impl Waiting {
    /// Waits until there may be an order. None will come any more where this is `false`.
    pub(super) async fn woken(&mut self) -> bool {
        self.woken.recv().await.is_some()
    }

    pub(super) fn next(&self) -> Option<(String, Order)> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        state.current = next.as_ref().map(|(unit, _)| unit.clone());
        next
    }

    /// What could not be followed is to be tried again, behind the others, unless it was overtaken.
    pub(super) fn again(&self, unit: &str, order: Order) {
        let mut state = self.state.lock();
        if state.current.take().as_deref() != Some(unit) {
            return;
        }
        let later = state.waiting.iter().position(|(it, _)| it == unit);
        let later = later.and_then(|at| state.waiting.remove(at));
        state.put(unit, order);
        if let Some((_, later)) = later {
            state.put(unit, later);
        }
    }
}

impl State {
    fn put(&mut self, unit: &str, order: Order) {
        match self.waiting.iter_mut().find(|(it, _)| it == unit) {
            Some((_, known)) => merge(known, order),
            None => self.waiting.push_back((unit.to_owned(), order)),
        }
    }
}

/// What is to go needs no properties.
fn merge(known: &mut Order, order: Order) {
    match (known, order) {
        (Order::Stop, _) => {}
        (known, Order::Stop) => *known = Order::Stop,
        (Order::Set(old), Order::Set(new)) => {
            old.retain(|it| new.iter().all(|new| name(new) != name(it)));
            old.extend(new);
        }
    }
}

fn name(property: &Value) -> Option<&Value> {
    match property {
        Value::Struct(parts) => parts.first(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(all: &[(&str, u64)]) -> Order {
        let property = |(name, value): &(&str, u64)| {
            Value::Struct(vec![Value::Text((*name).to_owned()), Value::U64(*value)])
        };
        Order::Set(all.iter().map(property).collect())
    }

    #[test]
    fn of_each_unit_the_latest_counts_and_none_is_lost() {
        let (orders, waiting) = Orders::new();
        for unit in 0..1000 {
            orders.put(&format!("{unit}.slice"), Order::Stop);
        }
        orders.put("a", set(&[("x", 1), ("y", 1)]));
        orders.put("a", set(&[("x", 2), ("z", 2)]));
        orders.put("7.slice", set(&[("x", 1)]));
        for unit in 0..1000 {
            assert_eq!(waiting.next(), Some((format!("{unit}.slice"), Order::Stop)));
        }
        let (unit, order) = waiting.next().unwrap();
        assert_eq!((unit.as_str(), &order), ("a", &set(&[("y", 1), ("x", 2), ("z", 2)])));
        // What fails comes back below what was ordered meanwhile.
        orders.put("a", set(&[("y", 3)]));
        waiting.again("a", order);
        assert_eq!(waiting.next().unwrap().1, set(&[("x", 2), ("z", 2), ("y", 3)]));
        orders.put("a", Order::Stop);
        waiting.again("a", set(&[("x", 2)]));
        assert_eq!(waiting.next().unwrap().1, Order::Stop);
        // Its pod is there again.
        orders.revoke("a");
        waiting.again("a", Order::Stop);
        assert_eq!(waiting.next(), None);
    }
}
