//! The service itself: one state, one writer at a time, durable before it is visible.

use std::sync::Arc;

use aws_wire::Fault;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use latency::Latency;
use parking_lot::{Mutex, RwLock};
use region_gateway::Caller;
use region_store::{Bucket, OpenStoreError, Store, Transaction};
use tokio::sync::{Notify, watch};

use crate::{
    capacity_reservations,
    events::{self, Pending},
    instances,
    market::Market,
    network_interfaces,
    records::{HostReport, Vpc},
    seed, spot,
    state::{Record, State, Table, TableVisitor},
    usage::{History, Sample},
};

/// What the service is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub account: String,
    pub region: String,
    /// Name and id of each zone: `us-east-1a`, `use1-az1`.
    pub zones: Vec<(String, String)>,
    /// How long interfaces take to come and go; hosts take their time elsewhere.
    pub latency: Latency,
    /// How many instances the machine can hold at once.
    pub capacity: usize,
    /// What the market of Spot Instances follows from; without, its capacity has no end.
    pub spot_seed: Option<u64>,
}

impl Config {
    /// The region's usual shape: three zones.
    pub fn new(account: &str, region: &str) -> Self {
        let short: String = match region {
            "us-east-1" => "use1".to_owned(),
            _ => region.replace('-', ""),
        };
        let zones = [('a', 1), ('b', 2), ('c', 3)]
            .map(|(letter, number)| (format!("{region}{letter}"), format!("{short}-az{number}")));
        let latency = Latency::INSTANT;
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            zones: zones.to_vec(),
            latency,
            capacity: usize::MAX,
            spot_seed: None,
        }
    }

    pub(crate) fn market(&self) -> Market {
        Market::new(self.spot_seed)
    }

    pub(crate) fn zone_id(&self, zone: &str) -> Option<&str> {
        self.zones.iter().find(|(name, _)| name == zone).map(|(_, id)| id.as_str())
    }

    /// `arn:aws:ec2:REGION:ACCOUNT:TYPE/ID`.
    pub(crate) fn arn(&self, kind: &str, id: &str) -> String {
        format!("arn:aws:ec2:{}:{}:{kind}/{id}", self.region, self.account)
    }
}

/// What EC2 asks others: IAM for instance profiles, the host for its console.
pub trait Environment: Send + Sync + 'static {
    /// The instance profile of that name or ARN.
    fn instance_profile(&self, name_or_arn: &str) -> Option<ProfileInfo>;

    /// What the instance wrote to its console.
    fn console(&self, instance_id: &str) -> Option<Vec<u8>>;
}

/// An instance profile as IAM knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileInfo {
    pub arn: String,
    pub id: String,
    /// The role in it, if any.
    pub role_arn: Option<String>,
}

/// See the module. Clones share the state.
#[derive(Clone)]
pub struct Ec2(Arc<Inner>);

struct Inner {
    config: Config,
    clock: Clock,
    environment: Arc<dyn Environment>,
    store: Store,
    writer: Mutex<()>,
    state: RwLock<Arc<State>>,
    changes: watch::Sender<u64>,
    history: Mutex<History>,
    /// What is not on the account's bus yet.
    events: Bucket<Pending>,
    told: Notify,
}

/// What an operation may look at besides the state.
pub(crate) struct Call<'a> {
    pub caller: &'a Caller,
    pub now: Timestamp,
    pub config: &'a Config,
    pub environment: &'a dyn Environment,
}

