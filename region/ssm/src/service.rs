//! The service: public parameters in memory, the account's in the store.

use std::{collections::BTreeMap, sync::Arc};

use aws_wire::Fault;
use clock::Clock;
use jiff::Timestamp;
use region_store::{Bucket, OpenStoreError, Store, Transaction};

use crate::parameters::Parameter;

/// What the service is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub account: String,
    pub region: String,
    /// Values of public parameters, by name.
    pub public: BTreeMap<String, String>,
}

/// See the crate. Clones share the state.
#[derive(Clone)]
pub struct Ssm(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    started_at: Timestamp,
    store: Store,
    own: Bucket<Parameter>,
}

impl Ssm {
    pub fn open(store: &Store, config: Config, clock: Clock) -> Result<Self, OpenStoreError> {
        let own = store.bucket("ssm/parameters")?;
        let started_at = clock.now();
        let store = store.clone();
        Ok(Self(Arc::new(Inner { config, clock, started_at, store, own })))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Parameter> {
        match self.0.config.public.get(name) {
            Some(value) => Some(Parameter::public(name, value, self.0.started_at)),
            None => self.0.own.get(name).map(|it| Parameter::clone(&it)),
        }
    }

    /// All parameters under a path, AWS's own included, in the order of their names.
    pub(crate) fn under(&self, path: &str) -> Vec<Parameter> {
        let at = self.0.started_at;
        let public = self.0.config.public.iter().filter(|(name, _)| name.starts_with(path));
        let public = public.map(|(name, value)| Parameter::public(name, value, at));
        let mut found: Vec<Parameter> = public.collect();
        found.extend(self.0.own.under(path).iter().map(|(_, it)| Parameter::clone(it)));
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// The account's own parameters.
    pub(crate) fn own(&self) -> Vec<Arc<Parameter>> {
        self.0.own.list()
    }

    pub(crate) fn change<R>(
        &self,
        change: impl FnOnce(&mut Transaction, &Bucket<Parameter>) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.0.store.transaction(|transaction| change(transaction, &self.0.own))
    }
}
