//! `update`, and the read–change–write loop below all changes of stored objects.
//!
//! **Invariant:** a change is computed from the very record that it replaces; when another write
//! came between, it is computed anew, or refused if the client named the older version.
//!
//! Upstream: `rest.BeforeUpdate` and `GuaranteedUpdate` of k8s.io/apiserver.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::StatusCode;
use mvcc::{Record, Txn};
use serde_json::Value;

use crate::{
    admission,
    convert::custom,
    custom_resources, defaults,
    managed_fields::{self, entries},
    registry,
    render::Answer,
    resources::{Resource, meta},
    server::Call,
    status::{FieldError, Status},
    strategy::{self, Part},
    subresources, validation,
    verbs::{
        create, latest, namespace,
        write::{self, Refused},
    },
};

/// Lost races before the client is told of a conflict.
const ATTEMPTS: usize = 20;

pub(crate) async fn update(call: &mut Call) -> Result<Answer, Status> {
    let mut object = write::decode(call)?;
    create::set_namespace(call, &mut object)?;
    check_name(call, &mut object)?;
    let name = call.name().to_owned();
    let part = Part::of(&call.info.subresource);
    let key = call.resource.key(namespace(call), &name);
    let may_create = call.resource.create_on_update && part == Part::Main;
    if may_create && latest::found(call, &key).await?.is_none() {
        let bytes = create::create_object(call, object).await?;
        return Ok(Answer::Object(StatusCode::CREATED, bytes));
    }
    if meta(&object, "resourceVersion").is_empty() && !call.resource.unconditional_update {
        if latest::found(call, &key).await?.is_none() {
            return Err(Status::not_found(&call.resource.qualified(), &name));
        }
        let error =
            FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(Status::invalid(&call.resource.qualified_kind(), &name, &[error]));
    }
    let bytes = modify(call, &name, part, |_| Ok(object.clone())).await?;
    Ok(Answer::Object(StatusCode::OK, bytes))
}

fn check_name(call: &Call, object: &mut Value) -> Result<(), Status> {
    let found = meta(object, "name").to_owned();
    if found.is_empty() {
        object["metadata"]["name"] = call.name().into();
    } else if found != call.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    Ok(())
}

/// Changes one part of a stored object, and answers with its new state.
///
/// `change` gets the current object and makes the wanted one; it may be called several times.
pub(crate) async fn modify<F>(
    call: &mut Call,
    name: &str,
    part: Part,
    change: F,
) -> Result<Bytes, Status>
where
    F: Fn(&Value) -> Result<Value, Status>,
{
    let resource = call.resource.clone();
    let key = resource.key(namespace(call), name);
    for _ in 0..ATTEMPTS {
        let record = latest::found(call, &key).await?;
        let record = record.ok_or_else(|| Status::not_found(&resource.qualified(), name))?;
        let old = custom::read_one(&call.server, &resource, registry::decode(&record)).await?;
        let planned = match change(&old) {
            Ok(new) => plan(call, &resource, part, &old, new).await,
            refused => refused,
        };
        if planned.is_err() && latest::has_moved(call, &key, Some(&record)).await? {
            continue;
        }
        let new = planned?;
        match apply(call, &resource, &record, &old, new).await {
            Ok(bytes) => return Ok(bytes),
            Err(Refused::Changed) => {}
            Err(Refused::Failed(status)) => return Err(status),
        }
    }
    Err(Status::modified(&resource.qualified(), name))
}

/// A stored object as upstream reads it: with the defaults of today, whenever it was stored.
fn as_read<'a>(resource: &Arc<Resource>, stored: &'a Value) -> Cow<'a, Value> {
    if resource.custom.is_some() {
        return Cow::Borrowed(stored);
    }
    let mut object = stored.clone();
    defaults::apply(resource, &mut object);
    Cow::Owned(object)
}

/// The object to store, or why there is none.
async fn plan(
    call: &mut Call,
    resource: &Arc<Resource>,
    part: Part,
    old: &Value,
    mut new: Value,
) -> Result<Value, Status> {
    check_version(resource, old, &new)?;
    strategy::prepare_update(call, part, old, &mut new);
    defaults::apply(resource, &mut new);
    call.warnings.extend(strategy::without_twins(&mut new));
    managed_fields::on_update(call, part, old, &mut new);
    strategy::fix_update(resource, part, old, &mut new);
    subresources::admit(call, old, &mut new).await?;
    create::set_namespace(call, &mut new)?;
    strategy::bump_generation(resource, part, old, &mut new);
    let is_policy = resource.is("admissionregistration.k8s.io", "validatingadmissionpolicies");
    if is_policy && part == Part::Main {
        admission::policy::status::prepare(&call.server.catalog(), &mut new);
    }
    let (mut errors, left) = validation::update(resource, part, &as_read(resource, old), &new);
    call.warnings.extend(left);
    errors.extend(strategy::validate_metadata_update(old, &new));
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.qualified_kind(), meta(old, "name"), &errors));
    }
    if part == Part::Main {
        call.warnings.extend(strategy::update_warnings(resource, old, &new));
    }
    entries::keep_times(old, &mut new);
    Ok(new)
}

/// The client's version and uid, if it named them, must be the stored ones.
fn check_version(resource: &Resource, old: &Value, new: &Value) -> Result<(), Status> {
    let name = meta(old, "name");
    let (version, uid) = (meta(new, "resourceVersion"), meta(new, "uid"));
    if !uid.is_empty() && uid != meta(old, "uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta(old, "uid")
        );
        return Err(Status::conflict(&resource.qualified(), name, &why));
    }
    if !version.is_empty() && version != "0" && version != meta(old, "resourceVersion") {
        return Err(Status::modified(&resource.qualified(), name));
    }
    Ok(())
}

async fn apply(
    call: &mut Call,
    resource: &Arc<Resource>,
    record: &Record,
    old: &Value,
    mut new: Value,
) -> Result<Bytes, Refused> {
    let claims = call.server.services.reserve_for(resource, &mut new, Some(old));
    let claims = claims.map_err(Refused::Failed)?;
    let kept = custom::stored(&call.server, resource, &new).await.map_err(Refused::Failed)?;
    let stored = registry::encode(&kept);
    let is_dry_run = write::is_dry_run(call);
    if stored == record.value {
        return Ok(write::shown(call, &new, &stored, record.mod_revision));
    }
    if is_dry_run {
        return Ok(write::shown_unwritten(call, &new));
    }
    let key = &*record.key;
    if strategy::is_finished(resource, &new) {
        let mut txn = Txn::delete(key, record.mod_revision);
        call.server.services.released_by(resource, old).join(&mut txn);
        let revision = write::commit(call, "update", txn).await?;
        call.server.after_write(resource);
        if resource.custom.as_ref().is_some_and(|it| it.is_ending) {
            custom_resources::finish(&call.server, &resource.group, &resource.plural).await;
        }
        return Ok(write::shown(call, &new, &stored, revision));
    }
    let mut txn = Txn::update(key, record.mod_revision, stored.clone());
    claims.join(&mut txn);
    let revision = write::commit(call, "update", txn).await?;
    call.server.after_write(resource);
    Ok(write::shown(call, &new, &stored, revision))
}
