//! `delete` and `deletecollection`: preconditions, grace, finalizers, propagation.
//!
//! What a delete does is decided by [`plan`]: remove the object, or mark it and leave the rest to
//! those who hold finalizers, and for pods on a node to its kubelet.
//!
//! Upstream: `rest.BeforeDelete` and the generic registry store of k8s.io/apiserver.

use std::{sync::Arc, time::Duration};

use api_kube::finalizers::{FOREGROUND, ORPHAN};
use futures::{StreamExt, future::BoxFuture, stream};
use http::{StatusCode, header};
use mvcc::{Record, Txn};
use serde_json::{Map, Value, json};

use crate::{
    admission::{self, Operation},
    convert::custom,
    custom_resources, decode, registry,
    render::Answer,
    resources::{Resource, meta},
    server::{Call, timestamp},
    status::{FieldError, Status},
    verbs::{
        get, latest, namespace,
        write::{self, Refused},
    },
};

const ATTEMPTS: usize = 20;

/// Deletions of one collection that are under way at once.
const COLLECTION_WORKERS: usize = 128;

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) grace: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    pub(crate) version: Option<String>,
    /// `dryRun: ["All"]`, which kubectl sends here and not in the query.
    pub(crate) is_dry_run: bool,
    /// Admission was asked about what brings the deletion about, and is not about the deletion.
    pub(crate) is_admitted: bool,
    /// As the client gave them, for who is asked about the deletion.
    told: Value,
}

/// What `DeleteOptions` may say.
const FIELDS: [&str; 5] =
    ["gracePeriodSeconds", "preconditions", "orphanDependents", "propagationPolicy", "dryRun"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl Propagation {
    fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "Orphan" => Ok(Self::Orphan),
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            other => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                Err(refused(FieldError::not_supported("propagationPolicy", other, &known)))
            }
        }
    }
}

impl Options {
    pub(crate) fn read(call: &Call) -> Result<Self, Status> {
        let body = if call.body.is_empty() {
            Value::Null
        } else {
            decode::body(call.header(header::CONTENT_TYPE), &call.body)?.value
        };
        let mut options = Self::of(&body)?;
        options.is_dry_run |= write::is_dry_run(call);
        if options.is_dry_run {
            options.told["dryRun"] = json!(["All"]);
        }
        if let Some(grace) = call.parameter("gracePeriodSeconds") {
            options.grace = grace.parse().ok();
            options.told["gracePeriodSeconds"] = options.grace.into();
        }
        if let Some(policy) = call.parameter("propagationPolicy") {
            options.propagation = Some(Propagation::parse(policy)?);
            options.told["propagationPolicy"] = policy.into();
        } else if call.parameter("orphanDependents").is_some() {
            let is_orphan = call.is_set("orphanDependents");
            options.told["orphanDependents"] = is_orphan.into();
            options.propagation =
                Some(if is_orphan { Propagation::Orphan } else { Propagation::Background });
        }
        Ok(options)
    }

    /// What a `DeleteOptions` says.
    pub(crate) fn of(body: &Value) -> Result<Self, Status> {
        let precondition = |field: &str| {
            let wanted = body["preconditions"][field].as_str();
            wanted.filter(|it| !it.is_empty()).map(str::to_owned)
        };
        let mut options = Self {
            grace: body["gracePeriodSeconds"].as_i64(),
            uid: precondition("uid"),
            version: precondition("resourceVersion"),
            is_dry_run: dry_run(&body["dryRun"])?,
            told: FIELDS
                .iter()
                .filter(|it| !body[**it].is_null())
                .map(|it| ((*it).to_owned(), body[*it].clone()))
                .collect::<Map<_, _>>()
                .into(),
            ..Self::default()
        };
        if let (Some(policy), Some(_)) =
            (body["propagationPolicy"].as_str(), body["orphanDependents"].as_bool())
        {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            return Err(refused(FieldError::invalid("propagationPolicy", policy, why)));
        }
        if let Some(policy) = body["propagationPolicy"].as_str() {
            options.propagation = Some(Propagation::parse(policy)?);
        } else if let Some(is_orphan) = body["orphanDependents"].as_bool() {
            options.propagation =
                Some(if is_orphan { Propagation::Orphan } else { Propagation::Background });
        }
        Ok(options)
    }

