//! Admission webhooks: who asked to be asked, and what they answer.
//!
//! Mutating webhooks are called one after the other, in the order of their configurations' names;
//! where one changes the object after another that wants to know (`reinvocationPolicy: IfNeeded`),
//! that one is called once more. Validating webhooks are called all at once, and the first refusal
//! counts. They see the object in the version of the request.
//!
//! **Invariant:** no webhook is waited for longer than its `timeoutSeconds`. One that cannot be
//! asked, or that gives an answer that is none, refuses, unless its `failurePolicy` is `Ignore`.
//! Configurations of admission themselves pass unasked, so that a broken one can be mended.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook.

mod client;
mod configuration;
mod review;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use transport::Place;

pub(crate) use self::configuration::NAMES;
use self::{configuration::Configurations, review::Reply};
use super::{
    Attributes, Context, Operation,
    expressions::{Authority, Facts},
    matching::Asked,
    round::Round,
};
use crate::{
    decode, json_patches,
    metrics::{
        admission::{Answered, Asked as AskedKey},
        match_conditions,
    },
    resources::Resource,
    server::Call,
    status::Status,
};

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";
const EXEMPT: &str = "admissionregistration.k8s.io";

pub(crate) use self::configuration::Endpoint;

/// What an endpoint answers to a review of any kind.
pub(super) async fn ask(
    context: &Context,
    endpoint: &Endpoint,
    review: &Value,
) -> Result<Value, String> {
    client::ask(context, endpoint, review).await.map_err(|error| error.plain())
}

/// All webhooks of the cluster, read anew when a configuration has changed.
pub(super) struct Webhooks {
    /// Where they are dialled from.
    place: Place,
    known: Mutex<Arc<Configurations>>,
}

impl Webhooks {
    pub(super) fn new(place: Place) -> Self {
        Self { place, known: Mutex::default() }
    }

    fn known(&self, context: &Context) -> Arc<Configurations> {
        let objects = &*context.objects;
        let revisions = [MUTATING, VALIDATING].map(|it| objects.revision(it));
        let mut known = self.known.lock();
        if known.revisions != revisions {
            let (mutating, validating) = (objects.list(MUTATING, ""), objects.list(VALIDATING, ""));
            *known = Arc::new(Configurations::of(revisions, &mutating, &validating));
        }
        known.clone()
    }
}

#[derive(Default)]
pub(super) struct Mutated {
    /// Who was asked and wants to know of later changes, and what the object was when that was over.
    again: Vec<(usize, Value)>,
    pub(super) is_changed: bool,
}

