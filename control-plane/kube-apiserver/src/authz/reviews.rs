//! The access reviews: questions to the authorizer, answered and not stored.

use serde_json::{Map, Value, json};

use super::{Authorizer, Decision, Rule, node::node_name, text};
use crate::{
    request::{RequestInfo, UserInfo},
    status::{FieldError, Status},
};

/// Answers a create of one of authorization.k8s.io's reviews; `None` for anything else.
pub(crate) async fn create(
    authorizer: &Authorizer,
    user: &UserInfo,
    info: &RequestInfo,
    mut body: Value,
) -> Option<Result<Value, Status>> {
    if info.group != "authorization.k8s.io" || info.verb != "create" {
        return None;
    }
    let status = match info.resource.as_str() {
        "selfsubjectaccessreviews" => match attributes(&body, "SelfSubjectAccessReview") {
            Ok(asked) => access(authorizer, user, &asked).await,
            Err(status) => return Some(Err(status)),
        },
        "subjectaccessreviews" => match subject(&body, "SubjectAccessReview") {
            Ok((subject, asked)) => access(authorizer, &subject, &asked).await,
            Err(status) => return Some(Err(status)),
        },
        "localsubjectaccessreviews" => match local_subject(&body, &info.namespace) {
            Ok((subject, asked)) => access(authorizer, &subject, &asked).await,
            Err(status) => return Some(Err(status)),
        },
        "selfsubjectrulesreviews" => match text(&body, "/spec/namespace") {
            "" => return Some(Err(Status::bad_request("no namespace on request"))),
            namespace => rules(authorizer, user, namespace),
        },
        _ => return None,
    };
    body["status"] = status;
    Some(Ok(body))
}

async fn access(authorizer: &Authorizer, user: &UserInfo, asked: &RequestInfo) -> Value {
    let (allowed, denied, reason) = match authorizer.authorize(user, asked).await {
        Decision::Allow(reason) => (true, false, reason),
        Decision::Deny(reason) => (false, true, reason),
        Decision::NoOpinion(reason) => (false, false, reason),
    };
    let mut status = json!({"allowed": allowed});
    if denied {
        status["denied"] = true.into();
    }
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// What a review asks about: exactly one of the two kinds of attributes.
fn attributes(body: &Value, kind: &str) -> Result<RequestInfo, Status> {
    let kind = format!("{kind}.authorization.k8s.io");
    let given = |field: &str| body.pointer(&format!("/spec/{field}")).filter(|it| !it.is_null());
    let word = |value: &Value, field: &str| text(value, &format!("/{field}")).to_owned();
    match (given("resourceAttributes"), given("nonResourceAttributes")) {
        (Some(_), Some(_)) => {
            let error = FieldError::invalid(
                "spec.nonResourceAttributes",
                "null",
                "cannot be specified in combination with resourceAttributes",
            );
            Err(Status::invalid(&kind, "", &[error]))
        }
        (Some(it), None) => Ok(RequestInfo {
            verb: word(it, "verb"),
            group: word(it, "group"),
            version: word(it, "version"),
            resource: word(it, "resource"),
            subresource: word(it, "subresource"),
            namespace: word(it, "namespace"),
            name: word(it, "name"),
            is_resource: true,
            field_selector: selector(it),
            ..RequestInfo::default()
        }),
        (None, Some(it)) => Ok(RequestInfo {
            verb: word(it, "verb"),
            path: word(it, "path"),
            ..RequestInfo::default()
        }),
        (None, None) => {
            let error = FieldError::invalid(
                "spec.resourceAttributes",
                "null",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            Err(Status::invalid(&kind, "", &[error]))
        }
    }
}

fn selector(attributes: &Value) -> String {
    text(attributes, "/fieldSelector/rawSelector").to_owned()
}

fn subject(body: &Value, kind: &str) -> Result<(UserInfo, RequestInfo), Status> {
    let asked = attributes(body, kind)?;
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let spec = &body["spec"];
    let extra = spec["extra"].as_object().cloned().unwrap_or_else(Map::new);
    let user = UserInfo {
        username: text(body, "/spec/user").to_owned(),
        uid: text(body, "/spec/uid").to_owned(),
        groups: words(&spec["groups"]),
        extra: extra.iter().map(|(key, value)| (key.clone(), words(value))).collect(),
    };
    if user.username.is_empty() && user.groups.is_empty() {
        let error =
            FieldError::invalid("spec.user", "", "at least one of user or group must be specified");
        return Err(Status::invalid(&format!("{kind}.authorization.k8s.io"), "", &[error]));
    }
    Ok((user, asked))
}

fn local_subject(body: &Value, namespace: &str) -> Result<(UserInfo, RequestInfo), Status> {
    let (user, asked) = subject(body, "LocalSubjectAccessReview")?;
    if !asked.is_resource || asked.namespace != namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    Ok((user, asked))
}

fn rules(authorizer: &Authorizer, user: &UserInfo, namespace: &str) -> Value {
    let rules = authorizer.rbac().rules(user, namespace);
    let resource = |rule: &Rule| {
        let mut shown = json!({
            "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
        });
        if !rule.resource_names.is_empty() {
            shown["resourceNames"] = json!(rule.resource_names);
        }
        shown
    };
    let path =
        |rule: &Rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls});
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) =
        rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let mut gaps = Vec::new();
    if node_name(user).is_some() {
        gaps.push("node authorizer does not support user rule resolution");
    }
    if authorizer.webhook.is_some() {
        gaps.push("webhook authorizer does not support user rule resolution");
    }
    let mut status = json!({
        "resourceRules": resources.into_iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": paths.into_iter().map(path).collect::<Vec<_>>(),
        "incomplete": !gaps.is_empty(),
    });
    if !gaps.is_empty() {
        status["evaluationError"] = gaps.join(", ").into();
    }
    status
}
