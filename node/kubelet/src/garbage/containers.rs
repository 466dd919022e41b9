//! Which dead containers go.
//!
//! Upstream: `GCPolicy`: a minimum age, so many per name, so many in all.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use api_cri::v1;
use jiff::Timestamp;

use crate::{labels, settings::Settings};

/// The current container of a name; it may be dead while it waits for its restart.
const CURRENT: usize = 1;

#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub minimum_age: Duration,
    /// Old ones of a name. `None` keeps all.
    pub per_name: Option<usize>,
    /// Dead ones in all. `None` keeps all.
    pub total: Option<usize>,
    pub now: Timestamp,
}

impl Policy {
    pub(super) fn of(settings: &Settings, now: Timestamp) -> Self {
        Self {
            minimum_age: settings.minimum_container_age,
            per_name: usize::try_from(settings.dead_containers_per_container).ok(),
            total: usize::try_from(settings.dead_containers).ok(),
            now,
        }
    }
}

/// Newest first. Attempts say what is newer: a date may have been set back meanwhile.
pub(super) fn sort(containers: &mut [v1::Container], sandboxes: &[v1::PodSandbox]) {
    let sandboxes: HashMap<&str, u32> = sandboxes
        .iter()
        .map(|it| (it.id.as_str(), it.metadata.as_ref().map_or(0, |it| it.attempt)))
        .collect();
    containers.sort_by_cached_key(|it| {
        let attempt = it.metadata.as_ref().map_or(0, |it| it.attempt);
        Reverse((sandboxes.get(it.pod_sandbox_id.as_str()).copied(), attempt, it.created_at))
    });
}

/// The ids to remove. `containers` is sorted, newest first.
pub(super) fn plan(
    containers: &[v1::Container],
    policy: &Policy,
    is_over: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for it in containers {
        let label = |key: &str| it.labels.get(key).map(String::as_str).unwrap_or_default();
        let (uid, name) = (label(labels::POD_UID), label(labels::CONTAINER_NAME));
        let count = seen.entry((uid, name)).or_default();
        *count += 1;
        let is_dead = it.state == v1::ContainerState::ContainerExited as i32;
        if !is_dead || is_young(it, policy) {
            continue;
        }
        let is_surplus = policy.per_name.is_some_and(|it| *count > it + CURRENT);
        if is_surplus || is_over(uid) {
            gone.push(it.id.clone());
        } else if *count > CURRENT {
            // The current one of a name is never surplus: it is the pod's state.
            kept.push(it.id.clone());
        }
    }
    if let Some(total) = policy.total {
        gone.extend(kept.into_iter().skip(total));
    }
    gone
}

fn is_young(container: &v1::Container, policy: &Policy) -> bool {
    let made = Timestamp::from_nanosecond(i128::from(container.created_at)).unwrap_or_default();
    policy.now < made + policy.minimum_age
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(id: &str, name: &str, state: v1::ContainerState, seconds: i64) -> v1::Container {
        v1::Container {
            id: id.to_owned(),
            state: state as i32,
            created_at: seconds * 1_000_000_000,
            labels: [
                (labels::POD_UID.to_owned(), "u".to_owned()),
                (labels::CONTAINER_NAME.to_owned(), name.to_owned()),
            ]
            .into(),
            ..Default::default()
        }
    }

    fn policy() -> Policy {
        Policy {
            minimum_age: Duration::ZERO,
            per_name: Some(1),
            total: None,
            now: Timestamp::UNIX_EPOCH + Duration::from_secs(100),
        }
    }

    fn containers() -> [v1::Container; 5] {
        use v1::ContainerState::{ContainerExited as Exited, ContainerRunning as Running};
        [
            made("a3", "a", Running, 50),
            made("a2", "a", Exited, 40),
            made("a1", "a", Exited, 30),
            made("b1", "b", Exited, 20),
            made("a0", "a", Running, 10),
        ]
    }

    #[test]
    fn the_newest_two_of_each_name_stay_and_whatever_runs() {
        assert_eq!(plan(&containers(), &policy(), |_| false), ["a1"]);
    }

    #[test]
    fn nothing_dead_of_a_pod_that_has_ended_stays() {
        assert_eq!(plan(&containers(), &policy(), |_| true), ["a2", "a1", "b1"]);
    }

    #[test]
    fn age_and_total_are_limits_too() {
        let young = Policy { minimum_age: Duration::from_secs(75), ..policy() };
        assert_eq!(plan(&containers(), &young, |_| true), ["b1"]);
        let none = Policy { per_name: None, total: Some(1), ..policy() };
        assert_eq!(plan(&containers(), &none, |_| false), ["a1"]);
    }
}
