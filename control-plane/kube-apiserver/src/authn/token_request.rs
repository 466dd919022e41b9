//! `serviceaccounts/token`: makes a token on request.
//!
//! Upstream: pkg/registry/core/serviceaccount/storage/token.go.
//! Deviation: tokens that are extended live 90 days, as on EKS, not a year.

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use super::{
    Authenticator,
    service_account::{Claims, Private, Reference},
};
use crate::{
    authz::text,
    request::{RequestInfo, UserInfo},
    status::{FieldError, Status},
};

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// EKS's `service-account-max-token-expiration`.
const LONGEST_SECONDS: i64 = 24 * 60 * 60;

/// A kubelet asks for this for the default volume (`WarnOnlyBoundTokenExpirationPeriod`): the
/// token lives longer, and `warnafter` says when it should have been renewed.
const EXTENDED_REQUEST_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 90 * 24 * 60 * 60;

impl Authenticator {
    /// Answers a create of `serviceaccounts/NAME/token` with the body's `TokenRequest`, filled in.
    /// `allowed` are audiences that a node may ask for whatever its pods project.
    pub fn create_token(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        mut body: Value,
        allowed: &[String],
    ) -> Result<Value, Status> {
        let Some(accounts) = &self.config.service_accounts else {
            return Err(Status::not_found("serviceaccounts", &info.name));
        };
        crate::admission::check_node_token(&*self.objects, user, info, &body, allowed)?;
        check_names(info, &body)?;
        let account = self.objects.get("serviceaccounts", &info.namespace, &info.name);
        let account = account.ok_or_else(|| Status::not_found("serviceaccounts", &info.name))?;
        let seconds = expiration(&body)?;
        let audiences = audiences(&body, &accounts.audiences);
        let mut private = Private {
            namespace: info.namespace.clone(),
            serviceaccount: reference(&account),
            ..Private::default()
        };
        self.bind(info, &body, &mut private)?;
        let now = self.clock.now();
        let is_extended = seconds == EXTENDED_REQUEST_SECONDS
            && audiences.iter().any(|it| accounts.audiences.contains(it));
        if is_extended {
            private.warnafter = Some(now.as_second() + seconds);
        }
        let life = if is_extended { EXTENDED_SECONDS } else { seconds };
        let claims = claims(info, &accounts.issuer, &audiences, private, (now, life));
        let token = accounts.sign(&claims).map_err(Status::internal)?;
        body["apiVersion"] = "authentication.k8s.io/v1".into();
        body["kind"] = "TokenRequest".into();
        body["metadata"]["name"] = info.name.clone().into();
        body["metadata"]["namespace"] = info.namespace.clone().into();
        body["metadata"]["creationTimestamp"] = seconds_text(now).into();
        body["spec"]["audiences"] = json!(audiences);
        body["spec"]["expirationSeconds"] = seconds.into();
        let expires = seconds_text(now + seconds.seconds());
        body["status"] = json!({"token": token, "expirationTimestamp": expires});
        Ok(body)
    }

    fn bind(&self, info: &RequestInfo, body: &Value, private: &mut Private) -> Result<(), Status> {
        let Some(bound) = body.pointer("/spec/boundObjectRef").filter(|it| !it.is_null()) else {
            return Ok(());
        };
        let (kind, name) = (text(bound, "/kind"), text(bound, "/name"));
        let (resource, namespace) = match (text(bound, "/apiVersion"), kind) {
            ("v1", "Pod") => ("pods", info.namespace.as_str()),
            ("v1", "Secret") => ("secrets", info.namespace.as_str()),
            ("v1", "Node") => ("nodes", ""),
            (version, kind) => {
                let what = format!("{version}, Kind={kind}");
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {what}"
                )));
            }
        };
        let object = self.objects.get(resource, namespace, name);
        let object = object.ok_or_else(|| Status::not_found(resource, name))?;
        let (given, found) = (text(bound, "/uid"), text(&object, "/metadata/uid"));
        if !given.is_empty() && given != found {
            let why = format!(
                "the UID in the bound object reference ({given}) does not match the UID in \
                 record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict(kind, name, &why));
        }
        match kind {
            "Pod" => {
                if text(&object, "/spec/serviceAccountName") != info.name {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different \
                         serviceaccount name.",
                        info.name
                    )));
                }
                private.pod = Some(reference(&object));
                private.node = self.node_of(&object);
            }
            "Secret" => private.secret = Some(reference(&object)),
            _ => private.node = Some(reference(&object)),
        }
        Ok(())
    }

    fn node_of(&self, pod: &Value) -> Option<Reference> {
        let name = text(pod, "/spec/nodeName");
        if name.is_empty() {
            return None;
        }
        let node = self.objects.get("nodes", "", name);
        let unknown = || Reference { name: name.to_owned(), uid: String::new() };
        Some(node.map_or_else(unknown, |node| reference(&node)))
    }
}

fn check_names(info: &RequestInfo, body: &Value) -> Result<(), Status> {
    for (field, expected) in [("name", &info.name), ("namespace", &info.namespace)] {
        let given = text(body, &format!("/metadata/{field}"));
        if !given.is_empty() && given != expected.as_str() {
            return Err(Status::bad_request(format!(
                "the {field} of the provided object does not match the {field} sent on the request"
            )));
        }
    }
    Ok(())
}

fn expiration(body: &Value) -> Result<i64, Status> {
    let given = body.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    let seconds = given.unwrap_or(DEFAULT_SECONDS);
    let invalid = |detail: &str| {
        let error = FieldError::invalid("spec.expirationSeconds", seconds, detail);
        Err(Status::invalid("TokenRequest.authentication.k8s.io", "", &[error]))
    };
    if seconds < MIN_SECONDS {
        return invalid("may not specify a duration less than 10 minutes");
    }
    if seconds > MAX_SECONDS {
        return invalid("may not specify a duration larger than 2^32 seconds");
    }
    Ok(seconds.min(LONGEST_SECONDS))
}

fn audiences(body: &Value, default: &[String]) -> Vec<String> {
    let given = body.pointer("/spec/audiences").and_then(Value::as_array);
    let given: Vec<String> =
        given.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if given.is_empty() { default.to_vec() } else { given }
}

fn claims(
    info: &RequestInfo,
    issuer: &str,
    audiences: &[String],
    kubernetes: Private,
    (now, life): (Timestamp, i64),
) -> Claims {
    let now = now.as_second();
    Claims {
        aud: audiences.to_vec(),
        exp: now + life,
        iat: now,
        iss: issuer.to_owned(),
        jti: entropy::uuid(),
        kubernetes,
        nbf: now,
        sub: format!("system:serviceaccount:{}:{}", info.namespace, info.name),
    }
}

fn reference(object: &Value) -> Reference {
    Reference {
        name: text(object, "/metadata/name").to_owned(),
        uid: text(object, "/metadata/uid").to_owned(),
    }
}

fn seconds_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
