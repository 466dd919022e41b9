//! Which policies see a request, by which bindings, with which parameters.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    definition::{Binding, Compiled, Hook, Policy},
    params,
};
use crate::{
    admission::{matching::Asked, round::Round},
    cel::{self, value},
    resources::Resource,
    status::Status,
};

/// One evaluation of a policy.
pub(super) struct Invocation<'a, R> {
    pub(super) policy: &'a Policy<R>,
    pub(super) compiled: &'a Compiled<R>,
    pub(super) binding: &'a Arc<Binding>,
    /// In whose version the policy sees the object.
    pub(super) resource: Arc<Resource>,
    /// `None`: the policy has none.
    pub(super) params: Option<cel::Value>,
    /// Namespace and name of the parameter.
    pub(super) param: (String, String),
}

/// A refusal, by what a policy says or by what is wrong with it.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) policy: String,
    pub(super) binding: Option<String>,
    pub(super) message: String,
    /// Empty: the kind's own.
    pub(super) reason: String,
}

pub(super) enum Step<'a, R> {
    Run(Invocation<'a, R>),
    Refuse(Denial),
}

/// All that concerns the request, in order.
pub(super) fn select<'a, R>(
    round: &Round<'_>,
    hooks: &'a [Hook<R>],
    object: &Value,
) -> Vec<Step<'a, R>> {
    let asked = Asked { round, object };
    let mut steps = Vec::new();
    for hook in hooks {
        let before = steps.len();
        of_policy(&asked, hook, &mut steps);
        if hook.policy.fails_open {
            let mut at = 0;
            steps.retain(|it| {
                at += 1;
                at <= before || matches!(it, Step::Run(_))
            });
        }
    }
    steps
}

fn of_policy<'a, R>(asked: &Asked<'_>, hook: &'a Hook<R>, steps: &mut Vec<Step<'a, R>>) {
    let policy = &*hook.policy;
    let refuse = |binding: Option<&Binding>, why: &str| {
        let part = if binding.is_some() { "binding" } else { "policy" };
        Step::Refuse(Denial {
            policy: policy.name.clone(),
            binding: binding.map(|it| it.name.clone()),
            message: format!("failed to configure {part}: {why}"),
            reason: String::new(),
        })
    };
    let wanted = match &policy.matcher {
        Ok(matcher) => matcher.wants(asked).map_err(|it| it.message),
        Err(why) => Err(why.clone()),
    };
    let (resource, compiled) = match (wanted, &policy.compiled) {
        (Ok(None), _) => return,
        (Ok(Some(resource)), Ok(compiled)) => (resource, compiled),
        (Ok(Some(_)), Err(why)) => return steps.push(refuse(None, why)),
        (Err(why), _) => return steps.push(refuse(None, &why)),
    };
    for binding in &hook.bindings {
        let is_wanted = match &binding.matcher {
            None => Ok(true),
            Some(Ok(matcher)) => matcher.narrows(asked).map_err(|it| it.message),
            Some(Err(why)) => Err(why.clone()),
        };
        match is_wanted {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                steps.push(refuse(Some(binding), &why));
                continue;
            }
        }
        let reference = binding.param_ref.as_ref();
        match params::collect(asked.round, policy.param_kind.as_ref(), reference) {
            Err(why) => steps.push(refuse(Some(binding), &why)),
            Ok(all) => steps.extend(all.into_iter().map(|param| {
                let part = |field: &str| {
                    let metadata = param.as_ref().map_or(&Value::Null, |it| &it["metadata"]);
                    metadata[field].as_str().unwrap_or_default().to_owned()
                };
                Step::Run(Invocation {
                    policy,
                    compiled,
                    binding,
                    resource: resource.clone(),
                    param: (part("namespace"), part("name")),
                    params: policy
                        .param_kind
                        .is_some()
                        .then(|| param.as_ref().map_or(cel::Value::Null, value::from_json)),
                })
            })),
        }
    }
}

/// The answer that is made of refusals: the first one's, with all of them as causes.
pub(super) fn refused(
    mut status: Status,
    denials: &[Denial],
    told: impl Fn(&Denial) -> String,
) -> Status {
    let causes: Vec<Value> = denials.iter().map(|it| json!({"message": told(it)})).collect();
    status.details["causes"] = causes.into();
    status
}
