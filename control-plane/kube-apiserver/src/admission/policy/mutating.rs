//! MutatingAdmissionPolicies: what they make of an object, before webhooks see it.
//!
//! They run one after the other, by name; each sees what those before it left. One that wants to
//! (`reinvocationPolicy: IfNeeded`) runs once more where the object was changed after it, by another
//! policy or by a webhook.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/policy/mutating.

use serde_json::Value;

use super::{
    Views,
    definition::{Compiler, Hook, Rules},
    patch,
    selection::{Denial, Invocation, Step, refused, select},
    types,
    variables::Variables,
};
use crate::{
    admission::{expressions::Facts, round::Round},
    authz::{items, text},
    cel::{self, Budget, Program, Type},
    status::Status,
};

pub(super) struct Mutations {
    mutations: Vec<Mutation>,
    /// `reinvocationPolicy: IfNeeded`
    is_reinvoked: bool,
}

struct Mutation {
    expression: String,
    program: Program,
    /// `patchType: JSONPatch`; an apply configuration otherwise.
    is_patch: bool,
}

impl Rules for Mutations {
    const STRUCTS: Option<fn(&str) -> Option<Type>> = Some(types::of_struct);

    fn of(spec: &Value, compiler: &Compiler) -> Result<Self, String> {
        let mutation = |it: &Value| {
            let (expression, program) = check_mutation(it, compiler)?;
            let is_patch = it["patchType"] == "JSONPatch";
            Ok(Mutation { expression: expression.trim().to_owned(), program, is_patch })
        };
        let all = items(spec, "/mutations").iter().map(mutation);
        Ok(Self {
            mutations: all.collect::<Result<_, String>>()?,
            is_reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
        })
    }
}

/// For the expressions of a MutatingAdmissionPolicy's spec.
pub(crate) fn mutating_compiler(spec: &Value) -> Compiler {
    Compiler::of(spec, Type::Dyn, Mutations::STRUCTS)
}

/// The compiled expression of one entry of `mutations`.
pub(crate) fn check_mutation<'a>(
    mutation: &'a Value,
    compiler: &Compiler,
) -> Result<(&'a str, Program), String> {
    let (pointer, wanted) = if mutation["patchType"] == "JSONPatch" {
        ("/jsonPatch/expression", types::patches())
    } else {
        ("/applyConfiguration/expression", types::object())
    };
    let expression = text(mutation, pointer);
    compiler.compile(expression, &[wanted]).map(|it| (expression, it))
}

/// Policy, binding and parameter of an invocation.
type Key = (String, String, (String, String));

/// Who has run and wants to run again if the object is another than the one that it left.
#[derive(Default)]
pub(in crate::admission) struct Mutated {
    again: Vec<(Key, Value)>,
    is_second: bool,
    pub(in crate::admission) is_changed: bool,
}

impl Mutated {
    pub(super) fn wants_again(&self, object: &Value) -> bool {
        self.again.iter().any(|(_, left)| left != object)
    }
}

pub(super) async fn run(
    round: &Round<'_>,
    hooks: &[Hook<Mutations>],
    object: &mut Value,
    mutated: &mut Mutated,
) -> Result<(), Status> {
    if round.is_deletion() {
        return Ok(());
    }
    let (mut views, mut denials) = (Views::of(round), Vec::new());
    let before = std::mem::take(&mut mutated.again);
    for step in select(round, hooks, object) {
        let invocation = match step {
            Step::Refuse(denial) => {
                denials.push(denial);
                continue;
            }
            Step::Run(invocation) => invocation,
        };
        let key = key(&invocation);
        if mutated.is_second {
            let left = before.iter().find(|(it, _)| *it == key);
            if left.is_none_or(|(_, left)| left == object) {
                continue;
            }
        }
        invoke(round, &mut views, &invocation, object, &mut denials).await?;
        if invocation.compiled.rules.is_reinvoked {
            mutated.again.push((key, object.clone()));
        }
    }
    mutated.is_second = true;
    if denials.is_empty() { Ok(()) } else { Err(refusal(round, object, &denials)) }
}

fn key(invocation: &Invocation<'_, Mutations>) -> Key {
    let (policy, binding) = (&invocation.policy.name, &invocation.binding.name);
    (policy.clone(), binding.clone(), invocation.param.clone())
}

async fn invoke(
    round: &Round<'_>,
    views: &mut Views<'_>,
    invocation: &Invocation<'_, Mutations>,
    object: &mut Value,
    denials: &mut Vec<Denial>,
) -> Result<(), Status> {
    let policy = invocation.policy;
    let deny = |message: String| Denial {
        policy: policy.name.clone(),
        binding: Some(invocation.binding.name.clone()),
        message,
        reason: "Invalid".to_owned(),
    };
    let facts = |views: &mut Views<'_>, object: &Value| {
        let mut facts = views.facts(&invocation.resource, object);
        facts.params.clone_from(&invocation.params);
        facts
    };
    let seen = facts(views, object);
    let held = views.authority.answered(|| invocation.compiled.conditions.hold(&seen)).await;
    if !invocation.compiled.conditions.is_empty() {
        super::measure(round, &policy.name, "mutate", &held);
    }
    match held.result {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        Err(why) => {
            if !policy.fails_open {
                denials.push(deny(why));
            }
            return Ok(());
        }
    }
    for mutation in &invocation.compiled.rules.mutations {
        let seen = facts(views, object);
        let patch = views.authority.answered(|| evaluate(invocation, mutation, &seen)).await;
        let changed = patch.and_then(|it| patch::apply(round, &invocation.resource, object, it));
        match changed {
            Ok(changed) => {
                if changed != *object {
                    views.forget();
                    *object = changed;
                }
            }
            Err(_) if policy.fails_open => {}
            Err(why) => denials.push(deny(why)),
        }
    }
    Ok(())
}

fn evaluate(
    invocation: &Invocation<'_, Mutations>,
    mutation: &Mutation,
    facts: &Facts,
) -> Result<patch::Patch, String> {
    let variables = Variables::of(facts, &invocation.compiled.variables);
    let mut budget = Budget::new(cel::PER_OBJECT);
    let value = mutation.program.eval(&variables, &mut budget);
    let json = value.and_then(|it| cel::value::to_json(&it, &mut budget));
    let json = json.map_err(|error| {
        format!("expression '{}' resulted in error: {error}", mutation.expression)
    })?;
    if mutation.is_patch { patch::operations(json) } else { Ok(patch::Patch::Apply(json)) }
}

fn refusal(round: &Round<'_>, object: &Value, denials: &[Denial]) -> Status {
    let message = |it: &Denial| match &it.binding {
        Some(binding) => format!(
            "policy '{}' with binding '{binding}' denied request: {}",
            it.policy, it.message
        ),
        None => format!("policy '{}' denied request: {}", it.policy, it.message),
    };
    let mut status = round.attributes.forbidden(object, "admission request denied by policy");
    if let Some(first) = denials.first() {
        status.message = message(first);
        if first.reason == "Invalid" {
            status.reason = "Invalid".into();
        }
    }
    refused(status, denials, message)
}
