//! Says of ServiceCIDRs whether addresses can be taken from them, and keeps those that are deleted as
//! long as a Service has an address that is in no other.
//!
//! An API server that has no ServiceCIDRs is left alone.
//!
//! Upstream: `pkg/controller/servicecidrs`.

use std::{net::IpAddr, time::Duration};

use controller::{Action, ApplyError, Queue, Store, StoreSpec, object, reflect};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::{
    api::networking::v1::{IPAddress, ServiceCIDR},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{Context, trust_bundle::serves};

const API_VERSION: &str = "networking.k8s.io/v1";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
const DEFAULT: &str = "kubernetes";
const STILL_USED: &str = "There are still IPAddresses referencing the ServiceCIDR, please remove them \
                          or create a new ServiceCIDR";
/// A server that still takes addresses from a deleted range has so long to hear of it.
const GRACE: Duration = Duration::from_secs(10);

/// What is to be written about a range.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Wait(Duration),
    Finalizers(Vec<String>),
    Status(Condition),
}

pub(crate) async fn run(context: Context) {
    if !serves(&context.client, API_VERSION, "servicecidrs").await {
        return;
    }
    let client = || context.client.clone();
    let ranges: Store<ServiceCIDR> = reflect(client(), StoreSpec::default(), &context.scope);
    let addresses: Store<IPAddress> = reflect(client(), StoreSpec::default(), &context.scope);
    tokio::join!(ranges.synced(), addresses.synced());
    let queue = Queue::new();
    let on = queue.clone();
    ranges.subscribe(move |it| on.add(it.key.clone()));
    let (on, all) = (queue.clone(), ranges.clone());
    addresses.subscribe(move |change| {
        if change.new.is_none() {
            all.all().iter().for_each(|it| on.add(controller::Key::of(&**it)));
        }
    });
    controller::run("service-cidr", queue, 1, |key| {
        let (context, ranges, addresses) = (&context, &ranges, &addresses);
        async move {
            let Some(range) = ranges.get(&key) else { return Ok(Action::Done) };
            let others: Vec<_> =
                ranges.all().iter().filter(|it| !is_same(it, &range)).cloned().collect();
            let others: Vec<_> = others.iter().map(|it| &**it).collect();
            let addresses: Vec<_> = addresses.all().iter().filter_map(|it| address(it)).collect();
            let step = plan(&range, &others, &addresses, context.clock.now());
            carry_out(context, &range, step).await
        }
    })
    .await;
}

fn is_same(a: &ServiceCIDR, b: &ServiceCIDR) -> bool {
    a.metadata.name == b.metadata.name
}

fn address(it: &IPAddress) -> Option<IpAddr> {
    it.metadata.name.as_ref()?.parse().ok()
}

fn plan(
    range: &ServiceCIDR,
    others: &[&ServiceCIDR],
    addresses: &[IpAddr],
    now: Timestamp,
) -> Step {
    let mut finalizers = range.metadata.finalizers.clone().unwrap_or_default();
    let has_finalizer = finalizers.iter().any(|it| it == FINALIZER);
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        if !has_finalizer {
            finalizers.push(FINALIZER.to_owned());
            return Step::Finalizers(finalizers);
        }
        let is_default = range.metadata.name.as_deref() == Some(DEFAULT);
        let what = if is_default { "Kubernetes default" } else { "Kubernetes" };
        return status(range, "True", "", &format!("{what} Service CIDR is ready"), now);
    };
    if !has_finalizer {
        return Step::Nothing;
    }
    if is_needed(range, others, addresses) {
        return status(range, "False", "Terminating", STILL_USED, now);
    }
    let until = clock::later(deleted.0, GRACE);
    if until > now {
        let wait = until.duration_since(now);
        return Step::Wait(Duration::try_from(wait).unwrap_or(GRACE));
    }
    finalizers.retain(|it| it != FINALIZER);
    Step::Finalizers(finalizers)
}

/// Whether an address in it is in no other range that stays.
fn is_needed(range: &ServiceCIDR, others: &[&ServiceCIDR], addresses: &[IpAddr]) -> bool {
    let staying = || others.iter().filter(|it| it.metadata.deletion_timestamp.is_none());
    addresses.iter().any(|it| holds(range, it) && !staying().any(|other| holds(other, it)))
}

