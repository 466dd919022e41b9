//! Trust policies: checked when they are saved, and pinned to the principals of that moment.
//!
//! A principal's ARN in a trust policy means the user or role that has it when the policy is saved,
//! by its unique id: one that is made again under the same name is somebody else. The document then
//! shows the id of the one that is gone.
//!
//! Deviation: principals of other accounts are taken as they are; AWS refuses those that do not
//! exist.
//!
//! Source: "AWS JSON policy elements: Principal", IAM User Guide.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use iam_policy::{Kind, Named, Policy};
use serde_json::Value;

use crate::{Iam, IamError, records::Role};

/// Quota: characters of a trust policy.
const LONGEST: usize = 2048;

impl Iam {
    /// Checks a trust policy. Gives the unique ids of those whom its ARNs name.
    pub(crate) fn check_trust(&self, document: &str) -> Result<BTreeMap<String, String>, IamError> {
        if crate::size(document) > LONGEST {
            return Err(IamError::Quota { what: "ACLSizePerRole", limit: LONGEST });
        }
        let policy = self.parse(document, Kind::Trust)?;
        let named = policy.aws_principals().filter(|it| self.is_of_entity(it));
        let pinned = named.map(|arn| match self.principal_id(arn) {
            Some(id) => Ok((arn.to_owned(), id)),
            None => Err(IamError::Malformed {
                message: format!("Invalid principal in policy: \"AWS\":\"{arn}\""),
            }),
        });
        pinned.collect()
    }

    /// The unique id of the user or role with this ARN, of this account.
    pub fn principal_id(&self, arn: &str) -> Option<String> {
        let name = arn.rsplit('/').next()?;
        let (id, of) = if arn.starts_with(&self.arn_prefix("role")) {
            let role = self.roles.get(name)?;
            (role.entity.id.clone(), role.entity.arn.clone())
        } else {
            let user = self.users.get(name)?;
            (user.entity.id.clone(), user.entity.arn.clone())
        };
        (of == arn).then_some(id)
    }

    /// The trust policy as it decides: with ids in the place of ARNs. One that cannot be read trusts
    /// nobody.
    pub(crate) fn pinned_trust(&self, role: &Role) -> Arc<Policy> {
        let policy = match self.parse(&role.trust, Kind::Trust) {
            Ok(policy) => policy,
            Err(error) => {
                let role = &role.entity.arn;
                tracing::error!(role, %error, "a stored trust policy cannot be read: it denies");
                return Named::nothing(role).policy;
            }
        };
        if role.pins.is_empty() {
            return policy;
        }
        Arc::new(policy.with_aws_principals(|arn| role.pins.get(arn).cloned()))
    }

    /// The trust policy as it is shown: ids in the place of ARNs whose principal is gone.
    pub(crate) fn shown_trust<'a>(&self, role: &'a Role) -> Cow<'a, str> {
        let is_gone = |(arn, id): &(&String, &String)| self.principal_id(arn).as_ref() != Some(*id);
        let gone: BTreeMap<_, _> = role.pins.iter().filter(is_gone).collect();
        let parsed = (!gone.is_empty()).then(|| serde_json::from_str::<Value>(&role.trust));
        let Some(Ok(mut document)) = parsed else { return Cow::Borrowed(&role.trust) };
        let statements = match &mut document["Statement"] {
            Value::Array(several) => several.iter_mut().collect(),
            single => vec![single],
        };
        for statement in statements {
            match statement.pointer_mut("/Principal/AWS") {
                Some(Value::Array(named)) => named.iter_mut().for_each(|it| replace(it, &gone)),
                Some(single) => replace(single, &gone),
                None => {}
            }
        }
        Cow::Owned(document.to_string())
    }

    fn is_of_entity(&self, principal: &str) -> bool {
        ["role", "user"].iter().any(|kind| principal.starts_with(&self.arn_prefix(kind)))
    }

    fn arn_prefix(&self, kind: &str) -> String {
        self.arn(kind, "")
    }
}

fn replace(principal: &mut Value, gone: &BTreeMap<&String, &String>) {
    let id = principal.as_str().and_then(|arn| gone.iter().find(|(it, _)| **it == arn));
    if let Some((_, id)) = id {
        *principal = Value::from(id.as_str());
    }
}
