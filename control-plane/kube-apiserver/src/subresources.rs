//! Subresources that are answered here, and the reviews that store nothing.

mod binding;
mod eviction;
mod scale;

use http::StatusCode;
use serde_json::Value;

use crate::{
    admission::{self, Operation},
    authn, authz, decode, managed_fields,
    render::Answer,
    request::RequestInfo,
    resources::Resource,
    server::Call,
    status::Status,
    strategy::Part,
    verbs::{create, get, modify, patch, write},
};

/// Answers a subresource other than `status`.
pub(crate) async fn answer(call: &mut Call) -> Result<Answer, Status> {
    let (subresource, verb) = (call.info.subresource.clone(), call.info.verb.clone());
    match (subresource.as_str(), verb.as_str()) {
        ("scale", _) => scale::answer(call).await,
        ("binding", "create") => binding::bind(call).await,
        ("eviction", "create") => eviction::evict(call).await,
        ("token", "create") => token(call).await,
        ("approval" | "ephemeralcontainers" | "resize", "get") => get::get(call).await,
        ("approval" | "ephemeralcontainers" | "resize", "patch") => patch::patch(call).await,
        ("approval" | "ephemeralcontainers" | "resize" | "finalize", "update") => {
            modify::update(call).await
        }
        _ => Err(Status::method_not_allowed(&verb, &call.resource.qualified())),
    }
}

/// Asks admission about a change, in the form that the subresource has for it.
pub(crate) async fn admit(call: &mut Call, old: &Value, new: &mut Value) -> Result<(), Status> {
    match call.info.subresource.as_str() {
        "scale" => scale::admit(call, old, new).await,
        // It was asked about the binding.
        "binding" => Ok(()),
        _ if call.info.resource == "bindings" => Ok(()),
        _ => admission::admit(call, Operation::Update, Some(old), new).await,
    }
}

/// Answers a resource of which nothing is stored.
pub(crate) async fn review(call: &mut Call) -> Result<Answer, Status> {
    if call.info.verb != "create" {
        return Err(Status::method_not_allowed(&call.info.verb, &call.resource.qualified()));
    }
    if call.resource.is("", "bindings") {
        return binding::bind(call).await;
    }
    let mut body = write::decode(call)?;
    create::set_namespace(call, &mut body)?;
    // These are answered by new objects, which have nothing of the client's.
    if !matches!(&*call.resource.plural, "selfsubjectreviews" | "selfsubjectrulesreviews") {
        managed_fields::on_review(call, &call.resource, &mut body);
    }
    admission::admit(call, Operation::Create, None, &mut body).await?;
    let (server, user, info) = (call.server.clone(), call.user.clone(), call.info.clone());
    let answer = match info.group.as_str() {
        "authentication.k8s.io" => {
            authn::create_review(&server.authenticator, &user, &info, body).await
        }
        _ => authz::create_review(&server.authorizer, &user, &info, body).await,
    };
    let answer = answer.ok_or_else(Status::no_such_path)??;
    Ok(Answer::Object(StatusCode::CREATED, answer.to_string().into()))
}

async fn token(call: &mut Call) -> Result<Answer, Status> {
    let decoded = decode::body(call.header(http::header::CONTENT_TYPE), &call.body)?;
    let mut request = decoded.value;
    if request.is_object() {
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        managed_fields::on_review(call, &token_request(), &mut request);
        admission::admit(call, Operation::Create, None, &mut request).await?;
    }
    let allowed = allowed_audiences(call, &request).await;
    let authenticator = &call.server.authenticator;
    let answer = authenticator.create_token(&call.user, &call.info, request, &allowed)?;
    Ok(Answer::Object(StatusCode::CREATED, answer.to_string().into()))
}

fn token_request() -> Resource {
    Resource {
        group: "authentication.k8s.io".into(),
        version: "v1".into(),
        kind: "TokenRequest".into(),
        schema: "io.k8s.api.authentication.v1.TokenRequest".into(),
        ..Resource::default()
    }
}

/// The audiences of a request for a token that the caller, a node, was allowed by name. Plugins that pull
/// images for service accounts need it: no volume of a pod projects what they ask for.
async fn allowed_audiences(call: &Call, request: &Value) -> Vec<String> {
    let mut allowed = Vec::new();
    if authz::node_name(&call.user).is_none() {
        return allowed;
    }
    for audience in authz::items(request, "/spec/audiences").iter().filter_map(Value::as_str) {
        let asked = RequestInfo {
            verb: "request-serviceaccounts-token-audience".to_owned(),
            resource: audience.to_owned(),
            subresource: String::new(),
            ..call.info.clone()
        };
        let decision = call.server.authorizer.authorize(&call.user, &asked).await;
        if matches!(decision, authz::Decision::Allow(_)) {
            allowed.push(audience.to_owned());
        }
    }
    allowed
}

/// A part of an object that a subresource changes as a whole.
pub(crate) const WHOLE: Part = Part::Whole;

/// `Status` of success, as subresources without an object answer.
pub(crate) fn success(code: StatusCode) -> Answer {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "code": code.as_u16(),
    });
    Answer::Object(code, status.to_string().into())
}
