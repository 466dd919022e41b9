//! `authorizer`: asks in an expression what someone may do.
//!
//! An expression is walked without waiting. Where only a webhook can tell, the walk ends; then the
//! webhook is asked, and the walk begins anew with what it said.
//!
//! Upstream: the Authz library of k8s.io/apiserver/pkg/cel/library.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    authz::{Authorizer, Decision},
    cel::{self, Error, Receiver},
    request::{RequestInfo, UserInfo},
};

/// So often one request's expressions wait for a webhook.
const MOST_QUESTIONS: usize = 64;

/// What is known of who may do what, for one request.
pub(in crate::admission) struct Authority {
    authorizer: Authorizer,
    user: UserInfo,
    info: RequestInfo,
    known: Mutex<BTreeMap<String, Decision>>,
    /// What only the webhook can tell.
    open: Mutex<Option<(UserInfo, RequestInfo)>>,
}

impl Authority {
    pub(in crate::admission) fn new(
        authorizer: &Authorizer,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> Arc<Self> {
        Arc::new(Self {
            authorizer: authorizer.clone(),
            user: user.clone(),
            info: info.clone(),
            known: Mutex::default(),
            open: Mutex::default(),
        })
    }

    /// Does `work` until it asks nothing any more that only the webhook can tell.
    pub(in crate::admission) async fn answered<T>(&self, mut work: impl FnMut() -> T) -> T {
        for _ in 0..MOST_QUESTIONS {
            let done = work();
            let open = self.open.lock().take();
            let Some((user, info)) = open else { return done };
            let decision = self.authorizer.authorize(&user, &info).await;
            self.known.lock().insert(question(&user, &info), decision);
        }
        work()
    }

    fn decide(&self, user: &UserInfo, info: &RequestInfo) -> Result<Decision, Error> {
        let known = self.known.lock().get(&question(user, info)).cloned();
        let decision = known.or_else(|| self.authorizer.decide_here(user, info));
        decision.ok_or_else(|| {
            *self.open.lock() = Some((user.clone(), info.clone()));
            Error::Waits
        })
    }
}

fn question(user: &UserInfo, info: &RequestInfo) -> String {
    format!("{user:?} {info:?}")
}

/// The `authorizer` of whoever made the request.
pub(super) fn value(authority: &Arc<Authority>) -> cel::Value {
    authorizer(authority.clone(), authority.user.clone())
}

fn authorizer(authority: Arc<Authority>, user: UserInfo) -> cel::Value {
    Receiver::value(move |name, args| {
        let resource = |info| resource_check(authority.clone(), user.clone(), info);
        Ok(match (name, texts(args)?.as_slice()) {
            ("path", [path]) => path_check(authority.clone(), user.clone(), path),
            ("group", [group]) => group_check(authority.clone(), user.clone(), group),
            ("serviceAccount", [namespace, name]) => {
                let user = service_account(namespace, name)?;
                authorizer(authority.clone(), user)
            }
            ("requestResource", []) => {
                resource(RequestInfo { verb: String::new(), ..authority.info.clone() })
            }
            _ => return Err(Error::told("no such overload")),
        })
    })
}

fn service_account(namespace: &str, name: &str) -> Result<UserInfo, Error> {
    let is_name = |it: &str| {
        !it.is_empty() && it.bytes().all(|it| it.is_ascii_alphanumeric() || b"-.".contains(&it))
    };
    if !is_name(namespace) || !is_name(name) {
        return Err(Error::told(format!("invalid service account {namespace}/{name}")));
    }
    let group = format!("system:serviceaccounts:{namespace}");
    let username = format!("system:serviceaccount:{namespace}:{name}");
    Ok(UserInfo::new(&username, &["system:serviceaccounts", &group]))
}

fn path_check(authority: Arc<Authority>, user: UserInfo, path: &str) -> cel::Value {
    let info = RequestInfo { path: path.to_owned(), ..RequestInfo::default() };
    Receiver::value(move |name, args| match (name, texts(args)?.as_slice()) {
        ("check", [verb]) => {
            let info = RequestInfo { verb: (*verb).to_owned(), ..info.clone() };
            authority.decide(&user, &info).map(decision)
        }
        _ => Err(Error::told("no such overload")),
    })
}

fn group_check(authority: Arc<Authority>, user: UserInfo, group: &str) -> cel::Value {
    let group = group.to_owned();
    Receiver::value(move |name, args| match (name, texts(args)?.as_slice()) {
        ("resource", [resource]) => {
            let info = RequestInfo {
                group: group.clone(),
                version: "*".to_owned(),
                resource: (*resource).to_owned(),
                is_resource: true,
                ..RequestInfo::default()
            };
            Ok(resource_check(authority.clone(), user.clone(), info))
        }
        _ => Err(Error::told("no such overload")),
    })
}

fn resource_check(authority: Arc<Authority>, user: UserInfo, info: RequestInfo) -> cel::Value {
    Receiver::value(move |name, args| {
        let texts = texts(args)?;
        let [word] = texts.as_slice() else { return Err(Error::told("no such overload")) };
        let (mut info, word) = (info.clone(), (*word).to_owned());
        match name {
            "subresource" => info.subresource = word,
            "namespace" => info.namespace = word,
            "name" => {
                info.is_named = !word.is_empty();
                info.name = word;
            }
            "fieldSelector" => info.field_selector = word,
            // No authorizer here looks at labels: less is allowed than with them, never more.
            "labelSelector" => {}
            "check" => {
                info.verb = word;
                return authority.decide(&user, &info).map(decision);
            }
            _ => return Err(Error::told("no such overload")),
        }
        Ok(resource_check(authority.clone(), user.clone(), info))
    })
}

fn decision(decided: Decision) -> cel::Value {
    Receiver::value(move |name, _| {
        let (is_allowed, reason) = match &decided {
            Decision::Allow(reason) => (true, reason),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => (false, reason),
        };
        Ok(match name {
            "allowed" => is_allowed.into(),
            "reason" => reason.as_str().into(),
            "errored" => false.into(),
            "error" => "".into(),
            _ => return Err(Error::told("no such overload")),
        })
    })
}

fn texts(args: &[cel::Value]) -> Result<Vec<&str>, Error> {
    let texts = args.iter().map(text);
    texts.collect::<Option<_>>().ok_or_else(|| Error::told("no such overload"))
}

fn text(it: &cel::Value) -> Option<&str> {
    match it {
        cel::Value::String(text) => Some(text),
        _ => None,
    }
}
