//! Changes and refusals of objects on their way in: the plugins that upstream has on by default,
//! as far as the kinds here need them.
//!
//! Each plugin is a function over the object; those that change come before those that only
//! refuse, and once more where policies or webhooks have changed it after them. Escalation checks of
//! RBAC run here too, because they need the same things.
//!
//! **Invariant:** a plugin that cannot find out refuses.

mod certificates;
mod conditions;
mod connect;
pub(crate) mod expressions;
mod ingress_class;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod pod_defaults;
mod pod_security;
pub(crate) mod policy;
mod priority;
mod resource_quota;
mod round;
mod runtime_class;
mod service_account;
mod storage;
mod vpc_resources;
pub(crate) mod webhook;

use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use transport::Place;

pub(crate) use self::connect::options as connect_options;
pub(crate) use self::node_restriction::check_token as check_node_token;
pub(crate) use self::pod_defaults::label_with_topology;
pub use self::pod_security::{PodSecurity, PodSecurityError};
pub(crate) use self::priority::{bootstrap_objects as priority_classes, check_deletable};
pub(crate) use self::resource_quota::Turn;
pub(crate) use self::webhook::Endpoint;
use crate::{
    authz::{self, Authorizer, Objects, text},
    metrics::admission::{Admission as Measures, Plugin, Step, Watch},
    request::{RequestInfo, UserInfo},
    server::Call,
    status::Status,
};

/// What admission plugins may look at. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) measures: Arc<Measures>,
    objects: Arc<dyn Objects>,
    authorizer: Authorizer,
    webhooks: Arc<webhook::Webhooks>,
    policies: Arc<policy::Policies>,
    turns: Arc<resource_quota::Turns>,
    pod_security: Arc<PodSecurity>,
}

impl Context {
    /// Webhooks are dialled from `place`.
    pub(crate) fn new(objects: impl Objects, authorizer: Authorizer, place: Place) -> Self {
        let webhooks = Arc::new(webhook::Webhooks::new(place));
        Self {
            measures: Arc::default(),
            objects: Arc::new(objects),
            authorizer,
            webhooks,
            policies: Arc::default(),
            turns: Arc::default(),
            pod_security: Arc::default(),
        }
    }

    /// The same, with PodSecurity as it is configured.
    pub(crate) fn with_pod_security(self, settings: PodSecurity) -> Self {
        Self { pod_security: Arc::new(settings), ..self }
    }

    /// Asks a program that is not an admission webhook, on the same way.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, review: &Value) -> Result<Value, String> {
        webhook::ask(self, endpoint, review).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A stream is opened, or something is asked through a proxy.
    Connect,
}

impl Operation {
    /// As reviews and metrics call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One request on its way through the plugins.
pub(crate) struct Attributes<'a> {
    pub(crate) operation: Operation,
    pub(crate) user: &'a UserInfo,
    pub(crate) info: &'a RequestInfo,
    pub(crate) old: Option<&'a Value>,
}

impl Attributes<'_> {
    /// `true` for `resource` (or `resource/subresource`) of `group`.
    fn is_about(&self, group: &str, resource: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        self.info.group == group
            && self.info.resource == resource
            && self.info.subresource == subresource
    }

    fn is(&self, operation: Operation, group: &str, resource: &str) -> bool {
        self.operation == operation && self.is_about(group, resource)
    }

    /// The refusal of this request, as `admission.NewForbidden` words it.
    fn forbidden(&self, object: &Value, why: &str) -> Status {
        let name = match text(object, "/metadata/name") {
            "" => self.info.name.as_str(),
            name => name,
        };
        Status::forbidden(&self.info.group_resource(), name, why)
    }
}

