//! Session tags: given, inherited from the session that assumes, and over those of the role.
//!
//! A tag whose key is transitive goes on to every session that is made with this one, and nobody can
//! set it anew on the way. Keys differ by more than their case.
//!
//! Source: IAM user guide, "Pass session tags in AWS STS".

use std::collections::BTreeMap;

use aws_sts::Tag;
use region_gateway::{Caller, Role};

use crate::{Sts, StsError};

const MOST: usize = 50;

/// The tags of a session that is about to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionTags {
    /// Given and inherited ones: what a trust policy sees as `aws:RequestTag`.
    pub(crate) tags: BTreeMap<String, String>,
    /// The keys of those that go on.
    pub(crate) transitive: Vec<String>,
}

impl Sts {
    /// The tags of the request and those that the caller's own session hands down.
    pub(crate) fn session_tags(
        &self,
        caller: &Caller,
        given: &[Tag],
        transitive: &[String],
    ) -> Result<SessionTags, StsError> {
        let mut found = SessionTags::default();
        if let Some(session) = self.sessions.get(&caller.access_key_id) {
            let inherited = session.tags.iter().filter(|(key, _)| session.transitive.contains(key));
            found.tags = inherited.map(|(key, value)| (key.clone(), value.clone())).collect();
            found.transitive.clone_from(&session.transitive);
        }
        found.add(given, transitive)?;
        Ok(found)
    }
}

impl SessionTags {
    fn add(&mut self, given: &[Tag], transitive: &[String]) -> Result<(), StsError> {
        for tag in given {
            check(tag)?;
            let message = match find(&self.tags, &tag.key) {
                None => {
                    self.tags.insert(tag.key.clone(), tag.value.clone());
                    continue;
                }
                Some(known) if self.transitive.contains(known) => {
                    "One of the specified transitive tag keys can't be set because it conflicts \
                     with a transitive tag key from the calling session."
                }
                Some(_) => {
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive."
                }
            };
            return Err(StsError::Tags { message: message.to_owned() });
        }
        for key in transitive {
            let Some(known) = given.iter().find(|it| it.key.eq_ignore_ascii_case(key)) else {
                let message =
                    "The specified transitive tag key must be included in the requested tags.";
                return Err(StsError::Tags { message: message.to_owned() });
            };
            self.transitive.push(known.key.clone());
        }
        if self.tags.len() > MOST {
            return Err(StsError::Invalid {
                field: "tags",
                value: self.tags.len().to_string(),
                constraint: format!("Member must have length less than or equal to {MOST}"),
            });
        }
        Ok(())
    }

    /// What the session has in the end: the role's tags, overridden by these.
    pub(crate) fn over(&self, role: &Role) -> BTreeMap<String, String> {
        let mut all = role.tags.clone();
        all.retain(|key, _| find(&self.tags, key).is_none());
        all.extend(self.tags.clone());
        all
    }
}

fn find<'a>(tags: &'a BTreeMap<String, String>, key: &str) -> Option<&'a String> {
    tags.keys().find(|it| it.eq_ignore_ascii_case(key))
}

fn check(tag: &Tag) -> Result<(), StsError> {
    let length = tag.key.chars().count();
    if (1..=128).contains(&length) && tag.value.chars().count() <= 256 {
        return Ok(());
    }
    Err(StsError::Invalid {
        field: "tags",
        value: tag.key.clone(),
        constraint: "Member must have length between 1 and 128".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn an_inherited_tag_cannot_be_set_anew() {
        let mut tags = SessionTags::default();
        tags.add(&[tag("Team", "a"), tag("cost", "1")], &["team".to_owned()]).unwrap();
        assert_eq!(tags.transitive, ["Team"]);
        assert!(tags.clone().add(&[tag("team", "b")], &[]).is_err());
        assert!(tags.clone().add(&[tag("other", "b")], &["none".to_owned()]).is_err());
        tags.add(&[tag("other", "b")], &[]).unwrap();
        assert_eq!(tags.tags.len(), 3);
    }

    #[test]
    fn there_are_fifty_tags_at_the_most() {
        let many: Vec<_> = (0..51).map(|it| tag(&format!("k{it}"), "")).collect();
        assert!(SessionTags::default().add(&many[..50], &[]).is_ok());
        assert!(SessionTags::default().add(&many, &[]).is_err());
        assert!(SessionTags::default().add(&[tag("", "x")], &[]).is_err());
    }
}