fn holds(range: &ServiceCIDR, address: &IpAddr) -> bool {
    let cidrs = range.spec.iter().flat_map(|it| it.cidrs.iter().flatten());
    cidrs.filter_map(|it| it.parse::<IpNet>().ok()).any(|it| it.contains(address))
}

fn status(range: &ServiceCIDR, status: &str, reason: &str, message: &str, now: Timestamp) -> Step {
    let known = range.status.iter().flat_map(|it| it.conditions.iter().flatten());
    let known = known.into_iter().find(|it| it.type_ == READY);
    if known.is_some_and(|it| it.status == status && it.reason == reason) {
        return Step::Nothing;
    }
    Step::Status(Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: object::time(now),
        observed_generation: None,
    })
}

async fn carry_out(
    context: &Context,
    range: &ServiceCIDR,
    step: Step,
) -> Result<Action, ApplyError> {
    let name = range.metadata.name.clone().unwrap_or_default();
    let api = Api::<ServiceCIDR>::all(context.client.clone());
    let with = |mut patch: Value| {
        patch["metadata"]["resourceVersion"] = json!(range.metadata.resource_version);
        Patch::Merge(patch)
    };
    let parameters = PatchParams::default();
    let written = match step {
        Step::Nothing => return Ok(Action::Done),
        Step::Wait(time) => return Ok(Action::After(time)),
        Step::Finalizers(all) => {
            let patch = with(json!({ "metadata": { "finalizers": all } }));
            api.patch(&name, &parameters, &patch).await
        }
        Step::Status(condition) => {
            let patch = with(json!({ "metadata": {}, "status": { "conditions": [condition] } }));
            api.patch_status(&name, &parameters, &patch).await
        }
    };
    match written {
        Ok(_) => Ok(Action::Done),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::Done),
        Err(source) => Err(ApplyError::new::<ServiceCIDR>("patch", &name, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidr: &str, more: Value) -> ServiceCIDR {
        let mut meta = json!({ "name": name, "finalizers": [FINALIZER] });
        meta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({ "metadata": meta, "spec": { "cidrs": [cidr] } })).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_new_range_gets_its_finalizer_and_is_ready_then() {
        let bare = range("r", "10.1.0.0/24", json!({ "finalizers": [] }));
        let finalizers = vec![FINALIZER.to_owned()];
        assert_eq!(plan(&bare, &[], &[], at(0)), Step::Finalizers(finalizers));
        let mut own = range("r", "10.1.0.0/24", json!({}));
        let Step::Status(ready) = plan(&own, &[], &[], at(0)) else { panic!("it is ready") };
        let told = (ready.status.as_str(), ready.message.as_str());
        assert_eq!(told, ("True", "Kubernetes Service CIDR is ready"));
        own.status = serde_json::from_value(json!({ "conditions": [ready] })).unwrap();
        assert_eq!(plan(&own, &[], &[], at(0)), Step::Nothing);
    }

    #[test]
    fn a_deleted_range_stays_as_long_as_an_address_is_in_no_other() {
        let going = json!({ "deletionTimestamp": "1970-01-01T00:00:00Z" });
        let old = range("old", "10.1.0.0/24", going.clone());
        let address = ["10.1.0.9".parse().unwrap()];
        let Step::Status(kept) = plan(&old, &[], &address, at(60)) else { panic!("it stays") };
        assert_eq!((kept.status.as_str(), kept.reason.as_str()), ("False", "Terminating"));
        let larger = range("new", "10.1.0.0/16", json!({}));
        assert_eq!(plan(&old, &[&larger], &address, at(60)), Step::Finalizers(vec![]));
        assert_eq!(plan(&old, &[], &[], at(4)), Step::Wait(Duration::from_secs(6)));
        let also_going = range("new", "10.1.0.0/16", going);
        let step = plan(&old, &[&also_going], &address, at(60));
        assert!(matches!(step, Step::Status(_)), "{step:?}");
    }
}