/// May change `new` and may refuse. For `Delete`, `new` is the object that is to go.
pub(crate) async fn admit(
    call: &mut Call,
    operation: Operation,
    old: Option<&Value>,
    new: &mut Value,
) -> Result<(), Status> {
    let mut effects = policy::Effects::default();
    // Boxed, since all that writes awaits it: its type would be part of each of theirs.
    let decided = decide(call, operation, old, new, &mut effects).boxed().await;
    // The log tells of what was found, whatever came of it.
    call.annotations.add(effects.annotations);
    call.warnings.extend(effects.warnings);
    let turn = decided?;
    if turn.is_some() {
        call.turn = turn;
    }
    Ok(())
}

async fn decide(
    call: &Call,
    operation: Operation,
    old: Option<&Value>,
    new: &mut Value,
    effects: &mut policy::Effects,
) -> Result<Option<Turn>, Status> {
    let attributes = Attributes { operation, user: &call.user, info: &call.info, old };
    let measures = &call.server.admission.measures;
    let mut watch = measures.watch(Step::Admit, operation);
    let changed = change_all(call, &attributes, new, effects, &mut watch).await;
    watch.over(changed.is_err());
    changed?;
    let mut watch = measures.watch(Step::Validate, operation);
    let checked = check_all(call, &attributes, new, effects, &mut watch).await;
    watch.over(checked.is_err());
    checked
}

/// All that may change the object.
async fn change_all(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &mut Value,
    effects: &mut policy::Effects,
    watch: &mut Watch<'_>,
) -> Result<(), Status> {
    let (policies, webhooks) = (Plugin::MutatingAdmissionPolicy, Plugin::MutatingAdmissionWebhook);
    change(&call.server.admission, attributes, new, watch).await?;
    let by_policies = watch.ended(policies, policy::mutate(call, attributes, new).await)?;
    let by_webhooks = webhook::mutate(call, attributes, new, &mut effects.warnings).await;
    let by_webhooks = watch.ended(webhooks, by_webhooks)?;
    if by_policies.is_changed || by_webhooks.is_changed {
        // A container that they have added gets what every other one has.
        change(&call.server.admission, attributes, new, watch).await?;
    }
    policy::mutate_again(call, attributes, new, by_policies).await?;
    webhook::mutate_again(call, attributes, new, &mut effects.warnings, by_webhooks).await
}

/// All that only refuse.
async fn check_all(
    call: &Call,
    attributes: &Attributes<'_>,
    new: &Value,
    effects: &mut policy::Effects,
    watch: &mut Watch<'_>,
) -> Result<Option<Turn>, Status> {
    let context = &call.server.admission;
    check(context, attributes, new, watch).await?;
    let decided = policy::validate(call, attributes, new, effects).await;
    watch.ended(Plugin::ValidatingAdmissionPolicy, decided)?;
    let notes = &call.annotations;
    let settings = &context.pod_security;
    let told = pod_security::check(settings, &*context.objects, attributes, new, notes);
    effects.warnings.extend(watch.ended(Plugin::PodSecurity, told)?);
    let told = webhook::validate(call, attributes, new).await;
    effects.warnings.extend(watch.ended(Plugin::ValidatingAdmissionWebhook, told)?);
    let turn = match &call.turn {
        None => resource_quota::turn(&context.turns, &*context.objects, attributes).await,
        // Tried again, under another name.
        Some(_) => None,
    };
    let now = call.server.clock.now();
    let checked = resource_quota::check(&*context.objects, attributes, new, now);
    watch.ended(Plugin::ResourceQuota, checked)?;
    Ok(turn)
}

/// May refuse to open a stream; `options` are the request's.
pub(crate) async fn connect(call: &mut Call, mut options: Value) -> Result<(), Status> {
    let mut effects = policy::Effects::default();
    let decided = decide_connect(call, &mut options, &mut effects).boxed().await;
    call.annotations.add(effects.annotations);
    call.warnings.extend(effects.warnings);
    decided
}