    /// Whether the object is the one that was meant.
    pub(crate) fn check(&self, resource: &Resource, object: &Value) -> Result<(), Status> {
        let failed = |what: &str, wanted: &str, found: &str| {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            Status::conflict(&resource.qualified(), meta(object, "name"), &why)
        };
        let (uid, version) = (meta(object, "uid"), meta(object, "resourceVersion"));
        match (&self.uid, &self.version) {
            (Some(wanted), _) if wanted != uid => Err(failed("UID", wanted, uid)),
            (_, Some(wanted)) if wanted != version => {
                Err(failed("ResourceVersion", wanted, version))
            }
            _ => Ok(()),
        }
    }
}

fn dry_run(stages: &Value) -> Result<bool, Status> {
    let stages = stages.as_array().map(Vec::as_slice).unwrap_or_default();
    match stages.iter().find(|it| *it != "All") {
        None => Ok(!stages.is_empty()),
        Some(_) => Err(refused(FieldError::not_supported("dryRun", json!(stages), &["All"]))),
    }
}

fn refused(error: FieldError) -> Status {
    Status::invalid("DeleteOptions.meta.k8s.io", "", &[error])
}

/// What a delete makes of an object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// It goes now.
    Remove,
    /// It stays, in this state.
    Mark(Value),
    /// It is already on its way and nothing changes.
    Nothing,
}

/// To whoever deletes a Job and does not say what becomes of its pods.
const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; set \
                         propagationPolicy=Background to remove them or set \
                         propagationPolicy=Orphan to suppress this warning";

fn warn_of_orphans(call: &mut Call, options: &Options) {
    if call.resource.is("batch", "jobs") && options.propagation.is_none() {
        call.warnings.push(PODS_STAY.into());
    }
}

pub(crate) async fn delete(call: &mut Call) -> Result<Answer, Status> {
    let options = Options::read(call)?;
    warn_of_orphans(call, &options);
    let name = call.name().to_owned();
    admission::check_deletable(&call.resource, &name)?;
    let (object, is_gone) = delete_one(call, &name, &options).await?;
    let returns_object = call.resource.returns_deleted || !is_gone;
    if returns_object {
        return Ok(Answer::Object(StatusCode::OK, object));
    }
    let object: Value = serde_json::from_slice(&object).unwrap_or_default();
    let mut details =
        json!({ "name": name, "kind": call.resource.plural, "uid": meta(&object, "uid") });
    if !call.resource.group.is_empty() {
        details["group"] = call.resource.group.clone().into();
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    });
    Ok(Answer::Object(StatusCode::OK, status.to_string().into()))
}

/// Deletes one object of the call's resource. Returns its last state and whether it is gone.
pub(crate) async fn delete_one(
    call: &mut Call,
    name: &str,
    options: &Options,
) -> Result<(bytes::Bytes, bool), Status> {
    let resource = call.resource.clone();
    let key = resource.key(namespace(call), name);
    call.deletion.clone_from(&options.told);
    for _ in 0..ATTEMPTS {
        let record = latest::found(call, &key).await?;
        let record = record.ok_or_else(|| Status::not_found(&resource.qualified(), name))?;
        let object = registry::decode(&record);
        let mut object = custom::read_one(&call.server, &resource, object).await?;
        if let Err(status) = options.check(&resource, &object) {
            if latest::has_moved(call, &key, Some(&record)).await? {
                continue;
            }
            return Err(status);
        }
        let old = object.clone();
        if !options.is_admitted {
            admission::admit(call, Operation::Delete, Some(&old), &mut object).await?;
        }
        let mut ending = old.clone();
        custom_resources::begin(&resource, &mut ending, &call.now());
        let plan = plan(&resource, ending, options, call.server.clock.now())?;
        if options.is_dry_run || plan == Plan::Nothing {
            let is_gone = plan == Plan::Remove;
            return Ok((write::shown(call, &old, &record.value, record.mod_revision), is_gone));
        }
        let (txn, stored) = match &plan {
            Plan::Mark(object) => {
                let kept = custom::stored(&call.server, &resource, object).await?;
                let stored = registry::encode(&kept);
                (Txn::update(&*key, record.mod_revision, stored.clone()), stored)
            }
            _ => {
                let mut txn = Txn::delete(&*key, record.mod_revision);
                call.server.services.released_by(&resource, &old).join(&mut txn);
                (txn, record.value.to_vec())
            }
        };
        match write::commit(call, "delete", txn).await {
            Ok(revision) => {
                let is_gone = plan == Plan::Remove;
                call.server.after_write(&resource);
                after(call, &resource, &old, is_gone).await;
                let object = if let Plan::Mark(object) = &plan { object } else { &old };
                return Ok((write::shown(call, object, &stored, revision), is_gone));
            }
            Err(Refused::Changed) if options.version.is_some() => {
                return Err(Status::modified(&resource.qualified(), name));
            }
            Err(Refused::Changed) => {}
            Err(Refused::Failed(status)) => return Err(status),
        }
    }
    Err(Status::modified(&resource.qualified(), name))
}