impl Ec2 {
    /// Opens the service over what the store holds; fills an empty store with the account's
    /// default VPC and the images.
    pub fn open(
        store: &Store,
        config: Config,
        clock: Clock,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, OpenEc2Error> {
        let mut state = State::default();
        let loaded = load(store, &mut state).and_then(|()| events_of(store));
        let events = loaded.map_err(|source| OpenEc2Error::Load { source })?;
        let inner = Inner {
            config,
            clock,
            environment,
            store: store.clone(),
            writer: Mutex::new(()),
            state: RwLock::new(Arc::new(state)),
            changes: watch::Sender::new(0),
            history: Mutex::default(),
            events,
            told: Notify::new(),
        };
        let ec2 = Self(Arc::new(inner));
        let caller = Caller::service("ec2.amazonaws.com", ec2.account(), ec2.region(), clock.now());
        ec2.write(&caller, seed::fill).map_err(|source| OpenEc2Error::Seed { source })?;
        Ok(ec2)
    }

    pub fn account(&self) -> &str {
        &self.0.config.account
    }

    pub fn region(&self) -> &str {
        &self.0.config.region
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// All resources as they are now. Cheap.
    pub fn view(&self) -> Arc<State> {
        self.0.state.read().clone()
    }

    /// How many addresses of the subnet were taken in the last hours, the oldest sample first.
    pub fn usage(&self, subnet_id: &str) -> Vec<Sample> {
        self.0.history.lock().of(subnet_id)
    }

    /// Sees a new number after every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Another one after every change.
    pub(crate) fn version(&self) -> u64 {
        *self.0.changes.borrow()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The account's default VPC.
    pub fn default_vpc(&self) -> Option<Vpc> {
        self.view().vpcs.iter().find(|it| it.is_default).cloned()
    }

    /// Takes note of what the host under an instance did. Reports may come late or twice.
    pub fn report(&self, instance_id: &str, report: &HostReport) -> Result<(), Fault> {
        let caller =
            Caller::service("ec2.amazonaws.com", self.account(), self.region(), self.0.clock.now());
        self.write(&caller, |call, state| {
            instances::reports::apply(call, state, instance_id, report)
        })
    }

    /// Takes Spot Instances away, with EC2's warning, `wait` from now; when each ends.
    pub fn interrupt(
        &self,
        ids: &[String],
        wait: SignedDuration,
    ) -> Result<Vec<(String, Timestamp)>, Fault> {
        let caller =
            Caller::service("ec2.amazonaws.com", self.account(), self.region(), self.0.clock.now());
        self.write(&caller, |call, state| spot::interrupt(call, state, ids, wait))
    }

    /// Ends what has taken its time, and says when the next thing will have.
    pub fn settle(&self) -> Result<Option<Timestamp>, Fault> {
        let caller =
            Caller::service("ec2.amazonaws.com", self.account(), self.region(), self.0.clock.now());
        self.write(&caller, |call, state| {
            instances::volumes::settle(call, state)?;
            let settled = network_interfaces::settle(call, state)?;
            let interrupted = spot::settle(call, state)?;
            let reserved = capacity_reservations::settle(call, state)?;
            let forgotten = instances::reports::forget_terminated(call, state)?;
            Ok(settled.into_iter().chain(interrupted).chain(reserved).chain(forgotten).min())
        })
    }

    pub(crate) fn read<R>(
        &self,
        caller: &Caller,
        read: impl FnOnce(&Call<'_>, &State) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        read(&self.call(caller), &self.view())
    }

    /// What `look` gives follows from the state alone, so that it may be kept until that changes.
    pub(crate) fn look<R>(
        &self,
        caller: &Caller,
        look: impl FnOnce(&Call<'_>, &State) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.read(caller, look)
    }

    pub(crate) fn write<R>(
        &self,
        caller: &Caller,
        change: impl FnOnce(&Call<'_>, &mut State) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        // The lock is held while others commit.
        region_store::blocking(|| self.write_alone(caller, change))
    }

    fn write_alone<R>(
        &self,
        caller: &Caller,
        change: impl FnOnce(&Call<'_>, &mut State) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let _alone = self.0.writer.lock();
        let mut next = State::clone(&self.view());
        let result = change(&self.call(caller), &mut next)?;
        events::of_states(&self.0.config, &self.view(), &mut next);
        let told = std::mem::take(&mut next.events);
        let has_told = !told.is_empty();
        let written = self.0.store.transaction(|transaction| {
            let before = if has_told { self.unpublished() } else { Vec::new() };
            let mut last = before.into_iter().next_back().map(|(key, _)| key);
            for event in told {
                let (key, pending) = Pending::new(self.0.clock.now(), last.as_deref(), event);
                last = Some(key.clone());
                transaction.put(&self.0.events, key, pending);
            }
            let mut save = Save { store: &self.0.store, transaction, written: 0 };
            next.visit(&mut save)?;
            Ok::<_, Fault>(save.written)
        })?;
        if has_told {
            self.0.told.notify_one();
        }
        if written > 0 {
            if !next.network_interfaces.is_same(&self.view().network_interfaces)
                || !next.subnets.is_same(&self.view().subnets)
            {
                self.0.history.lock().note(&next, self.0.clock.now());
            }
            *self.0.state.write() = Arc::new(next);
            self.0.changes.send_modify(|it| *it += 1);
        }
        Ok(result)
    }

    pub(crate) fn told(&self) -> &Notify {
        &self.0.told
    }

    /// What is not on the bus yet, the oldest first.
    pub(crate) fn unpublished(&self) -> Vec<(String, Arc<Pending>)> {
        self.0.events.entries()
    }

    pub(crate) fn published(&self, keys: impl Iterator<Item = String>) -> Result<(), Fault> {
        self.0.store.transaction_quietly(|transaction| {
            keys.for_each(|key| transaction.delete(&self.0.events, &key));
            Ok(())
        })
    }

    pub(crate) fn call<'a>(&'a self, caller: &'a Caller) -> Call<'a> {
        let inner = &*self.0;
        Call {
            caller,
            now: inner.clock.now(),
            config: &inner.config,
            environment: &*inner.environment,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenEc2Error {
    #[error("failed to read EC2's resources from the store")]
    Load {
        #[source]
        source: Fault,
    },
    #[error("failed to create the account's default VPC and images")]
    Seed {
        #[source]
        source: Fault,
    },
}

// === Storage ===

fn load(store: &Store, state: &mut State) -> Result<(), Fault> {
    struct Load<'a>(&'a Store);
    impl TableVisitor for Load<'_> {
        fn table<T: Record>(
            &mut self,
            bucket: &'static str,
            table: &mut Table<T>,
        ) -> Result<(), Fault> {
            let rows = open::<T>(self.0, bucket)?.list();
            *table = Table::load(rows);
            Ok(())
        }
    }
    state.visit(&mut Load(store))
}

struct Save<'a> {
    store: &'a Store,
    transaction: &'a mut Transaction,
    written: usize,
}

impl TableVisitor for Save<'_> {
    fn table<T: Record>(
        &mut self,
        bucket: &'static str,
        table: &mut Table<T>,
    ) -> Result<(), Fault> {
        let changes = table.take_changes();
        if changes.is_empty() {
            return Ok(());
        }
        self.written += changes.len();
        let bucket = open::<T>(self.store, bucket)?;
        for (id, row) in changes {
            match row {
                Some(row) => self.transaction.put(&bucket, id, T::clone(&row)),
                None => self.transaction.delete(&bucket, &id),
            }
        }
        Ok(())
    }
}

fn events_of(store: &Store) -> Result<Bucket<Pending>, Fault> {
    store.bucket("ec2/events").map_err(|error| Fault::internal(error.to_string()))
}

fn open<T: Record>(store: &Store, bucket: &str) -> Result<Bucket<T>, Fault> {
    store.bucket::<T>(bucket).map_err(|error: OpenStoreError| Fault::internal(error.to_string()))
}