/// Webhooks and policies only: no plugin of ours has to do with streams.
async fn decide_connect(
    call: &Call,
    options: &mut Value,
    effects: &mut policy::Effects,
) -> Result<(), Status> {
    let operation = Operation::Connect;
    let attributes = Attributes { operation, user: &call.user, info: &call.info, old: None };
    let by_policies = policy::mutate(call, &attributes, options).await?;
    let by_webhooks = webhook::mutate(call, &attributes, options, &mut effects.warnings).await?;
    policy::mutate_again(call, &attributes, options, by_policies).await?;
    webhook::mutate_again(call, &attributes, options, &mut effects.warnings, by_webhooks).await?;
    policy::validate(call, &attributes, options, effects).await?;
    effects.warnings.extend(webhook::validate(call, &attributes, options).await?);
    Ok(())
}

/// The plugins that change, and those that refuse before webhooks are asked.
async fn change(
    context: &Context,
    attributes: &Attributes<'_>,
    new: &mut Value,
    watch: &mut Watch<'_>,
) -> Result<(), Status> {
    let objects = &*context.objects;
    watch.skip();
    let checked = namespace_lifecycle::check(objects, attributes, new);
    watch.ended(Plugin::NamespaceLifecycle, checked)?;
    if attributes.is(Operation::Create, "", "pods") {
        limit_ranger::apply_defaults(objects, attributes, new);
        watch.passed(Plugin::LimitRanger);
        let admitted = service_account::admit(objects, attributes, new).await;
        watch.ended(Plugin::ServiceAccount, admitted)?;
        watch.ended(Plugin::Priority, priority::admit(objects, attributes, new))?;
        watch.ended(Plugin::RuntimeClass, runtime_class::admit(objects, attributes, new))?;
        pod_defaults::add_tolerations(new);
        watch.passed(Plugin::DefaultTolerationSeconds);
        vpc_resources::mutate(objects, attributes, new)?;
        watch.skip();
        let node = text(new, "/spec/nodeName").to_owned();
        label_with_topology(objects, &node, new);
        watch.passed(Plugin::PodTopologyLabels);
    }
    storage::admit(objects, attributes, new);
    watch.passed(Plugin::DefaultStorageClass);
    if attributes.is(Operation::Create, "networking.k8s.io", "ingresses") {
        ingress_class::admit(objects, new);
        watch.passed(Plugin::DefaultIngressClass);
    }
    if attributes.is(Operation::Create, "", "nodes") {
        pod_defaults::taint_new_node(new);
        watch.passed(Plugin::TaintNodesByCondition);
    }
    watch.ended(Plugin::NodeRestriction, node_restriction::check(objects, attributes, new))?;
    let admitted = certificates::admit(&context.authorizer, attributes, new).await;
    watch.ended(Plugin::CertificateSigning, admitted)
}

/// The plugins that see what webhooks have made of the object.
async fn check(
    context: &Context,
    attributes: &Attributes<'_>,
    new: &Value,
    watch: &mut Watch<'_>,
) -> Result<(), Status> {
    vpc_resources::validate(&*context.objects, attributes, new)?;
    watch.skip();
    let checked = storage::check(&*context.objects, attributes, new);
    watch.ended(Plugin::DefaultStorageClass, checked)?;
    let checked = priority::check_class(&*context.objects, attributes, new);
    watch.ended(Plugin::Priority, checked)?;
    if attributes.is(Operation::Create, "", "pods") {
        let checked = limit_ranger::check(&*context.objects, attributes, new);
        watch.ended(Plugin::LimitRanger, checked)?;
    }
    if attributes.is_about("", "persistentvolumeclaims")
        && attributes.operation != Operation::Delete
    {
        let checked = limit_ranger::check_claim(&*context.objects, attributes, new);
        watch.ended(Plugin::LimitRanger, checked)?;
    }
    if matches!(attributes.operation, Operation::Create | Operation::Update) {
        let Attributes { user, info, old, .. } = attributes;
        authz::check_escalation(&context.authorizer, user, info, *old, new).await?;
    }
    watch.skip();
    let checked = certificates::check_attest(&context.authorizer, attributes, new).await;
    watch.ended(Plugin::CertificateSigning, checked)
}

#[cfg(test)]
mod tests;
