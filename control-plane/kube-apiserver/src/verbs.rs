//! The verbs of stored resources, and which of them answers a request.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod latest;
pub(crate) mod modify;
mod options;
pub(crate) mod patch;
pub(crate) mod watch;
pub(crate) mod write;

use http::Response;
use transport::Body;

use crate::{
    component_status, negotiate,
    render::{self, Answer},
    server::Call,
    status::Status,
    subresources,
};

/// Answers a request to a resource or to one of its subresources.
pub(crate) async fn answer(mut call: Call) -> Result<Response<Body>, Status> {
    check_scope(&call)?;
    options::check(&call)?;
    let answer = route(&mut call).await;
    let deprecated = call.resource.custom.as_ref().and_then(|it| it.deprecated.clone());
    call.warnings.extend(deprecated);
    let answer = answer.and_then(|it| render::answer(&call, it));
    answer.map_err(|refused| refused.with_warnings(call.warnings))
}

async fn route(call: &mut Call) -> Result<Answer, Status> {
    if !matches!(call.info.subresource.as_str(), "" | "status") {
        return subresources::answer(call).await;
    }
    if call.resource.is_virtual {
        call.accept = negotiate::of_object(&call.head.headers)?;
        return subresources::review(call).await;
    }
    if call.resource.is_computed {
        return component_status::answer(call);
    }
    let is_status = call.info.subresource == "status";
    match call.info.verb.as_str() {
        "get" => get::get(call).await,
        "list" => get::list(call).await,
        "watch" => watch::watch(call).await,
        "create" if !is_status => create::create(call).await,
        "update" => modify::update(call).await,
        "patch" => patch::patch(call).await,
        "delete" if !is_status => delete::delete(call).await,
        "deletecollection" if !is_status && !call.resource.deletes_singly => {
            delete::collection(call).await
        }
        verb => Err(Status::method_not_allowed(verb, &call.resource.qualified())),
    }
}

/// Whether the path has a namespace where the resource has one.
fn check_scope(call: &Call) -> Result<(), Status> {
    let (resource, info) = (&call.resource, &call.info);
    let nothing = || match resource.custom {
        Some(_) => Status::page_not_found(),
        None => Status::no_such_path(),
    };
    if resource.namespaced {
        let needs_one = !matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
        if needs_one && info.namespace.is_empty() && !resource.is_virtual {
            return Err(nothing());
        }
    } else if !info.namespace.is_empty() && !resource.is("", "namespaces") {
        return Err(nothing());
    }
    Ok(())
}

/// The namespace under which the request's object is stored.
pub(crate) fn namespace(call: &Call) -> &str {
    if call.resource.namespaced { &call.info.namespace } else { "" }
}
