//! The service: public parameters in memory, the account's in the store, and who is connected.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aws_wire::Fault;
use clock::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use region_store::{Bucket, OpenStoreError, Store, Transaction};

use crate::{
    channels::Hub,
    commands::Invocation,
    instances::{Instances, Told},
    parameters::Parameter,
    sessions::{Presence, Session},
};

/// What the service is told when it starts.
#[derive(Clone)]
pub struct Config {
    pub account: String,
    pub region: String,
    /// Values of public parameters, by name.
    pub public: BTreeMap<String, String>,
    pub instances: Arc<dyn Instances>,
    /// Where this machine's users reach the region: `127.0.0.1:4566`.
    pub endpoint: String,
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
    sessions: Bucket<Session>,
    invocations: Bucket<Invocation>,
    hub: Hub,
    told: Mutex<BTreeMap<String, Told>>,
    present: Mutex<HashMap<String, Presence>>,
}

impl Ssm {
    pub fn open(store: &Store, config: Config, clock: Clock) -> Result<Self, OpenStoreError> {
        let own = store.bucket("ssm/parameters")?;
        let sessions: Bucket<Session> = store.bucket("ssm/sessions")?;
        let invocations = store.bucket("ssm/invocations")?;
        let started_at = clock.now();
        // Their ends connect again, or they have ended.
        let goes_on = sessions.list().into_iter().filter(|it| it.ended.is_none());
        let present = goes_on.map(|it| (it.id.clone(), Presence::new(started_at))).collect();
        Ok(Self(Arc::new(Inner {
            config,
            clock,
            started_at,
            store: store.clone(),
            own,
            sessions,
            invocations,
            hub: Hub::default(),
            told: Mutex::default(),
            present: Mutex::new(present),
        })))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn told(&self) -> &Mutex<BTreeMap<String, Told>> {
        &self.0.told
    }

    /// The sessions that go on.
    pub(crate) fn present(&self) -> &Mutex<HashMap<String, Presence>> {
        &self.0.present
    }

    pub(crate) fn sessions(&self) -> &Bucket<Session> {
        &self.0.sessions
    }

    pub(crate) fn invocations(&self) -> &Bucket<Invocation> {
        &self.0.invocations
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
        self.transaction(|transaction| change(transaction, &self.0.own))
    }

    pub(crate) fn transaction<R>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.0.store.transaction(change)
    }
}
