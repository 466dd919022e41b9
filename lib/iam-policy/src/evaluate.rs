//! The decision: every layer of policies, in AWS's order.

use std::sync::Arc;

use crate::{
    Context, Effect, Identity, Kind, Policy,
    document::{Listed, Statement},
    pattern::{self, Wildcards},
    principal::{IdentityKind, Naming},
    unseen,
};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub identity: &'a Identity,
    /// `ec2:RunInstances`
    pub action: &'a str,
    /// An ARN or `*`.
    pub resource: &'a str,
    pub context: &'a Context,
}

/// A policy with the name that decisions report.
#[derive(Clone, Debug)]
pub struct Named {
    /// An ARN, or the name of an inline policy.
    pub name: String,
    pub policy: Arc<Policy>,
}

impl Named {
    /// In the place of a policy that is gone or cannot be read: it denies everything.
    pub fn nothing(name: &str) -> Self {
        const NOTHING: &str = r#"{"Version":"2012-10-17","Statement":
            {"Effect":"Deny","Action":"*","Resource":"*"}}"#;
        let policy = Policy::parse(NOTHING, Kind::Identity).expect("the text is a policy");
        Self { name: name.to_owned(), policy: Arc::new(policy) }
    }
}

/// The policies that apply to a request.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    pub identity: Vec<Named>,
    pub boundary: Option<Named>,
    /// Present (also when empty of grants) when the session was made with policies.
    pub session: Vec<Named>,
    pub resource: Option<Named>,
    /// Trust policies must allow or delegate; other resource policies may be silent.
    pub resource_must_allow: bool,
}

impl Policies {
    /// How many texts a decision may have to compare a request with.
    pub fn patterns(&self) -> usize {
        let all = self.layers().into_iter().flat_map(|(_, named)| named);
        all.flat_map(|it| &it.policy.statements).map(Statement::patterns).sum()
    }

    /// In the order in which denials are looked for.
    fn layers(&self) -> [(Layer, &[Named]); 4] {
        [
            (Layer::Resource, self.resource.as_slice()),
            (Layer::Identity, &self.identity),
            (Layer::Boundary, self.boundary.as_slice()),
            (Layer::Session, &self.session),
        ]
    }
}

/// Where a statement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Identity,
    Boundary,
    Session,
    Resource,
}

/// A decision with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// The layer that denied, or that granted.
    pub layer: Layer,
    /// `None` for implicit denials and the root user.
    pub deciding: Option<Deciding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    ExplicitDeny,
    ImplicitDeny,
}

/// The statement that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deciding {
    pub policy: String,
    pub sid: Option<String>,
    /// Its place in the policy, from 0.
    pub index: usize,
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allowed
    }

    /// The end of AWS's message: `because no identity-based policy allows the … action`.
    pub fn reason(&self, action: &str) -> String {
        let (policy, article) = match self.layer {
            Layer::Identity => ("identity-based policy", "an"),
            Layer::Boundary => ("permissions boundary", "a"),
            Layer::Session => ("session policy", "a"),
            Layer::Resource => ("resource-based policy", "a"),
        };
        match self.verdict {
            Verdict::Allowed => "because it is allowed".to_owned(),
            Verdict::ExplicitDeny => format!("with an explicit deny in {article} {policy}"),
            Verdict::ImplicitDeny => format!("because no {policy} allows the {action} action"),
        }
    }
}

/// Decides. See the crate's documentation for the order.
pub fn evaluate(request: &Request<'_>, policies: &Policies) -> Decision {
    let action = request.action.to_ascii_lowercase();
    decide(&Asked::new(request, &action, policies), policies)
}

/// Decides on a request of which nobody here knows what it touches: its resource and its service's
/// own keys, and its action either where that is `s3:*`. It is allowed only if whatever it may be
/// would be: a denial counts that may mean it, a grant that means all of it.
pub fn evaluate_unseen(request: &Request<'_>, policies: &Policies) -> Decision {
    let action = request.action.to_ascii_lowercase();
    let asked = Asked { is_unseen: true, ..Asked::new(request, &action, policies) };
    decide(&asked, policies)
}

fn decide(asked: &Asked<'_>, policies: &Policies) -> Decision {
    let request = asked.request;
    if let Some(denied) = asked.explicit_deny(policies) {
        return denied;
    }
    let by_resource = policies.resource.as_ref().and_then(|it| asked.naming_grant(it));
    let granted = |deciding: Deciding| Decision {
        verdict: Verdict::Allowed,
        layer: Layer::Resource,
        deciding: Some(deciding),
    };
    let mut identity = asked.grant(&policies.identity, Layer::Identity);
    if matches!(request.identity.kind, IdentityKind::Root) {
        let all = Decision { verdict: Verdict::Allowed, layer: Layer::Identity, deciding: None };
        identity = Some(all);
    }
    match by_resource {
        Some((Naming::Principal, deciding)) => return granted(deciding),
        Some((Naming::Role, deciding)) => identity = Some(granted(deciding)),
        Some((Naming::Account, _)) => {}
        None if policies.resource_must_allow => return implicit(Layer::Resource),
        None => {}
    }
    let Some(allowed) = identity else { return implicit(Layer::Identity) };
    let boundary = policies.boundary.as_slice();
    if !boundary.is_empty() && asked.grant(boundary, Layer::Boundary).is_none() {
        return implicit(Layer::Boundary);
    }
    if !policies.session.is_empty() && asked.grant(&policies.session, Layer::Session).is_none() {
        return implicit(Layer::Session);
    }
    allowed
}

