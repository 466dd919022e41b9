//! Policy documents: reading and checking them, with IAM's words for what is wrong.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::{condition::Condition, pattern, principal::Principals, unique};

/// What a document is attached to: it decides which elements it must and must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Managed, inline, boundary and session policies.
    Identity,
    /// A role's trust policy.
    Trust,
    /// Attached to a resource (ECR repositories).
    Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// A checked document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Version 2008-10-17 has no variables.
    pub(crate) has_variables: bool,
    pub(crate) statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) principals: Option<Listed<Principals>>,
    /// In lower case.
    pub(crate) actions: Listed<Vec<String>>,
    pub(crate) resources: Option<Listed<Vec<String>>>,
    pub(crate) conditions: Vec<Condition>,
}

/// An element or its `Not…` form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listed<T> {
    In(T),
    NotIn(T),
}

/// Why a document is not a policy. IAM reports it as `MalformedPolicyDocument`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("This policy contains invalid Json")]
    NotJson,
    #[error("Syntax errors in policy.")]
    Syntax,
    #[error("Policy document must be version 2012-10-17 or greater.")]
    Version,
    #[error("Policy statement must contain actions.")]
    NoActions,
    #[error("Policy statement must contain resources.")]
    NoResources,
    #[error("Missing required field {0}")]
    Missing(&'static str),
    #[error("Has prohibited field {0}")]
    Prohibited(&'static str),
    #[error("Policy document should not specify a principal.")]
    PrincipalInIdentityPolicy,
    #[error("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")]
    NoVendor,
    #[error("Resource {0} must be in ARN format or \"*\".")]
    BadResource(String),
    #[error("Invalid principal in policy: {0}")]
    BadPrincipal(String),
    #[error("AssumeRole policy may only specify STS AssumeRole actions.")]
    NotAssumeRole,
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    DuplicateSid,
    #[error("Invalid Condition type : {0}")]
    BadCondition(String),
}

impl Policy {
    pub fn parse(text: &str, kind: Kind) -> Result<Self, PolicyError> {
        let document = unique::parse(text).ok_or(PolicyError::NotJson)?;
        let Value::Object(document) = document else { return Err(PolicyError::Syntax) };
        only(&document, &["Version", "Id", "Statement"])?;
        let has_variables = match document.get("Version").map(Value::as_str) {
            None | Some(Some("2008-10-17")) => false,
            Some(Some("2012-10-17")) => true,
            Some(_) => return Err(PolicyError::Version),
        };
        let statements = match document.get("Statement") {
            None => return Err(PolicyError::Syntax),
            Some(Value::Array(items)) => items.iter().collect(),
            Some(single) => vec![single],
        };
        if statements.is_empty() {
            return Err(PolicyError::Syntax);
        }
        let statements = statements
            .into_iter()
            .map(|it| Statement::read(it, kind))
            .collect::<Result<Vec<_>, _>>()?;
        let mut sids = HashSet::new();
        if !statements.iter().filter_map(|it| it.sid.as_ref()).all(|sid| sids.insert(sid)) {
            return Err(PolicyError::DuplicateSid);
        }
        Ok(Self { has_variables, statements })
    }

    /// The keys that conditions and variables read, as the document writes them.
    pub fn context_keys(&self) -> impl Iterator<Item = &str> {
        let variables = self.has_variables;
        self.statements.iter().flat_map(move |it| {
            let resources = match &it.resources {
                Some(Listed::In(found) | Listed::NotIn(found)) => found.as_slice(),
                None => &[],
            };
            let in_resources = resources.iter().flat_map(|it| pattern::variables(it));
            let in_conditions = it.conditions.iter().flat_map(Condition::keys);
            in_conditions.chain(in_resources.filter(move |_| variables))
        })
    }

    /// What the document's `"AWS"` principals say, with those of `NotPrincipal`.
    pub fn aws_principals(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().flat_map(|it| {
            match &it.principals {
                Some(Listed::In(named) | Listed::NotIn(named)) => named.aws.as_slice(),
                None => &[],
            }
            .iter()
            .map(String::as_str)
        })
    }

    /// The same document with other `"AWS"` principals: IAM pins an ARN to the unique id of whom it
    /// named when the document was saved.
    pub fn with_aws_principals(&self, replace: impl Fn(&str) -> Option<String>) -> Self {
        let mut policy = self.clone();
        for statement in &mut policy.statements {
            let Some(Listed::In(named) | Listed::NotIn(named)) = &mut statement.principals else {
                continue;
            };
            for text in &mut named.aws {
                if let Some(other) = replace(text) {
                    *text = other;
                }
            }
        }
        policy
    }

    /// The services that a trust policy names, to tell what a role is for.
    pub fn trusted_services(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter(|it| it.effect == Effect::Allow).flat_map(|it| {
            match &it.principals {
                Some(Listed::In(named)) => named.services.iter().map(String::as_str),
                _ => [].iter().map(String::as_str),
            }
        })
    }
}

impl Statement {
    fn read(value: &Value, kind: Kind) -> Result<Self, PolicyError> {
        const ELEMENTS: [&str; 9] = [
            "Sid",
            "Effect",
            "Principal",
            "NotPrincipal",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Condition",
        ];
        let fields = value.as_object().ok_or(PolicyError::Syntax)?;
        only(fields, &ELEMENTS)?;
        let effect = match fields.get("Effect").map(Value::as_str) {
            None => return Err(PolicyError::Missing("Effect")),
            Some(Some("Allow")) => Effect::Allow,
            Some(Some("Deny")) => Effect::Deny,
            Some(_) => return Err(PolicyError::Syntax),
        };
        let sid = match fields.get("Sid") {
            None => None,
            Some(Value::String(sid)) => Some(sid.clone()).filter(|it| !it.is_empty()),
            Some(_) => return Err(PolicyError::Syntax),
        };
        Ok(Self {
            sid,
            effect,
            principals: read_principals(fields, kind)?,
            actions: read_actions(fields, kind)?,
            resources: read_resources(fields, kind)?,
            conditions: read_conditions(fields)?,
        })
    }

    /// How many texts a request is compared with.
    pub(crate) fn patterns(&self) -> usize {
        let (Listed::In(actions) | Listed::NotIn(actions)) = &self.actions;
        let resources = match &self.resources {
            Some(Listed::In(found) | Listed::NotIn(found)) => found.len(),
            None => 0,
        };
        let values: usize = self.conditions.iter().map(Condition::patterns).sum();
        actions.len() + resources + values
    }
}

fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), PolicyError> {
    let all_known = fields.keys().all(|it| known.contains(&it.as_str()));
    if all_known { Ok(()) } else { Err(PolicyError::Syntax) }
}

