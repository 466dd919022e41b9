//! Priority and fairness: which requests are worked on at once, so that a client that floods the
//! server starves only itself.
//!
//! FlowSchemas say which priority level a request is of and which flow of it; the levels share the
//! server's seats (see [`pool`]). A watch takes a seat until it is under way; streams and what is
//! proxied take none.
//!
//! Deviation: each flow has a queue of its own instead of a hand of the level's queues; a request
//! takes one seat, whatever it costs; and seats are borrowed from request to request, not adjusted
//! every ten seconds.
//!
//! Upstream: KEP-1040, k8s.io/apiserver/pkg/util/flowcontrol.

mod defaults;
mod pool;
mod schemas;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use mvcc::{CommitError, Store, Txn};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub(crate) use self::{
    defaults::{bootstrap_objects, has_spec_of, is_mandatory, may_be_updated},
    pool::Permit,
};
use self::{
    pool::{Limits, Pool, Received},
    schemas::Schema,
};
use crate::{
    conditions,
    registry::{self, Reader},
    request::{RequestInfo, UserInfo},
    resources::meta,
    status::Status,
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";

/// See the module.
#[derive(Debug)]
pub(crate) struct Limiter {
    objects: Reader,
    seats: usize,
    config: Mutex<Arc<Config>>,
    pool: Arc<Mutex<Pool>>,
}

/// What the objects say, at the revisions at which they were read.
#[derive(Debug, Default)]
struct Config {
    epoch: [u64; 2],
    /// In the order in which they are tried; none refers to a level that is not there.
    schemas: Vec<Schema>,
    /// Uids by name.
    levels: BTreeMap<String, String>,
}

/// What a request was classified as, for its answer's headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    schema: String,
    level: String,
}

impl Class {
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        for (name, uid) in [
            ("x-kubernetes-pf-flowschema-uid", &self.schema),
            ("x-kubernetes-pf-prioritylevel-uid", &self.level),
        ] {
            if let Ok(value) = HeaderValue::from_str(uid) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

impl Limiter {
    pub(crate) fn new(objects: Reader, seats: usize) -> Self {
        Self { objects, seats, config: Mutex::default(), pool: Arc::default() }
    }

    /// A seat, at once or after a wait for at most `patience`, and what the request is. Neither before
    /// there are levels.
    pub(crate) async fn admit(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        patience: Duration,
    ) -> (Option<Class>, Result<Option<Permit>, Status>) {
        let config = self.config();
        let Some(schema) = config.schemas.iter().find(|it| it.matches(user, info)) else {
            return (None, Ok(None));
        };
        let level = config.levels[&schema.level].clone();
        let class = Some(Class { schema: schema.uid.clone(), level });
        let permit = match pool::receive(&self.pool, &schema.level, schema.flow(user, info)) {
            Received::Seat(permit) => Some(permit),
            Received::Wait(seat) => {
                let seat = tokio::time::timeout(patience, seat).await.ok().and_then(Result::ok);
                if seat.is_none() {
                    pool::gave_up(&self.pool, &schema.level);
                }
                seat
            }
            Received::Refused => None,
        };
        let refused = || Status::too_many_requests("too many requests, please try again later", 1);
        (class, permit.map(Some).ok_or_else(refused))
    }

    fn config(&self) -> Arc<Config> {
        let epoch = [SCHEMAS, LEVELS].map(|it| self.objects.revision(GROUP, it));
        let mut config = self.config.lock();
        if config.epoch != epoch {
            *config = Arc::new(self.read(epoch));
        }
        config.clone()
    }

    fn read(&self, epoch: [u64; 2]) -> Config {
        let levels = self.objects.list(GROUP, LEVELS, "");
        let shares = levels.iter().map(|it| pool::shares(&it["spec"])).sum();
        let seats = u64::try_from(self.seats).unwrap_or(u64::MAX);
        let limits = levels
            .iter()
            .map(|it| (meta(it, "name").to_owned(), Limits::read(&it["spec"], (shares, seats))));
        Pool::set(&self.pool, self.seats, limits.collect());
        let uids = levels.iter().map(|it| (meta(it, "name").into(), meta(it, "uid").into()));
        let levels: BTreeMap<String, String> = uids.collect();
        let all = self.objects.list(GROUP, SCHEMAS, "");
        let mut schemas: Vec<Schema> = all.iter().map(Schema::read).collect();
        schemas.retain(|it| levels.contains_key(&it.level));
        schemas.sort_by(|a, b| a.order().cmp(&b.order()));
        Config { epoch, schemas, levels }
    }

    /// A number that changes with the objects.
    pub(crate) fn epoch(&self) -> [u64; 2] {
        self.config().epoch
    }

    /// In Prometheus's format.
    pub(crate) fn metrics(&self, text: &mut String) {
        type Read = fn(&pool::Level) -> String;
        let all: [(&str, &str, &str, Read); 5] = [
            (
                "nominal_limit_seats",
                "gauge",
                "Nominal number of execution seats configured for each priority level",
                |it| it.limits.nominal.to_string(),
            ),
            (
                "current_executing_requests",
                "gauge",
                "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution \
                 stage in the API Priority and Fairness subsystem",
                |it| it.running.to_string(),
            ),
            (
                "current_inqueue_requests",
                "gauge",
                "Number of requests currently pending in queues of the API Priority and Fairness \
                 subsystem",
                |it| it.waiting.to_string(),
            ),
            (
                "dispatched_requests_total",
                "counter",
                "Number of requests executed by API Priority and Fairness subsystem",
                |it| it.served.to_string(),
            ),
            (
                "rejected_requests_total",
                "counter",
                "Number of requests rejected by API Priority and Fairness subsystem",
                |it| it.refused.to_string(),
            ),
        ];
        let pool = self.pool.lock();
        for (name, kind, help, read) in all {
            let name = format!("apiserver_flowcontrol_{name}");
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
            for (level, state) in pool.levels() {
                text.push_str(&format!("{name}{{priority_level=\"{level}\"}} {}\n", read(state)));
            }
        }
    }
}

/// Says of each FlowSchema whether the level is there that it names.
pub(crate) async fn tell_dangling(store: &Store, now: &str) -> Result<(), CommitError> {
    for record in store.scan(&registry::prefix(GROUP, SCHEMAS, "")) {
        let mut schema = registry::decode(&record);
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].clone();
        let level = level.as_str().unwrap_or_default();
        let is_there = store.get(&registry::key(GROUP, LEVELS, "", level)).is_some();
        let told = dangling(level, is_there);
        let known = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let same = |it: &Value| ["type", "status", "message"].iter().all(|at| it[at] == told[at]);
        if known.iter().any(same) {
            continue;
        }
        conditions::set(&mut schema, told, now);
        let txn = Txn::update(&*record.key, record.mod_revision, registry::encode(&schema));
        match store.commit(txn).await {
            // Whoever changed it meanwhile is looked at the next time.
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn dangling(level: &str, is_there: bool) -> Value {
    let (status, reason, end) = if is_there {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named \"{level}\" {end}"
    );
    json!({
        "type": "Dangling", "status": status, "reason": reason, "message": message,
    })
}

#[cfg(test)]
mod tests;
