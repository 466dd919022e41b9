//! `create`.
//!
//! Upstream: `rest.BeforeCreate` and the create handler of k8s.io/apiserver.

use http::StatusCode;
use mvcc::Txn;
use serde_json::Value;

use crate::{
    admission::{self, Operation},
    convert::custom,
    custom_resources, defaults, managed_fields, registry,
    render::Answer,
    resources::meta,
    server::Call,
    status::Status,
    strategy, validation,
    verbs::{
        latest, namespace,
        write::{self, Refused},
    },
};

/// Names are generated anew this often before a clash is reported (KEP-4420).
const GENERATE_ATTEMPTS: usize = 8;

/// `generateName` is cut to this before its suffix is added.
const GENERATED_PREFIX: usize = 58;
const SUFFIX: usize = 5;

/// Lost races for a Service's address before the client is told.
const STORE_ATTEMPTS: usize = 20;

pub(crate) async fn create(call: &mut Call) -> Result<Answer, Status> {
    let object = write::decode(call)?;
    let bytes = create_object(call, object).await?;
    Ok(Answer::Object(StatusCode::CREATED, bytes))
}

/// Of a definition that is deleted, nothing new is taken.
fn check_taken(call: &Call) -> Result<(), Status> {
    if !call.resource.custom.as_ref().is_some_and(|it| it.is_ending) {
        return Ok(());
    }
    let mut status = Status::method_not_allowed("create", &call.resource.qualified());
    status.message =
        "create not allowed while custom resource definition is terminating".to_owned();
    Err(status)
}

/// Creates a decoded object. Also for writes that turn out to be creations.
pub(crate) async fn create_object(call: &mut Call, object: Value) -> Result<bytes::Bytes, Status> {
    check_taken(call)?;
    latest::know_namespace(call).await?;
    let is_generated =
        meta(&object, "name").is_empty() && !meta(&object, "generateName").is_empty();
    let attempts = if is_generated { GENERATE_ATTEMPTS } else { 1 };
    for _ in 1..attempts {
        match attempt(call, object.clone()).await {
            Err(status) if status.reason == "AlreadyExists" => {}
            result => return result,
        }
    }
    attempt(call, object).await
}

async fn attempt(call: &mut Call, mut object: Value) -> Result<bytes::Bytes, Status> {
    let resource = call.resource.clone();
    prepare_metadata(call, &mut object)?;
    defaults::apply(&resource, &mut object);
    call.warnings.extend(strategy::without_twins(&mut object));
    managed_fields::on_create(call, &mut object);
    strategy::prepare_create(call, &mut object);
    admission::admit(call, Operation::Create, None, &mut object).await?;
    // Whoever changed the object may have meant another namespace.
    set_namespace(call, &mut object)?;
    defaults::apply(&resource, &mut object);
    strategy::finish_create(&mut object, &resource);
    let name = meta(&object, "name").to_owned();
    let errors = validation::create(&resource, &object);
    if !errors.is_empty() {
        let shown = if name.is_empty() { meta(&object, "generateName") } else { &name };
        return Err(Status::invalid(&resource.qualified_kind(), shown, &errors));
    }
    call.warnings.extend(strategy::warnings(&resource, &object));
    store(call, &name, object).await
}

async fn store(call: &mut Call, name: &str, mut object: Value) -> Result<bytes::Bytes, Status> {
    let resource = call.resource.clone();
    let key = resource.key(namespace(call), name);
    let clash = || Status::already_exists(&resource.qualified(), name);
    let is_dry_run = write::is_dry_run(call);
    for _ in 0..STORE_ATTEMPTS {
        // Of memory first: it nearly always has none.
        if call.server.store.get(&key).is_some() && latest::record(call, &key).await?.is_some() {
            return Err(clash());
        }
        let asked = resource.is("", "services").then(|| object.clone());
        let claims = call.server.services.reserve_for(&resource, &mut object, None)?;
        if is_dry_run {
            return Ok(write::shown_unwritten(call, &object));
        }
        custom_resources::purge(call, &object).await?;
        let stored = custom::stored(&call.server, &resource, &object).await?;
        let stored = registry::encode(&stored);
        let mut txn = Txn::create(&*key, stored.clone());
        claims.join(&mut txn);
        match write::commit(call, "create", txn).await {
            Ok(revision) => {
                call.server.after_write(&resource);
                return Ok(write::shown(call, &object, &stored, revision));
            }
            // Another Service was given what this one was to have.
            Err(Refused::Changed) if !claims.is_empty() => object = asked.unwrap_or(object),
            Err(Refused::Changed) => return Err(clash()),
            Err(Refused::Failed(status)) => return Err(status),
        }
    }
    Err(Status::internal("no address and ports could be allocated: others took them first"))
}

fn prepare_metadata(call: &Call, object: &mut Value) -> Result<(), Status> {
    if !meta(object, "resourceVersion").is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    set_namespace(call, object)?;
    let now = call.now();
    let metadata = &mut object["metadata"];
    for server_owned in
        ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
    {
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove(server_owned);
        }
    }
    metadata["uid"] = entropy::uuid().into();
    metadata["creationTimestamp"] = now.into();
    if metadata["name"].as_str().unwrap_or_default().is_empty()
        && let Some(prefix) = metadata["generateName"].as_str().filter(|it| !it.is_empty())
    {
        let cut: String = prefix.chars().take(GENERATED_PREFIX).collect();
        metadata["name"] = format!("{cut}{}", entropy::name_suffix(SUFFIX)).into();
    }
    Ok(())
}

/// The path's namespace and the object's must agree; the object's may be left out.
pub(crate) fn set_namespace(call: &Call, object: &mut Value) -> Result<(), Status> {
    let wanted = namespace(call);
    let found = meta(object, "namespace");
    if !call.resource.namespaced {
        if let Some(fields) = object["metadata"].as_object_mut() {
            fields.remove("namespace");
        }
        return Ok(());
    }
    if !found.is_empty() && found != wanted {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object["metadata"]["namespace"] = wanted.into();
    Ok(())
}
