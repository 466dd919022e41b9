//! Inline and attached policies: the same for users, groups and roles.

use aws_iam::AttachedPolicy;
use aws_wire::Fault;
use iam_policy::Kind;
use region_store::{Bucket, Value};

use crate::{Iam, IamError, checked_name, records::Holder};

/// Quota: managed policies attached to one principal.
const MOST_ATTACHED: usize = 10;

impl Iam {
    pub(crate) fn holder<H: Holder + Value>(
        bucket: &Bucket<H>,
        name: &str,
    ) -> Result<std::sync::Arc<H>, IamError> {
        let noun = H::NOUN;
        bucket.get(name).ok_or_else(|| IamError::NotFound { noun, name: name.to_owned() })
    }

    /// Changes a user, group or role that exists.
    pub(crate) fn change_holder<H: Holder + Value + Clone>(
        &self,
        bucket: &Bucket<H>,
        name: &str,
        change: impl FnOnce(&mut H) -> Result<(), IamError>,
    ) -> Result<(), Fault> {
        self.change(|tx| {
            let noun = H::NOUN;
            let found = tx.get(bucket, name);
            let found = found.ok_or_else(|| IamError::NotFound { noun, name: name.to_owned() })?;
            let mut holder = H::clone(&found);
            if holder.entity().path.starts_with("/aws-service-role/") {
                return Err(IamError::Protected { name: name.to_owned() }.into());
            }
            change(&mut holder)?;
            tx.put(bucket, name, holder);
            Ok(())
        })
    }

    pub(crate) fn put_inline<H: Holder + Value + Clone>(
        &self,
        bucket: &Bucket<H>,
        name: &str,
        policy_name: &str,
        document: String,
    ) -> Result<(), Fault> {
        checked_name("policyName", policy_name, 128)?;
        self.parse(&document, Kind::Identity)?;
        self.change_holder(bucket, name, |holder| {
            let inline = &mut holder.grants_mut().inline;
            inline.insert(policy_name.to_owned(), document);
            let size: usize = inline.values().map(|it| crate::size(it)).sum();
            match size <= H::INLINE_LIMIT {
                true => Ok(()),
                false => Err(IamError::InlineSize {
                    limit: H::INLINE_LIMIT,
                    noun: H::NOUN,
                    name: name.to_owned(),
                }),
            }
        })
    }

    pub(crate) fn inline<H: Holder + Value>(
        bucket: &Bucket<H>,
        name: &str,
        policy_name: &str,
    ) -> Result<String, IamError> {
        let holder = Self::holder(bucket, name)?;
        let found = holder.grants().inline.get(policy_name);
        found
            .cloned()
            .ok_or_else(|| IamError::InlineNotFound { noun: H::NOUN, name: policy_name.to_owned() })
    }

    pub(crate) fn delete_inline<H: Holder + Value + Clone>(
        &self,
        bucket: &Bucket<H>,
        name: &str,
        policy_name: &str,
    ) -> Result<(), Fault> {
        self.change_holder(bucket, name, |holder| {
            match holder.grants_mut().inline.remove(policy_name) {
                Some(_) => Ok(()),
                None => {
                    Err(IamError::InlineNotFound { noun: H::NOUN, name: policy_name.to_owned() })
                }
            }
        })
    }

    pub(crate) fn attach<H: Holder + Value + Clone>(
        &self,
        bucket: &Bucket<H>,
        name: &str,
        arn: &str,
    ) -> Result<(), Fault> {
        self.change_holder(bucket, name, |holder| {
            // Within the transaction, so that nobody deletes it meanwhile.
            if self.policy(arn).is_none() {
                return Err(IamError::NotAttachable { arn: arn.to_owned() });
            }
            let attached = &mut holder.grants_mut().attached;
            attached.insert(arn.to_owned());
            if attached.len() > MOST_ATTACHED {
                let what = "PoliciesPerRole";
                return Err(IamError::Quota { what, limit: MOST_ATTACHED });
            }
            Ok(())
        })
    }

    pub(crate) fn detach<H: Holder + Value + Clone>(
        &self,
        bucket: &Bucket<H>,
        name: &str,
        arn: &str,
    ) -> Result<(), Fault> {
        self.change_holder(bucket, name, |holder| match holder.grants_mut().attached.remove(arn) {
            true => Ok(()),
            false => Err(IamError::PolicyNotFound { arn: arn.to_owned() }),
        })
    }

    pub(crate) fn attached_to<H: Holder + Value>(
        bucket: &Bucket<H>,
        name: &str,
    ) -> Result<Vec<AttachedPolicy>, IamError> {
        let holder = Self::holder(bucket, name)?;
        let shown = holder.grants().attached.iter().map(|arn| AttachedPolicy {
            policy_name: arn.rsplit('/').next().unwrap_or_default().to_owned(),
            policy_arn: arn.clone(),
        });
        Ok(shown.collect())
    }

    /// Whether a policy's path begins so.
    pub(crate) fn is_below(&self, policy_arn: &str, prefix: &str) -> bool {
        self.policy(policy_arn).is_some_and(|it| it.entity.path.starts_with(prefix))
    }

    pub(crate) fn set_boundary<H: Holder + Value + Clone>(
        &self,
        bucket: &Bucket<H>,
        name: &str,
        arn: Option<String>,
    ) -> Result<(), Fault> {
        self.change_holder(bucket, name, |holder| {
            self.check_boundary(arn.as_deref())?;
            holder.grants_mut().boundary = arn;
            Ok(())
        })
    }

    pub(crate) fn check_boundary(&self, arn: Option<&str>) -> Result<(), IamError> {
        match arn {
            Some(arn) if self.policy(arn).is_none() => {
                let message = format!("Scope ARN: {arn} does not exist or is not attachable.");
                Err(IamError::Input { message })
            }
            _ => Ok(()),
        }
    }

    /// How often a policy is attached, and how often it is a boundary.
    pub(crate) fn uses(&self, arn: &str) -> (usize, usize) {
        let mut uses = (0, 0);
        let mut count = |grants: &crate::records::Grants| {
            uses.0 += usize::from(grants.attached.contains(arn));
            uses.1 += usize::from(grants.boundary.as_deref() == Some(arn));
        };
        self.users.list().iter().for_each(|it| count(&it.grants));
        self.groups.list().iter().for_each(|it| count(&it.grants));
        self.roles.list().iter().for_each(|it| count(&it.grants));
        uses
    }
}