/// What a delete of a definition, or of one of its objects, brings about.
async fn after(call: &Call, resource: &Resource, old: &Value, is_gone: bool) {
    if custom_resources::is_definition(&resource.group, &resource.plural) && !is_gone {
        if let Err(status) = custom_resources::sweep(call, old).await {
            // Maintenance and those who look after its objects go on with it.
            tracing::error!(%status, "custom resources could not be deleted");
        }
    } else if is_gone && resource.custom.as_ref().is_some_and(|it| it.is_ending) {
        custom_resources::finish(&call.server, &resource.group, &resource.plural).await;
    }
}

/// Deletes all these objects of a resource, as far as their finalizers let it.
pub(crate) async fn all_of(
    call: &Call,
    resource: &Arc<Resource>,
    records: &[Arc<Record>],
) -> Result<(), Status> {
    let mut deletions = Vec::new();
    for record in records {
        let mut place = record.key.rsplit('/');
        let (name, space) = (place.next().unwrap_or_default(), place.next().unwrap_or_default());
        let mut one = call.clone();
        one.resource = resource.clone();
        one.info.group.clone_from(&resource.group);
        one.info.version.clone_from(&resource.version);
        one.info.resource.clone_from(&resource.plural);
        one.info.namespace = space.into();
        one.info.name = name.into();
        deletions.push(delete_in_collection(one, Options::default()));
    }
    let mut done = stream::iter(deletions).buffered(COLLECTION_WORKERS);
    while let Some(result) = done.next().await {
        match result {
            Err(status) if status.code != StatusCode::NOT_FOUND => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

fn plan(
    resource: &Resource,
    mut object: Value,
    options: &Options,
    now: jiff::Timestamp,
) -> Result<Plan, Status> {
    let before = object.clone();
    let is_namespace = resource.is("", "namespaces");
    let grace = grace(resource, &object, options);
    set_propagation(resource, &mut object, options);
    let is_marked = !meta(&object, "deletionTimestamp").is_empty();
    let has_finalizers = has_items(&object["metadata"]["finalizers"])
        || is_namespace && has_items(&object["spec"]["finalizers"]);
    if grace == 0 && !has_finalizers {
        return Ok(Plan::Remove);
    }
    let left = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    // A second delete can only shorten the grace.
    if !is_marked || left.is_some_and(|it| grace < it) {
        let grace_time = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        let at = clock::later(now, grace_time);
        object["metadata"]["deletionTimestamp"] = timestamp(at).into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if resource.has_generation && !is_marked {
            let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = (generation + 1).into();
        }
        if is_namespace {
            object["status"]["phase"] = "Terminating".into();
        }
    }
    if object == before { Ok(Plan::Nothing) } else { Ok(Plan::Mark(object)) }
}

fn has_items(list: &Value) -> bool {
    list.as_array().is_some_and(|it| !it.is_empty())
}

/// Seconds between the mark and the removal. Only pods have any.
fn grace(resource: &Resource, pod: &Value, options: &Options) -> i64 {
    if !resource.is("", "pods") {
        return 0;
    }
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let is_placed = pod["spec"]["nodeName"].as_str().is_some_and(|it| !it.is_empty());
    if !is_placed || matches!(phase, "Succeeded" | "Failed") {
        // No kubelet has anything to stop.
        return 0;
    }
    let asked = options.grace.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64());
    match asked.unwrap_or(30) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

/// Kinds that are older than the garbage collector: what belongs to them stays, unless a delete says
/// otherwise.
///
/// Upstream: the strategies' `DefaultGarbageCollectionPolicy`.
fn is_orphaning(resource: &Resource) -> bool {
    resource.is("", "replicationcontrollers") || resource.is("batch", "jobs")
}

/// `propagationPolicy` becomes a finalizer, which the garbage collector removes.
fn set_propagation(resource: &Resource, object: &mut Value, options: &Options) {
    let finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let is_decided = finalizers.iter().any(|it| it == ORPHAN || it == FOREGROUND);
    let default = (is_orphaning(resource) && !is_decided).then_some(Propagation::Orphan);
    let Some(policy) = options.propagation.or(default) else { return };
    let mut finalizers: Vec<Value> =
        finalizers.into_iter().filter(|it| it != ORPHAN && it != FOREGROUND).collect();
    match policy {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    if finalizers.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("finalizers");
        }
    } else {
        object["metadata"]["finalizers"] = finalizers.into();
    }
}

pub(crate) async fn collection(call: &mut Call) -> Result<Answer, Status> {
    let options = Options::read(call)?;
    warn_of_orphans(call, &options);
    let selection = get::selection(call)?;
    let page = get::page(call, &selection).await?;
    let mut deletions = Vec::new();
    for record in &page.records {
        let mut place = record.key.rsplit('/');
        let (name, space) = (place.next().unwrap_or_default(), place.next().unwrap_or_default());
        let mut one = call.clone();
        if one.resource.namespaced {
            one.info.namespace = space.into();
        }
        one.info.name = name.into();
        deletions.push(delete_in_collection(one, options.clone()));
    }
    let mut done = stream::iter(deletions).buffered(COLLECTION_WORKERS);
    let mut items = Vec::with_capacity(page.records.len());
    while let Some(result) = done.next().await {
        match result {
            Ok(object) => items.push(object),
            Err(status) if status.code == StatusCode::NOT_FOUND => {}
            Err(status) => return Err(status),
        }
    }
    Ok(crate::render::gone(call, &items))
}

/// Boxed, so that many can be under way at once and share their `fsync`.
fn delete_in_collection(
    mut call: Call,
    options: Options,
) -> BoxFuture<'static, Result<bytes::Bytes, Status>> {
    Box::pin(async move {
        let name = call.info.name.clone();
        delete_one(&mut call, &name, &options).await.map(|(object, _)| object)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Catalog;

    fn decide(plural: &str, object: Value, options: Value) -> Plan {
        let resource = Catalog::builtin().find("", "v1", plural).unwrap();
        let options = Options::of(&options).unwrap();
        plan(&resource, object, &options, jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_pod_on_a_node_waits_for_its_kubelet_and_one_without_goes_at_once() {
        let pod =
            json!({"metadata": {}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}});
        let Plan::Mark(marked) = decide("pods", pod.clone(), json!({})) else { panic!() };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "1970-01-01T00:00:07Z");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 7);
        assert_eq!(decide("pods", marked.clone(), json!({"gracePeriodSeconds": 9})), Plan::Nothing);
        let Plan::Mark(sooner) = decide("pods", marked.clone(), json!({"gracePeriodSeconds": 2}))
        else {
            panic!()
        };
        assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 2);
        assert_eq!(decide("pods", marked, json!({"gracePeriodSeconds": 0})), Plan::Remove);
        let Plan::Mark(endless) = decide("pods", pod, json!({"gracePeriodSeconds": i64::MAX}))
        else {
            panic!()
        };
        assert_eq!(endless["metadata"]["deletionTimestamp"], "9999-12-30T22:00:00Z");
        let unplaced = json!({"metadata": {}, "spec": {}});
        assert_eq!(decide("pods", unplaced, json!({})), Plan::Remove);
    }

    #[test]
    fn finalizers_hold_an_object_that_is_marked() {
        let held = json!({"metadata": {"finalizers": ["x/y"]}});
        let Plan::Mark(marked) = decide("configmaps", held, json!({})) else { panic!() };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(decide("configmaps", marked, json!({})), Plan::Nothing);
    }

    #[test]
    fn a_propagation_policy_becomes_a_finalizer() {
        let plan = decide(
            "configmaps",
            json!({"metadata": {}}),
            json!({"propagationPolicy": "Foreground"}),
        );
        let Plan::Mark(marked) = plan else { panic!() };
        assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        let background = json!({"propagationPolicy": "Background"});
        assert_eq!(decide("configmaps", json!({"metadata": {}}), background), Plan::Remove);
        assert!(Options::of(&json!({"propagationPolicy": "No"})).is_err());
    }

    #[test]
    fn what_a_replication_controller_leaves_behind_stays_unless_its_delete_says_otherwise() {
        let kind = "replicationcontrollers";
        let bare = || json!({"metadata": {}});
        let Plan::Mark(marked) = decide(kind, bare(), json!({})) else { panic!() };
        assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
        let background = json!({"propagationPolicy": "Background"});
        assert_eq!(decide(kind, bare(), background), Plan::Remove);
        let foreground = json!({"propagationPolicy": "Foreground"});
        let Plan::Mark(marked) = decide(kind, bare(), foreground) else { panic!() };
        assert_eq!(decide(kind, marked, json!({})), Plan::Nothing, "it is decided");
    }

    #[test]
    fn a_namespace_stays_until_its_own_finalizer_is_gone() {
        let space = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}, "status": {}});
        let Plan::Mark(marked) = decide("namespaces", space, json!({})) else { panic!() };
        assert_eq!(marked["status"]["phase"], "Terminating");
    }
}