/// An element that may be one text or several.
fn texts(value: &Value) -> Result<Vec<String>, PolicyError> {
    let text = |it: &Value| it.as_str().map(str::to_owned).ok_or(PolicyError::Syntax);
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        single => Ok(vec![text(single)?]),
    }
}

fn listed<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
    not_name: &str,
) -> Result<Option<Listed<&'a Value>>, PolicyError> {
    match (fields.get(name), fields.get(not_name)) {
        (Some(_), Some(_)) => Err(PolicyError::Syntax),
        (Some(value), None) => Ok(Some(Listed::In(value))),
        (None, Some(value)) => Ok(Some(Listed::NotIn(value))),
        (None, None) => Ok(None),
    }
}

impl<T> Listed<T> {
    fn try_map<U, E>(self, map: impl FnOnce(T) -> Result<U, E>) -> Result<Listed<U>, E> {
        Ok(match self {
            Self::In(it) => Listed::In(map(it)?),
            Self::NotIn(it) => Listed::NotIn(map(it)?),
        })
    }
}

fn read_actions(
    fields: &Map<String, Value>,
    kind: Kind,
) -> Result<Listed<Vec<String>>, PolicyError> {
    let found = listed(fields, "Action", "NotAction")?.ok_or(match kind {
        Kind::Trust => PolicyError::Missing("Action"),
        _ => PolicyError::NoActions,
    })?;
    found.try_map(|value| {
        let actions = texts(value)?;
        if actions.is_empty() {
            return Err(PolicyError::NoActions);
        }
        for action in &actions {
            let vendor = action.split_once(':').map(|(vendor, _)| vendor);
            let is_fine = action == "*" || vendor.is_some_and(|it| !it.is_empty());
            if !is_fine {
                return Err(PolicyError::NoVendor);
            }
            if kind == Kind::Trust && !vendor.is_some_and(|it| it.eq_ignore_ascii_case("sts")) {
                return Err(PolicyError::NotAssumeRole);
            }
        }
        Ok(actions.into_iter().map(|it| it.to_ascii_lowercase()).collect())
    })
}

