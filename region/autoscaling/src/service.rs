//! The service: groups in the store, one transaction per change, and a way to EC2.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use aws_wire::{Client, Fault};
use clock::Clock;
use jiff::Timestamp;
use latency::Latency;
use region_gateway::Caller;
use region_store::{Bucket, OpenStoreError, Store, Transaction};
use tokio::sync::Notify;

use crate::{
    LaunchRights, activities, faults,
    records::{Activity, Group},
};

/// Says which instances EC2 recommends to leave.
type Advice = Box<dyn Fn() -> BTreeSet<String> + Send + Sync>;

/// What the service is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub account: String,
    pub region: String,
    /// How long a group takes to follow a change.
    pub latency: Latency,
}

/// See the module. Clones share the state.
#[derive(Clone)]
pub struct AutoScaling(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    store: Store,
    groups: Bucket<Group>,
    activities: Bucket<Activity>,
    ec2: OnceLock<(Client, Arc<dyn LaunchRights>)>,
    at_risk: OnceLock<Advice>,
    changed: Notify,
}

/// What an operation may look at.
pub(crate) struct Call<'a> {
    pub caller: &'a Caller,
    pub now: Timestamp,
    pub config: &'a Config,
}

impl AutoScaling {
    pub fn open(store: &Store, config: Config, clock: Clock) -> Result<Self, OpenStoreError> {
        Ok(Self(Arc::new(Inner {
            config,
            clock,
            store: store.clone(),
            groups: store.bucket("autoscaling/groups")?,
            activities: store.bucket("autoscaling/activities")?,
            ec2: OnceLock::new(),
            at_risk: OnceLock::new(),
            changed: Notify::new(),
        })))
    }

    /// Gives the service its way to EC2: `Gateway::client_as("autoscaling.amazonaws.com")`, and
    /// EC2's word on what launching takes. To be called once, before [`AutoScaling::run`].
    pub fn connect(&self, ec2: Client, rights: Arc<dyn LaunchRights>) {
        if self.0.ec2.set((ec2, rights)).is_err() {
            tracing::warn!("Auto Scaling is connected to EC2 already");
        }
    }

    /// Has groups with Capacity Rebalancing heed what EC2 recommends (`EC2 Instance Rebalance
    /// Recommendation` on AWS's bus). To be called once.
    pub fn heed(&self, advice: impl Fn() -> BTreeSet<String> + Send + Sync + 'static) {
        if self.0.at_risk.set(Box::new(advice)).is_err() {
            tracing::warn!("Auto Scaling heeds EC2 already");
        }
    }

    pub(crate) fn at_risk(&self) -> BTreeSet<String> {
        self.0.at_risk.get().map(|advice| advice()).unwrap_or_default()
    }

    pub(crate) fn ec2(&self) -> Result<&Client, Fault> {
        let connected = self.0.ec2.get().map(|(client, _)| client);
        connected.ok_or_else(|| Fault::internal("Auto Scaling has no connection to EC2 yet"))
    }

    pub(crate) fn launch_rights(&self) -> Option<&dyn LaunchRights> {
        self.0.ec2.get().map(|(_, rights)| &**rights)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn call<'a>(&'a self, caller: &'a Caller) -> Call<'a> {
        Call { caller, now: self.now(), config: &self.0.config }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn latency(&self) -> &Latency {
        &self.0.config.latency
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    /// All groups, by name.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.0.groups.list()
    }

    /// What its group wants the instance to be; `None` for one of no group. See
    /// [`Group::target_state`].
    pub fn target_state(&self, instance: &str, token: Option<&str>) -> Option<&'static str> {
        self.groups().iter().find_map(|it| it.target_state(instance, token))
    }

    pub(crate) fn group(&self, name: &str) -> Result<Arc<Group>, Fault> {
        self.0.groups.get(name).ok_or_else(|| faults::no_such_group(name))
    }

    /// The group that the instance belongs to.
    pub(crate) fn group_of(&self, instance_id: &str) -> Result<Arc<Group>, Fault> {
        self.0
            .groups
            .find(|it| it.members.contains_key(instance_id))
            .ok_or_else(|| faults::no_such_member(instance_id))
    }

    pub(crate) fn activities(&self) -> Vec<Arc<Activity>> {
        self.0.activities.list()
    }

    /// Adds a group, if `check` finds nothing against it.
    pub(crate) fn insert(&self, group: Group) -> Result<(), Fault> {
        self.transaction(|transaction, inner| {
            if transaction.get(&inner.groups, &group.name).is_some() {
                return Err(Fault::new(
                    "AlreadyExists",
                    format!(
                        "AutoScalingGroup by this name already exists - A group with the name {} \
                         already exists",
                        group.name
                    ),
                ));
            }
            transaction.put(&inner.groups, group.name.clone(), group);
            Ok(())
        })?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Changes a group, together with lines of its history.
    pub(crate) fn update<R>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Group, &mut History<'_>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let (result, has_changed) = self.transaction(|transaction, inner| {
            let current = transaction.get(&inner.groups, name);
            let current = current.ok_or_else(|| faults::no_such_group(name))?;
            let mut group = Group::clone(&current);
            let mut history = History { transaction, activities: &inner.activities };
            let result = change(&mut group, &mut history)?;
            let has_changed = group != *current;
            if has_changed {
                transaction.put(&inner.groups, name, group);
            }
            Ok::<_, Fault>((result, has_changed))
        })?;
        if has_changed {
            self.0.changed.notify_one();
        }
        Ok(result)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), Fault> {
        self.transaction(|transaction, inner| {
            transaction.delete(&inner.groups, name);
            for (key, activity) in inner.activities.entries() {
                if activity.group == name {
                    transaction.delete(&inner.activities, &key);
                }
            }
            Ok(())
        })
    }

    fn transaction<R>(
        &self,
        change: impl FnOnce(&mut Transaction, &Inner) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.0.store.transaction(|transaction| change(transaction, &self.0))
    }

    /// Ends when a group was changed since the last time it ended.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

/// A group's lines of history inside a transaction.
pub(crate) struct History<'a> {
    transaction: &'a mut Transaction,
    activities: &'a Bucket<Activity>,
}

impl History<'_> {
    pub(crate) fn add(&mut self, activity: Activity) {
        for key in activities::surplus(self.activities, &activity.group) {
            self.transaction.delete(self.activities, &key);
        }
        self.transaction.put(self.activities, activity.id.clone(), activity);
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Activity>> {
        self.transaction.get(self.activities, id)
    }

    pub(crate) fn change(&mut self, id: &str, change: impl FnOnce(&mut Activity)) {
        self.transaction.update(self.activities, id, change);
    }
}
