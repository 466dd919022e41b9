//! `pods/eviction`: a delete that asks the PodDisruptionBudgets first.
//!
//! Admission is asked about the eviction, and not about the deletion that comes of it. A pod that no
//! budget guards because it is not ready goes only as it was seen.
//!
//! Upstream: `EvictionREST` in pkg/registry/core/pod/storage/eviction.go.

use std::sync::Arc;

use http::StatusCode;
use mvcc::{Record, Txn};
use serde_json::{Value, json};

use crate::{
    admission::{self, Operation},
    decode, registry,
    render::Answer,
    resources::meta,
    selectors::Labels,
    server::{Call, timestamp},
    status::Status,
    verbs::{
        delete::{self, Options},
        latest,
        write::{self, Refused},
    },
};

const ATTEMPTS: usize = 20;
const BUDGETS: &str = "poddisruptionbudgets";

/// What an eviction may do to a pod.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// No budget needs to be asked, as long as the pod is as it is.
    Free,
    /// The budget must be charged first.
    Charge,
}

pub(crate) async fn evict(call: &mut Call) -> Result<Answer, Status> {
    let media = call.header(http::header::CONTENT_TYPE).to_owned();
    let mut eviction = decode::body(&media, &call.body)?.value;
    let name = call.name().to_owned();
    if meta(&eviction, "name") != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    admission::admit(call, Operation::Create, None, &mut eviction).await?;
    let mut options = Options::of(&eviction["deleteOptions"])?;
    options.is_dry_run |= write::is_dry_run(call);
    options.is_admitted = true;
    let key = call.resource.key(&call.info.namespace, &name);
    for _ in 0..ATTEMPTS {
        let pod = latest::found(call, &key).await?.map(|it| registry::decode(&it));
        let pod = pod.ok_or_else(|| Status::not_found("pods", &name))?;
        options.check(&call.resource, &pod)?;
        let is_ended = is_ended(&pod);
        if !is_ended && pod["status"]["phase"] != "Pending" {
            evict_available(call, &pod, &options).await?;
            return Ok(super::success(StatusCode::CREATED));
        }
        // A pending one is not, as long as it is that.
        let seen = if is_ended { options.clone() } else { as_seen(&options, &pod) };
        match remove(call, &name, seen).await {
            // It has become another meanwhile: whether a budget is to be asked is asked again.
            Err(status) if status.code == StatusCode::CONFLICT && options.version.is_none() => {}
            result => return result.map(|()| super::success(StatusCode::CREATED)),
        }
    }
    Err(Status::modified("pods", &name))
}

/// A pod that budgets guard.
async fn evict_available(call: &mut Call, pod: &Value, options: &Options) -> Result<(), Status> {
    let name = meta(pod, "name");
    let Some(budget) = charge(call, pod, options.is_dry_run).await? else {
        return remove(call, name, options.clone()).await;
    };
    match remove(call, name, as_seen(options, pod)).await {
        // Nobody knows now whether the budget allows it.
        Err(status) if status.code == StatusCode::CONFLICT && options.version.is_none() => {
            Err(unknown(&budget))
        }
        result => result,
    }
}

/// Of the pod as it is now only.
fn as_seen(options: &Options, pod: &Value) -> Options {
    let mut options = options.clone();
    options.version.get_or_insert_with(|| meta(pod, "resourceVersion").to_owned());
    options
}

async fn remove(call: &mut Call, name: &str, mut options: Options) -> Result<(), Status> {
    let key = call.resource.key(&call.info.namespace, name);
    mark_disrupted(call, &key, &mut options).await?;
    delete::delete_one(call, name, &options).await.map(|_| ())
}

/// Finished and going pods are not available to anyone, so no budget is touched.
fn is_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        || !meta(pod, "deletionTimestamp").is_empty()
}

/// Takes one disruption from the pod's budget; a dry run only asks whether there is one. The name is
/// that of a budget that is not charged because the pod is not ready.
async fn charge(call: &Call, pod: &Value, is_dry_run: bool) -> Result<Option<String>, Status> {
    for _ in 0..ATTEMPTS {
        let Some(record) = budget(call, pod)? else { return Ok(None) };
        let mut budget = registry::decode(&record);
        if verdict(pod, &budget)? == Verdict::Free {
            return Ok(Some(meta(&budget, "name").to_owned()));
        }
        if is_dry_run {
            return Ok(None);
        }
        let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or_default();
        budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
        let name = meta(pod, "name");
        budget["status"]["disruptedPods"][name] = timestamp(call.server.clock.now()).into();
        let txn = Txn::update(&*record.key, record.mod_revision, registry::encode(&budget));
        match write::commit(call, "update", txn).await {
            Ok(_) => return Ok(None),
            Err(Refused::Changed) => {}
            Err(Refused::Failed(status)) => return Err(status),
        }
    }
    Err(Status::too_many_requests("couldn't update PodDisruptionBudget due to conflicts", 10))
}

