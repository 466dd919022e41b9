//! How long AWS takes for what a region here does at once: one value, the region's latency profile.
//!
//! Every wait that is there for the sake of a profile asks this value and nothing else, so that
//! [`Latency::INSTANT`] is a region without any. A wait begins at a date of a record (a launch, a
//! creation), not at the moment at which a process came to it: a restart does not begin it anew.
//!
//! The figures of [`Latency::AWS`] are rounded from what AWS and its users publish: an instance is a
//! Ready node 40 to 90 s after `RunInstances`, and `CreateCluster` takes 9 to 15 minutes
//! (containers-roadmap#1227; AWS announced 9 in 2022). How the 40 to 90 s divide among EC2, boot and
//! interfaces is our estimate, as are the other times.
//!
//! Deviation: every instance, cluster and call takes the same time; on AWS they scatter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The profile's name, as `up --latency` and the region's settings have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    #[default]
    Instant,
    Aws,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// One call at an endpoint.
    pub call: Duration,
    /// An instance from `pending` to its power.
    pub launch: Duration,
    /// From there to the first line of user data.
    pub boot: Duration,
    /// From `stopping` to `stopped`, at least.
    pub stop: Duration,
    /// From `shutting-down` to `terminated`, at least.
    pub terminate: Duration,
    /// An interface from `attaching` to `attached`.
    pub attach: Duration,
    /// And from `detaching` to `available`.
    pub detach: Duration,
    /// A cluster from its creation to `ACTIVE`.
    pub cluster: Duration,
    /// A node group from its creation to its Auto Scaling group.
    pub nodegroup: Duration,
    /// An old node of a version update from its last pod to its termination: load balancers are to
    /// have noticed.
    pub drained: Duration,
    /// An Auto Scaling group from a change to what it does about it.
    pub scaling: Duration,
}

impl Latency {
    pub const INSTANT: Self = Self {
        call: Duration::ZERO,
        launch: Duration::ZERO,
        boot: Duration::ZERO,
        stop: Duration::ZERO,
        terminate: Duration::ZERO,
        attach: Duration::ZERO,
        detach: Duration::ZERO,
        cluster: Duration::ZERO,
        nodegroup: Duration::ZERO,
        drained: Duration::ZERO,
        scaling: Duration::ZERO,
    };

    pub const AWS: Self = Self {
        call: Duration::from_millis(100),
        launch: Duration::from_secs(8),
        boot: Duration::from_secs(25),
        stop: Duration::from_secs(30),
        terminate: Duration::from_secs(45),
        attach: Duration::from_secs(5),
        detach: Duration::from_secs(10),
        cluster: Duration::from_secs(9 * 60),
        nodegroup: Duration::from_secs(30),
        drained: Duration::from_secs(60),
        scaling: Duration::from_secs(5),
    };

    pub fn of(profile: Profile) -> Self {
        match profile {
            Profile::Instant => Self::INSTANT,
            Profile::Aws => Self::AWS,
        }
    }

    /// From `CreateNodegroup` to Ready nodes, without what the nodes themselves do.
    pub fn first_nodes(&self) -> Duration {
        self.nodegroup + self.scaling + self.launch + self.boot
    }
}

/// How much of `whole` is left when `passed` has passed; `None` for nothing.
pub fn rest(whole: Duration, passed: impl TryInto<Duration>) -> Option<Duration> {
    // Time that went backwards is none that has passed.
    let passed = passed.try_into().unwrap_or_default();
    whole.checked_sub(passed).filter(|it| !it.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_region_waits_for_nothing() {
        assert_eq!(Latency::of(Profile::Instant), Latency::default());
        assert_eq!(rest(Latency::INSTANT.cluster, Duration::ZERO), None);
    }

    #[test]
    fn an_instance_on_aws_is_a_node_within_what_is_published() {
        let alone = Latency::AWS.launch + Latency::AWS.boot;
        assert!((30..60).contains(&alone.as_secs()), "{alone:?}");
    }

    #[test]
    fn what_is_left_ends() {
        let second = Duration::from_secs(1);
        assert_eq!(rest(3 * second, second), Some(2 * second));
        assert_eq!(rest(second, second), None);
        assert_eq!(rest(second, 9 * second), None);
    }
}