fn read_resources(
    fields: &Map<String, Value>,
    kind: Kind,
) -> Result<Option<Listed<Vec<String>>>, PolicyError> {
    let Some(found) = listed(fields, "Resource", "NotResource")? else {
        return match kind {
            Kind::Identity => Err(PolicyError::NoResources),
            Kind::Trust | Kind::Resource => Ok(None),
        };
    };
    if kind == Kind::Trust {
        return Err(PolicyError::Prohibited("Resource"));
    }
    let check = |value| {
        let resources = texts(value)?;
        if resources.is_empty() {
            return Err(PolicyError::NoResources);
        }
        let is_arn = |it: &str| it == "*" || it.starts_with("arn:") || it.starts_with("${");
        match resources.iter().find(|it| !is_arn(it)) {
            Some(bad) => Err(PolicyError::BadResource(bad.clone())),
            None => Ok(resources),
        }
    };
    found.try_map(check).map(Some)
}

fn read_principals(
    fields: &Map<String, Value>,
    kind: Kind,
) -> Result<Option<Listed<Principals>>, PolicyError> {
    let Some(found) = listed(fields, "Principal", "NotPrincipal")? else {
        return match kind {
            Kind::Identity => Ok(None),
            Kind::Trust | Kind::Resource => Err(PolicyError::Missing("Principal")),
        };
    };
    match (kind, &found) {
        (Kind::Identity, _) => return Err(PolicyError::PrincipalInIdentityPolicy),
        // "You cannot use NotPrincipal in … a role trust policy".
        (Kind::Trust, Listed::NotIn(_)) => return Err(PolicyError::Prohibited("NotPrincipal")),
        _ => {}
    }
    found.try_map(read_principal).map(Some)
}

fn read_principal(value: &Value) -> Result<Principals, PolicyError> {
    let mut principals = Principals::default();
    match value {
        Value::String(text) if text == "*" => principals.anyone = true,
        Value::Object(fields) => {
            for (kind, value) in fields {
                let named = texts(value)?;
                match kind.as_str() {
                    "AWS" => {
                        if let Some(bad) = named.iter().find(|it| !is_aws_principal(it)) {
                            return Err(PolicyError::BadPrincipal(format!("\"AWS\":\"{bad}\"")));
                        }
                        principals.aws = named;
                    }
                    "Service" => principals.services = named,
                    "Federated" => principals.federated = named,
                    "CanonicalUser" => {}
                    _ => return Err(PolicyError::Syntax),
                }
            }
        }
        _ => return Err(PolicyError::Syntax),
    }
    Ok(principals)
}

fn is_aws_principal(text: &str) -> bool {
    let is_account = text.len() == 12 && text.bytes().all(|it| it.is_ascii_digit());
    let is_id = text.starts_with("AROA") || text.starts_with("AIDA");
    let is_arn = (text.starts_with("arn:aws:iam::") || text.starts_with("arn:aws:sts::"))
        && !text.contains(['*', '?']);
    text == "*" || is_account || is_id || is_arn
}

fn read_conditions(fields: &Map<String, Value>) -> Result<Vec<Condition>, PolicyError> {
    let Some(block) = fields.get("Condition") else { return Ok(Vec::new()) };
    let mut conditions = Vec::new();
    for (operator, keys) in block.as_object().ok_or(PolicyError::Syntax)? {
        for (key, values) in keys.as_object().ok_or(PolicyError::Syntax)? {
            let values = match values {
                Value::Array(items) => items.iter().map(scalar).collect::<Result<_, _>>()?,
                single => vec![scalar(single)?],
            };
            if !key.contains(':') {
                return Err(PolicyError::NoVendor);
            }
            let condition = Condition::new(operator, key, values);
            conditions.push(condition.ok_or_else(|| PolicyError::BadCondition(operator.clone()))?);
        }
    }
    Ok(conditions)
}

fn scalar(value: &Value) -> Result<String, PolicyError> {
    match value {
        Value::String(it) => Ok(it.clone()),
        Value::Bool(it) => Ok(it.to_string()),
        Value::Number(it) => Ok(it.to_string()),
        _ => Err(PolicyError::Syntax),
    }
}