/// The one budget that covers the pod.
fn budget(call: &Call, pod: &Value) -> Result<Option<Arc<Record>>, Status> {
    let prefix = registry::prefix("policy", BUDGETS, meta(pod, "namespace"));
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    let labels = labels
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut covering = call.server.store.scan(&prefix).into_iter().filter(|record| {
        let budget = registry::decode(record);
        let selector = &budget["spec"]["selector"];
        selector.is_object() && Labels::of(selector).is_ok_and(|it| it.matches(&labels))
    });
    let first = covering.next();
    if covering.next().is_some() {
        return Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
             not support.",
        ));
    }
    Ok(first)
}

fn verdict(pod: &Value, budget: &Value) -> Result<Verdict, Status> {
    let (status, name) = (&budget["status"], meta(budget, "name"));
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    let observed = number("observedGeneration");
    let generation = budget["metadata"]["generation"].as_i64().unwrap_or_default();
    let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
    if !is_ready(pod) {
        let policy = budget["spec"]["unhealthyPodEvictionPolicy"].as_str();
        let is_covered = healthy >= desired && desired > 0 || policy == Some("AlwaysAllow");
        if is_covered {
            return Ok(Verdict::Free);
        }
    }
    if observed < generation {
        return Err(unknown(name));
    }
    let disrupted = status["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    if number("disruptionsAllowed") <= 0 || disrupted > 2000 {
        let mut status = Status::too_many_requests(refusal(), 0);
        status.retry_after = None;
        status.details = json!({});
        return Err(status.cause(
            "DisruptionBudget",
            &why_none(budget, name, (healthy, desired)),
            "",
        ));
    }
    Ok(Verdict::Charge)
}

/// What a budget allows will be known soon.
fn unknown(name: &str) -> Status {
    let why = format!("The disruption budget {name} is still being processed by the server.");
    Status::too_many_requests(refusal(), 10).cause("DisruptionBudget", &why, "")
}

/// Why a budget allows nothing now.
fn why_none(budget: &Value, name: &str, (healthy, desired): (i64, i64)) -> String {
    let conditions = budget["status"]["conditions"].as_array().into_iter().flatten();
    let mut failed = conditions.filter(|it| it["reason"] == "SyncFailed");
    let none = format!("The disruption budget {name} does not allow evicting pods currently");
    match failed.find(|it| it["type"] == "DisruptionAllowed") {
        Some(it) => {
            let why = it["message"].as_str().unwrap_or_default();
            format!("{none} because it failed sync: {why}")
        }
        None if healthy <= desired => format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        ),
        None => none,
    }
}

fn refusal() -> &'static str {
    "Cannot evict pod as it would violate the pod's disruption budget."
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// The pod says why it goes (KEP-3329). A version that the client named is then the marked pod's.
async fn mark_disrupted(call: &Call, key: &str, options: &mut Options) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let Some(record) = call.server.store.get(key).filter(|_| !options.is_dry_run) else {
            return Ok(());
        };
        let mut pod = registry::decode(&record);
        options.check(&call.resource, &pod)?;
        if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
            return Ok(());
        }
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        });
        crate::conditions::set(&mut pod, condition, &call.now());
        let txn = Txn::update(key, record.mod_revision, registry::encode(&pod));
        match write::commit(call, "update", txn).await {
            Ok(revision) => {
                if let Some(version) = &mut options.version {
                    *version = revision.to_string();
                }
                return Ok(());
            }
            Err(Refused::Changed) => {}
            Err(Refused::Failed(status)) => return Err(status),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Value {
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn budget(allowed: i64, healthy: i64) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "spec": {},
               "status": {"observedGeneration": 1, "disruptionsAllowed": allowed,
                          "currentHealthy": healthy, "desiredHealthy": 2}})
    }

    #[test]
    fn an_exhausted_budget_refuses_with_its_numbers() {
        let status = verdict(&ready(), &budget(0, 2)).unwrap_err();
        assert_eq!(status.code, 429);
        assert_eq!(
            status.message,
            "Cannot evict pod as it would violate the pod's disruption budget."
        );
        assert_eq!(
            status.details["causes"][0]["message"],
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        assert_eq!(verdict(&ready(), &budget(1, 3)).unwrap(), Verdict::Charge);
    }

    #[test]
    fn a_budget_that_could_not_be_computed_refuses_with_its_reason() {
        let mut failed = budget(0, 0);
        failed["status"]["conditions"] = json!([{"type": "DisruptionAllowed", "status": "False",
            "reason": "SyncFailed", "message": "nobody knows"}]);
        let status = verdict(&ready(), &failed).unwrap_err();
        assert_eq!(
            status.details["causes"][0]["message"],
            "The disruption budget b does not allow evicting pods currently because it failed sync: nobody knows"
        );
    }

    #[test]
    fn an_unready_pod_of_a_healthy_application_is_free() {
        assert_eq!(verdict(&json!({}), &budget(0, 2)).unwrap(), Verdict::Free);
        assert!(verdict(&json!({}), &budget(0, 1)).is_err());
    }

    #[test]
    fn a_budget_that_was_not_seen_yet_refuses_for_now() {
        let mut fresh = budget(5, 5);
        fresh["metadata"]["generation"] = 2.into();
        assert_eq!(verdict(&ready(), &fresh).unwrap_err().retry_after, Some(10));
    }
}