/// Lets mutating webhooks change the object.
pub(super) async fn mutate(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<Mutated, Status> {
    let context = &call.server.admission;
    let known = context.webhooks.known(context);
    let mut asked = Mutated::default();
    if known.mutating.is_empty() || is_exempt(&call.resource) {
        return Ok(asked);
    }
    let catalog = call.server.catalog();
    let round = Round::of(call, &catalog, attributes)?;
    for (index, webhook) in known.mutating.iter().enumerate() {
        let Some(is_changed) = round.ask("admit", webhook, new, warnings).await? else { continue };
        asked.is_changed |= is_changed;
        if webhook.is_reinvoked {
            asked.again.push((index, new.clone()));
        }
    }
    Ok(asked)
}

/// Asks those once more that want to know of changes after theirs.
pub(super) async fn mutate_again(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &mut Value,
    warnings: &mut Vec<String>,
    asked: Mutated,
) -> Result<(), Status> {
    if asked.again.is_empty() {
        return Ok(());
    }
    let context = &call.server.admission;
    let known = context.webhooks.known(context);
    let catalog = call.server.catalog();
    let round = Round::of(call, &catalog, attributes)?;
    for (index, left) in asked.again {
        if let Some(webhook) = known.mutating.get(index).filter(|_| left != *new) {
            round.ask("admit", webhook, new, warnings).await?;
        }
    }
    Ok(())
}

/// Lets validating webhooks refuse. Returns warnings.
pub(super) async fn validate(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &Value,
) -> Result<Vec<String>, Status> {
    let context = &call.server.admission;
    let known = context.webhooks.known(context);
    if known.validating.is_empty() || is_exempt(&call.resource) {
        return Ok(Vec::new());
    }
    let catalog = call.server.catalog();
    let round = Round::of(call, &catalog, attributes)?;
    let asking = known.validating.iter().map(|webhook| async {
        let (mut object, mut warnings) = (new.clone(), Vec::new());
        round.ask("validating", webhook, &mut object, &mut warnings).await.map(|_| warnings)
    });
    Ok(future::try_join_all(asking).await?.concat())
}

fn is_exempt(resource: &Resource) -> bool {
    resource.group == EXEMPT
}

impl Round<'_> {
    /// Asks one webhook if it wants to be. Says whether `object` is another afterwards; `None`: it was
    /// not asked.
    async fn ask(
        &self,
        step: &'static str,
        webhook: &configuration::Webhook,
        object: &mut Value,
        warnings: &mut Vec<String>,
    ) -> Result<Option<bool>, Status> {
        let asked = Asked { round: self, object };
        let Some(resource) = webhook.matcher.wants(&asked)? else { return Ok(None) };
        if !self.meets_conditions(step, webhook, &resource, object).await? {
            return Ok(None);
        }
        let request = self.request(&resource, object);
        if self.is_dry_run && !webhook.is_harmless {
            return Err(Status::bad_request(format!(
                "admission webhook \"{}\" does not support dry run",
                webhook.name
            )));
        }
        let begun = Instant::now();
        let answered = client::call(self.context, webhook, request).await;
        let changed = match &answered {
            Ok(Reply { patch: Some(patch), .. }) => {
                self.patched(webhook, &resource, object, patch).transpose()
            }
            _ => None,
        };
        let outcome = match &answered {
            Ok(_) if matches!(changed, Some(Err(_))) => Answered::Broken,
            Ok(Reply { refusal: None, .. }) => Answered::Allowed,
            Ok(Reply { refusal: Some(refusal), .. }) => {
                Answered::Refused { code: refusal.code.as_u16() }
            }
            Err(error) => Answered::Failed { code: error.code(), is_refused: !webhook.fails_open },
        };
        let operation = self.attributes.operation.word();
        let asked = AskedKey { name: webhook.name.clone(), step, operation };
        self.context.measures.webhook(asked, outcome, begun.elapsed());
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                webhook.failed(&error)?;
                return Ok(Some(false));
            }
        };
        warnings.extend(answer.warnings);
        if let Some(refusal) = answer.refusal {
            return Err(refusal);
        }
        // That no patch came of it is the API's failure, whatever the policy for the webhook's.
        let Some(changed) = changed.transpose().map_err(Status::internal)? else {
            return Ok(Some(false));
        };
        let is_changed = changed != *object;
        *object = changed;
        Ok(Some(is_changed))
    }

    async fn meets_conditions(
        &self,
        step: &'static str,
        webhook: &configuration::Webhook,
        resource: &Arc<Resource>,
        object: &Value,
    ) -> Result<bool, Status> {
        if webhook.conditions.is_empty() {
            return Ok(true);
        }
        let Attributes { user, info, .. } = self.attributes;
        let authority = Authority::new(&self.context.authorizer, user, info);
        let facts = Facts::of(self, resource, object, &authority);
        let held = authority.answered(|| webhook.conditions.hold(&facts)).await;
        let mut outcome = held.outcome();
        let decided = webhook.decided(held.result);
        outcome.is_excluded = matches!(decided, Ok(false));
        let (name, operation) = (webhook.name.clone(), self.attributes.operation.word());
        let asked = match_conditions::Asked { kind: "webhook", name, operation, step };
        self.context.measures.match_conditions.observe(asked, outcome);
        decided.map_err(|why| self.attributes.forbidden(object, &why))
    }

    /// The object with a webhook's changes, if it makes any: of the same type, with defaults, in the
    /// stored form.
    fn patched(
        &self,
        webhook: &configuration::Webhook,
        resource: &Arc<Resource>,
        object: &Value,
        patch: &review::Operations,
    ) -> Result<Option<Value>, String> {
        if patch.is_empty() {
            return Ok(None);
        }
        if self.attributes.operation == Operation::Delete {
            return Err(format!(
                "admission webhook \"{}\" attempted to modify the object, which is not supported for \
                 this operation",
                webhook.name
            ));
        }
        let patch =
            serde_json::from_value(serde_json::json!(patch)).map_err(|it| it.to_string())?;
        let mut changed = self.shown(object, resource);
        json_patches::apply(&mut changed, &patch).map_err(|it| it.to_string())?;
        self.taken(resource, object, changed, decode::FieldValidation::Ignore).map(Some)
    }
}
