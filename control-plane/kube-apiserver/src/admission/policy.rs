//! Admission policies: rules in CEL that the cluster's objects hold, evaluated here.
//!
//! A policy says which requests and what must hold (or what is changed); a binding puts it into force
//! and gives it parameters. All are read from memory for each request, so that a change holds from
//! the moment at which it is acknowledged; what is compiled is kept until its policy changes.
//!
//! **Invariant:** a policy that cannot be evaluated refuses, unless its `failurePolicy` is `Ignore`.
//! Configurations of admission themselves pass unasked, so that a broken policy can be mended, and so
//! do reviews of access and of tokens, which everything else asks for. An evaluation ends when its
//! budget is used up (see [`crate::cel`]).
//!
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/policy.

mod definition;
mod mutating;
mod params;
mod patch;
mod selection;
pub(crate) mod status;
pub(crate) mod types;
mod validating;
mod variables;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

pub(super) use self::mutating::Mutated;
pub(crate) use self::{
    definition::Compiler,
    mutating::{check_mutation, mutating_compiler},
};
use self::{definition::Hook, mutating::Mutations, validating::Validations};
use super::{
    Attributes, Context,
    conditions::Held,
    expressions::{Authority, Facts},
    round::Round,
};
use crate::{metrics::match_conditions::Asked, resources::Resource, server::Call, status::Status};

const KINDS: [&str; 4] = [
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
];
const EXEMPT: &str = "admissionregistration.k8s.io";

/// What came of a policy's conditions.
fn measure(round: &Round<'_>, name: &str, step: &'static str, held: &Held) {
    let operation = round.attributes.operation.word();
    let asked = Asked { kind: "policy", name: name.to_owned(), operation, step };
    round.context.measures.match_conditions.observe(asked, held.outcome());
}

/// All policies of the cluster, compiled anew when one has changed.
#[derive(Default)]
pub(super) struct Policies {
    known: Mutex<Arc<Known>>,
}

#[derive(Default)]
struct Known {
    /// What they were read of.
    revisions: [u64; 4],
    mutating: Vec<Hook<Mutations>>,
    validating: Vec<Hook<Validations>>,
}

impl Policies {
    fn known(&self, context: &Context) -> Arc<Known> {
        let objects = &*context.objects;
        let revisions = KINDS.map(|it| objects.revision(it));
        let mut known = self.known.lock();
        if known.revisions != revisions {
            let [mutating, its_bindings, validating, their_bindings] =
                KINDS.map(|it| objects.list(it, ""));
            *known = Arc::new(Known {
                revisions,
                mutating: definition::hooks(&mutating, &its_bindings, &known.mutating),
                validating: definition::hooks(&validating, &their_bindings, &known.validating),
            });
        }
        known.clone()
    }
}

/// What policies have said besides yes.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) warnings: Vec<String>,
    /// Of the audit log.
    pub(super) annotations: Vec<(String, String)>,
}

/// Lets mutating policies change the object.
pub(super) async fn mutate(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &mut Value,
) -> Result<Mutated, Status> {
    let context = &call.server.admission;
    let known = context.policies.known(context);
    let mut mutated = Mutated::default();
    if known.mutating.is_empty() || is_exempt(&call.resource) {
        return Ok(mutated);
    }
    let catalog = call.server.catalog();
    let round = Round::of(call, &catalog, attributes)?;
    let before = new.clone();
    mutating::run(&round, &known.mutating, new, &mut mutated).await?;
    mutated.is_changed = before != *new;
    Ok(mutated)
}

/// Lets those see the object again that want to (`reinvocationPolicy: IfNeeded`), if it is not any
/// more what they left.
pub(super) async fn mutate_again(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &mut Value,
    mut mutated: Mutated,
) -> Result<(), Status> {
    if !mutated.wants_again(new) {
        return Ok(());
    }
    let context = &call.server.admission;
    let known = context.policies.known(context);
    let catalog = call.server.catalog();
    let round = Round::of(call, &catalog, attributes)?;
    mutating::run(&round, &known.mutating, new, &mut mutated).await
}

/// Lets validating policies refuse. What they tell besides is added to `effects`, whatever comes.
pub(super) async fn validate(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &Value,
    effects: &mut Effects,
) -> Result<(), Status> {
    let context = &call.server.admission;
    let known = context.policies.known(context);
    if known.validating.is_empty() || is_exempt(&call.resource) {
        return Ok(());
    }
    let catalog = call.server.catalog();
    let round = Round::of(call, &catalog, attributes)?;
    validating::run(&round, &known.validating, new, effects).await
}

fn is_exempt(resource: &Resource) -> bool {
    resource.group == EXEMPT || resource.is_review()
}

/// A request as one version of its resource shows it, for all policies that see that version.
struct Views<'a> {
    round: &'a Round<'a>,
    authority: Arc<Authority>,
    made: Vec<(Arc<Resource>, Facts)>,
}

impl<'a> Views<'a> {
    fn of(round: &'a Round<'a>) -> Self {
        let Attributes { user, info, .. } = round.attributes;
        let authority = Authority::new(&round.context.authorizer, user, info);
        Self { round, authority, made: Vec::new() }
    }

    fn facts(&mut self, resource: &Arc<Resource>, object: &Value) -> Facts {
        if let Some((_, facts)) = self.made.iter().find(|(it, _)| Arc::ptr_eq(it, resource)) {
            return facts.clone();
        }
        let facts = Facts::of(self.round, resource, object, &self.authority);
        self.made.push((resource.clone(), facts.clone()));
        facts
    }

    /// The object has become another.
    fn forget(&mut self) {
        self.made.clear();
    }
}
