//! ResourceQuota: a namespace holds no more than its quotas allow.
//!
//! What is made counts as a whole, what is changed by how much more it takes: a Service that becomes
//! one of another type, a claim that grows, a pod that is resized.
//!
//! What counts is `lib/resources`.
//!
//! Upstream: apiserver/pkg/admission/plugin/resourcequota.
//! Deviation: usage is counted from the objects at each write instead of being kept in the
//! quota's status; writes that count in a namespace with quotas take turns until they are stored.

mod usage;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuotaSpec;
use parking_lot::Mutex;
use resources::{Counted, Quantity};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use self::usage::{Stored, missing};
use super::{Attributes, Operation};
use crate::{
    authz::{Objects, text},
    status::Status,
};

/// One write that counts at a time in each namespace that has quotas.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

/// Held until the object is stored, so that the next one counts it.
pub(crate) type Turn = Arc<OwnedMutexGuard<()>>;

impl Turns {
    async fn take(&self, namespace: &str) -> Turn {
        let place = {
            let mut all = self.0.lock();
            all.retain(|_, it| Arc::strong_count(it) > 1);
            all.entry(namespace.to_owned()).or_default().clone()
        };
        Arc::new(place.lock_owned().await)
    }
}

/// The turn of this request, where it needs one.
pub(super) async fn turn(
    turns: &Turns,
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
) -> Option<Turn> {
    let namespace = &attributes.info.namespace;
    if !is_counted(attributes) || objects.list("resourcequotas", namespace).is_empty() {
        return None;
    }
    Some(turns.take(namespace).await)
}

/// Whether what a namespace holds may become more by this.
fn is_counted(attributes: &Attributes<'_>) -> bool {
    let is_question = attributes.is_about("authorization.k8s.io", "localsubjectaccessreviews");
    if is_question || attributes.info.namespace.is_empty() {
        return false;
    }
    match attributes.operation {
        Operation::Create => attributes.info.subresource.is_empty(),
        Operation::Update => ["services", "persistentvolumeclaims", "pods/resize"]
            .iter()
            .any(|it| attributes.is_about("", it)),
        Operation::Delete | Operation::Connect => false,
    }
}

pub(super) fn check(
    objects: &dyn Objects,
    attributes: &Attributes<'_>,
    object: &Value,
    now: Timestamp,
) -> Result<(), Status> {
    if !is_counted(attributes) {
        return Ok(());
    }
    let quotas = objects.list("resourcequotas", &attributes.info.namespace);
    if quotas.is_empty() {
        return Ok(());
    }
    let kind = attributes.info.group_resource();
    let Some(new) = Stored::read(&kind, object) else { return Ok(()) };
    let old = attributes.old.and_then(|it| Stored::read(&kind, it));
    let old = old.as_ref().map(|it| it.counted(now));
    let new = new.counted(now);
    let request = Request { objects, attributes, object, kind: &kind, new, old, now };
    for quota in quotas {
        request.check(&quota)?;
    }
    Ok(())
}

/// One write, before the quotas of its namespace.
struct Request<'a> {
    objects: &'a dyn Objects,
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    kind: &'a str,
    new: Counted<'a>,
    old: Option<Counted<'a>>,
    now: Timestamp,
}

/// What a quota names and the write takes more of.
struct Asked<'a> {
    resource: &'a str,
    limit: Quantity,
    requested: Quantity,
    used: Quantity,
}

impl Request<'_> {
    fn check(&self, quota: &Value) -> Result<(), Status> {
        let name = text(quota, "/metadata/name");
        let Some(spec) = spec(quota).filter(|it| self.new.is_in(it)) else { return Ok(()) };
        let hard = hard(quota);
        let open = missing(self.kind, self.object, hard.iter().map(|(name, _)| *name));
        if !open.is_empty() {
            let why = format!("failed quota: {name}: must specify {open}");
            return Err(self.attributes.forbidden(self.object, &why));
        }
        let mut asked = self.asked(&hard, &spec);
        if asked.is_empty() {
            return Ok(());
        }
        for object in self.objects.list(self.kind, &self.attributes.info.namespace) {
            let Some(object) = Stored::read(self.kind, &object) else { continue };
            let object = object.counted(self.now);
            if object.is_in(&spec) {
                for it in &mut asked {
                    it.used = it.used.plus(object.amount(it.resource).unwrap_or(Quantity::ZERO));
                }
            }
        }
        asked.retain(|it| it.used.plus(it.requested) > it.limit);
        if asked.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&Asked<'_>) -> Quantity| -> String {
            let all = asked.iter().map(|it| format!("{}={}", it.resource, of(it)));
            all.collect::<Vec<_>>().join(",")
        };
        let why = format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            column(|it| it.requested),
            column(|it| it.used),
            column(|it| it.limit)
        );
        Err(self.attributes.forbidden(self.object, &why))
    }

    /// Less what the object takes already, where the quota counts it as it was.
    fn asked<'a>(&self, hard: &[(&'a str, Quantity)], quota: &ResourceQuotaSpec) -> Vec<Asked<'a>> {
        let old = self.old.as_ref().filter(|it| it.is_in(quota));
        let mut asked = Vec::new();
        for (resource, limit) in hard {
            let Some(wanted) = self.new.amount(resource) else { continue };
            let had = old.and_then(|it| it.amount(resource)).unwrap_or(Quantity::ZERO);
            if wanted > had {
                let (requested, used) = (wanted.minus(had), Quantity::ZERO);
                asked.push(Asked { resource, limit: *limit, requested, used });
            }
        }
        asked
    }
}

/// What the quota limits, and to how much.
fn hard(quota: &Value) -> Vec<(&str, Quantity)> {
    let hard = quota.pointer("/spec/hard").and_then(Value::as_object);
    let all = hard.into_iter().flatten();
    all.filter_map(|(name, limit)| Some((name.as_str(), limit.as_str()?.parse().ok()?))).collect()
}

fn spec(quota: &Value) -> Option<ResourceQuotaSpec> {
    serde_json::from_value(quota.get("spec")?.clone()).ok()
}