/// What each layer says by itself, in the order in which [`evaluate`] looks: to explain a decision,
/// not to make one. Layers without a policy are left out.
pub fn layers(request: &Request<'_>, policies: &Policies) -> Vec<Decision> {
    let action = request.action.to_ascii_lowercase();
    let asked = Asked::new(request, &action, policies);
    let layers = policies.layers().into_iter().filter(|(_, named)| !named.is_empty());
    let said = layers.map(|(layer, named)| {
        let denied = asked.find(named, Effect::Deny).map(|it| (Verdict::ExplicitDeny, it));
        let said =
            denied.or_else(|| asked.find(named, Effect::Allow).map(|it| (Verdict::Allowed, it)));
        match said {
            Some((verdict, deciding)) => Decision { verdict, layer, deciding: Some(deciding) },
            None => implicit(layer),
        }
    });
    said.collect()
}

fn implicit(layer: Layer) -> Decision {
    Decision { verdict: Verdict::ImplicitDeny, layer, deciding: None }
}

struct Asked<'a> {
    request: &'a Request<'a>,
    /// In lower case.
    action: &'a str,
    /// Whether the principal has a permissions boundary.
    is_bounded: bool,
    /// See [`evaluate_unseen`].
    is_unseen: bool,
}

impl<'a> Asked<'a> {
    fn new(request: &'a Request<'a>, action: &'a str, policies: &Policies) -> Self {
        Self { request, action, is_bounded: policies.boundary.is_some(), is_unseen: false }
    }

    fn explicit_deny(&self, policies: &Policies) -> Option<Decision> {
        policies.layers().into_iter().find_map(|(layer, named)| {
            self.find(named, Effect::Deny).map(|deciding| Decision {
                verdict: Verdict::ExplicitDeny,
                layer,
                deciding: Some(deciding),
            })
        })
    }

    fn grant(&self, named: &[Named], layer: Layer) -> Option<Decision> {
        let deciding = self.find(named, Effect::Allow)?;
        Some(Decision { verdict: Verdict::Allowed, layer, deciding: Some(deciding) })
    }

    /// The closest grant of a resource policy.
    fn naming_grant(&self, named: &Named) -> Option<(Naming, Deciding)> {
        let statements = named.policy.statements.iter().enumerate();
        let grants = statements.filter(|(_, it)| it.effect == Effect::Allow).filter_map(
            |(index, statement)| {
                let naming = self.names(statement)?;
                let applies = self.applies(statement, named.policy.has_variables);
                applies.then(|| (naming, deciding(named, index, statement)))
            },
        );
        grants.max_by_key(|(naming, _)| *naming)
    }

    fn find(&self, named: &[Named], effect: Effect) -> Option<Deciding> {
        named.iter().find_map(|named| {
            let mut statements = named.policy.statements.iter().enumerate();
            let found = statements.find(|(_, it)| {
                it.effect == effect
                    && self.names(it).is_some()
                    && self.applies(it, named.policy.has_variables)
            });
            found.map(|(index, statement)| deciding(named, index, statement))
        })
    }

    fn names(&self, statement: &Statement) -> Option<Naming> {
        if statement.principals.is_some() && self.request.identity.kind == IdentityKind::Anonymous {
            return None;
        }
        match &statement.principals {
            None => Some(Naming::Principal),
            Some(Listed::In(named)) => named.naming(self.request.identity),
            // "When NotPrincipal is used with Deny, it always denies any principal that has a
            // permissions boundary attached, whatever it lists": IAM JSON policy elements.
            Some(Listed::NotIn(_)) if statement.effect == Effect::Deny && self.is_bounded => {
                Some(Naming::Principal)
            }
            Some(Listed::NotIn(named)) => match named.naming(self.request.identity) {
                // Naming the account alone does not spare its users and roles.
                None | Some(Naming::Account) => Some(Naming::Principal),
                Some(_) => None,
            },
        }
    }

    fn applies(&self, statement: &Statement, has_variables: bool) -> bool {
        let context = self.request.context;
        if self.is_unseen {
            return unseen::applies(statement, self.action, context, has_variables);
        }
        self.is_action(statement)
            && self.is_resource(statement, has_variables)
            && statement
                .conditions
                .iter()
                .all(|it| it.holds(context, has_variables, statement.effect))
    }

    fn is_action(&self, statement: &Statement) -> bool {
        let listed = |patterns: &[String]| patterns.iter().any(|it| pattern::glob(it, self.action));
        match &statement.actions {
            Listed::In(patterns) => listed(patterns),
            Listed::NotIn(patterns) => !listed(patterns),
        }
    }

    fn is_resource(&self, statement: &Statement, has_variables: bool) -> bool {
        let variables = has_variables.then_some(self.request.context);
        let resource = self.request.resource;
        let test = |it: &String| pattern::matches(it, resource, Wildcards::Glob, variables);
        match &statement.resources {
            None => true,
            Some(Listed::In(patterns)) => patterns.iter().any(|it| test(it) == Some(true)),
            // What a variable without a value would have spared is not spared by a denial.
            Some(Listed::NotIn(patterns)) if statement.effect == Effect::Deny => {
                patterns.iter().all(|it| test(it) != Some(true))
            }
            Some(Listed::NotIn(patterns)) => patterns.iter().all(|it| test(it) == Some(false)),
        }
    }
}

fn deciding(named: &Named, index: usize, statement: &Statement) -> Deciding {
    Deciding { policy: named.name.clone(), sid: statement.sid.clone(), index }
}
