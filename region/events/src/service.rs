//! The service: rules in the store, and what is on its way to targets.

use std::{ops::ControlFlow, sync::Arc};

use aws_wire::{Client, Fault};
use clock::Clock;
use jiff::Timestamp;
use region_gateway::Gateway;
use region_store::{Bucket, OpenStoreError, Store, Transaction};
use tokio::sync::Notify;

use crate::{
    faults,
    pattern::Pattern,
    records::{BUS, Delivery, Rule},
};

/// What the service is told when it starts.
#[derive(Clone)]
pub struct Config {
    pub account: String,
    pub region: String,
    /// The way to targets.
    pub gateway: Gateway,
}

/// See the crate. Clones share the state.
#[derive(Clone)]
pub struct EventBridge(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    store: Store,
    rules: Bucket<Rule>,
    deliveries: Bucket<Delivery>,
    /// There is something to deliver.
    accepted: Notify,
}

impl EventBridge {
    pub fn open(store: &Store, config: Config, clock: Clock) -> Result<Self, OpenStoreError> {
        Ok(Self(Arc::new(Inner {
            config,
            clock,
            rules: store.bucket("events/rules")?,
            deliveries: store.bucket("events/deliveries")?,
            store: store.clone(),
            accepted: Notify::new(),
        })))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    pub(crate) fn accepted(&self) -> &Notify {
        &self.0.accepted
    }

    pub(crate) fn rules(&self) -> Vec<Arc<Rule>> {
        self.0.rules.list()
    }

    pub(crate) fn rule(&self, name: &str) -> Result<Arc<Rule>, Fault> {
        self.0.rules.get(name).ok_or_else(|| faults::no_rule(name, BUS))
    }

    pub(crate) fn find_rule(&self, name: &str) -> Option<Arc<Rule>> {
        self.0.rules.get(name)
    }

    /// Enabled rules that have somewhere to send to, with their patterns.
    pub(crate) fn armed(&self) -> Vec<(Arc<Rule>, Pattern)> {
        let rules = self.rules().into_iter();
        let armed = rules.filter(|it| it.is_enabled && !it.targets.is_empty());
        armed
            .filter_map(|it| Pattern::parse(&it.pattern).ok().map(|pattern| (it, pattern)))
            .collect()
    }

    pub(crate) fn deliveries(&self) -> Vec<(String, Arc<Delivery>)> {
        self.0.deliveries.entries()
    }

    /// What is on its way, in bytes.
    pub(crate) fn held(&self) -> usize {
        let mut bytes = 0;
        self.0.deliveries.visit("", |_, delivery| {
            bytes += delivery.size();
            ControlFlow::Continue(())
        });
        bytes
    }

    pub(crate) fn change_rules<R>(
        &self,
        change: impl FnOnce(&mut Transaction, &Bucket<Rule>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.0.store.transaction_quietly(|it| change(it, &self.0.rules))
    }

    pub(crate) fn update_rule<R>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Rule) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.change_rules(|transaction, rules| {
            let current = transaction.get(rules, name).ok_or_else(|| faults::no_rule(name, BUS))?;
            let mut changed = Rule::clone(&current);
            let result = change(&mut changed)?;
            if changed != *current {
                transaction.put(rules, name, changed);
            }
            Ok(result)
        })
    }

    pub(crate) fn change_deliveries(
        &self,
        change: impl FnOnce(&mut Transaction, &Bucket<Delivery>),
    ) -> Result<(), Fault> {
        self.0.store.transaction_quietly(|it| {
            change(it, &self.0.deliveries);
            Ok(())
        })
    }

    pub(crate) fn rule_arn(&self, name: &str) -> String {
        let Config { account, region, .. } = self.config();
        format!("arn:aws:events:{region}:{account}:rule/{name}")
    }

    pub(crate) fn bus_arn(&self) -> String {
        let Config { account, region, .. } = self.config();
        format!("arn:aws:events:{region}:{account}:event-bus/{BUS}")
    }

    /// A bus that a request names, by name or ARN: there is the default one.
    pub(crate) fn check_bus(&self, named: Option<&str>) -> Result<(), Fault> {
        match named {
            None | Some(BUS) => Ok(()),
            Some(arn) if arn == self.bus_arn() => Ok(()),
            Some(other) => Err(faults::no_bus(other.rsplit('/').next().unwrap_or(other))),
        }
    }

    /// Acts as the service, with the rule behind the call.
    pub(crate) fn client(&self, rule_arn: &str) -> Client {
        self.0.config.gateway.client_for("events.amazonaws.com", rule_arn)
    }
}
