//! `TokenReview` and `SelfSubjectReview`: questions to the authenticator, answered and not stored.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Authenticator;
use crate::{
    authz::text,
    request::{RequestInfo, UserInfo},
    status::Status,
};

/// Answers a create of one of authentication.k8s.io's reviews; `None` for anything else.
pub(crate) async fn create(
    authenticator: &Authenticator,
    user: &UserInfo,
    info: &RequestInfo,
    mut body: Value,
) -> Option<Result<Value, Status>> {
    if info.group != "authentication.k8s.io" || info.verb != "create" {
        return None;
    }
    let status = match info.resource.as_str() {
        "selfsubjectreviews" => json!({"userInfo": shown(user)}),
        "tokenreviews" => match text(&body, "/spec/token") {
            "" => {
                let message = "token is required for TokenReview in authentication";
                return Some(Err(Status::bad_request(message)));
            }
            token => review(authenticator, token, &asked_audiences(&body)).await,
        },
        _ => return None,
    };
    body["status"] = status;
    Some(Ok(body))
}

async fn review(authenticator: &Authenticator, token: &str, audiences: &[String]) -> Value {
    match authenticator.authenticate_token(token, audiences).await {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": shown(&user), "audiences": audiences})
        }
        Err(error) => {
            json!({"user": {}, "error": format!("[invalid bearer token, {error}]")})
        }
    }
}

fn asked_audiences(body: &Value) -> Vec<String> {
    let given = body.pointer("/spec/audiences").and_then(Value::as_array);
    given.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A user as reviews show it.
pub(crate) fn shown(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.username, "groups": user.groups});
    if !user.uid.is_empty() {
        value["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// A user as a review names it.
pub(super) fn user_of(value: &Value) -> UserInfo {
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = value.get("extra").and_then(Value::as_object);
    let extra: BTreeMap<String, Vec<String>> =
        extra.into_iter().flatten().map(|(key, value)| (key.clone(), words(value))).collect();
    UserInfo {
        username: text(value, "/username").to_owned(),
        uid: text(value, "/uid").to_owned(),
        groups: value.get("groups").map(words).unwrap_or_default(),
        extra,
    }
}
