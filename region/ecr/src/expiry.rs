//! Lifecycle policies: which images expire, and their going.
//!
//! Rules are looked at in the order of their priority. An image that one of them names is that rule's,
//! whether it expires by it or not, and no later one's. What an index of the repository lists is looked
//! at when the index is gone.
//!
//! Source: Amazon ECR user guide, "Automate the cleanup of images by using lifecycle policies".
//! Deviation: `expire` is the only action, and `imageCountMoreThan` and `sinceImagePushed` the only
//! counts: pulls are not recorded, and there is no archive. Policies are applied every hour; AWS says
//! within a day.

use std::sync::Arc;

use aws_wire::Fault;
use serde::Deserialize;

use crate::{
    Digest, Ecr,
    catalog::{DeleteImageError, PolicyRun},
    faults,
    names::RepositoryId,
    records::Image,
};

const DAY: f64 = 24.0 * 3600.0;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    rule_priority: u32,
    #[serde(default)]
    description: Option<String>,
    selection: Selection,
    action: Action,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    r#type: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selection {
    tag_status: TagStatus,
    #[serde(default)]
    tag_prefix_list: Vec<String>,
    #[serde(default)]
    tag_pattern_list: Vec<String>,
    count_type: CountType,
    #[serde(default)]
    count_unit: Option<String>,
    count_number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TagStatus {
    Tagged,
    Untagged,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CountType {
    ImageCountMoreThan,
    SinceImagePushed,
}

/// A checked policy, its rules in the order of their priority.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LifecyclePolicy(Vec<Rule>);

/// What a policy looks at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) digest: String,
    pub(crate) tags: Vec<String>,
    /// Seconds since 1970.
    pub(crate) pushed_at: f64,
}

impl LifecyclePolicy {
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let wrong = |why: String| {
            faults::invalid(format!(
                "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: \
                 'Lifecycle policy validation failure: {why}'"
            ))
        };
        let document: Document =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut rules = document.rules;
        rules.sort_by_key(|it| it.rule_priority);
        if rules.is_empty() {
            return Err(wrong("there are no rules".to_owned()));
        }
        if rules.windows(2).any(|it| it[0].rule_priority == it[1].rule_priority) {
            return Err(wrong("rule priorities must be unique".to_owned()));
        }
        for rule in &rules {
            check(rule).map_err(|why| wrong(format!("rule {}: {why}", rule.rule_priority)))?;
        }
        let is_any = |it: &Rule| it.selection.tag_status == TagStatus::Any;
        let last = rules.len() - 1;
        if rules[..last].iter().any(is_any) {
            return Err(wrong("a rule with tagStatus any must be the last".to_owned()));
        }
        Ok(Self(rules))
    }

    /// The digests of those that expire.
    pub(crate) fn expired(&self, images: &[Candidate], now: f64) -> Vec<String> {
        let mut left: Vec<&Candidate> = images.iter().collect();
        // The newest first.
        left.sort_by(|a, b| b.pushed_at.total_cmp(&a.pushed_at));
        let mut expired = Vec::new();
        for rule in &self.0 {
            let selection = &rule.selection;
            let (its, others): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|it| selection.takes(it));
            left = others;
            let number = selection.count_number;
            let goes =
                its.into_iter().enumerate().filter(|(index, it)| match selection.count_type {
                    CountType::ImageCountMoreThan => *index >= number as usize,
                    CountType::SinceImagePushed => now - it.pushed_at > f64::from(number) * DAY,
                });
            expired.extend(goes.map(|(_, it)| it.digest.clone()));
        }
        expired
    }
}

fn check(rule: &Rule) -> Result<(), String> {
    let selection = &rule.selection;
    let has_tags = !selection.tag_prefix_list.is_empty() || !selection.tag_pattern_list.is_empty();
    let is_by_age = selection.count_type == CountType::SinceImagePushed;
    match () {
        () if rule.rule_priority == 0 => Err("rulePriority must be 1 or more".to_owned()),
        () if rule.action.r#type != "expire" => {
            Err(format!("the action {} is not supported here", rule.action.r#type))
        }
        () if selection.count_number == 0 => Err("countNumber must be 1 or more".to_owned()),
        () if (selection.tag_status == TagStatus::Tagged) != has_tags => Err(
            "tagPrefixList or tagPatternList must be there with tagStatus tagged, and only then"
                .to_owned(),
        ),
        () if !selection.tag_prefix_list.is_empty() && !selection.tag_pattern_list.is_empty() => {
            Err("only one of tagPrefixList and tagPatternList can be there".to_owned())
        }
        () if is_by_age && selection.count_unit.as_deref() != Some("days") => {
            Err("countUnit must be days with sinceImagePushed".to_owned())
        }
        () if !is_by_age && selection.count_unit.is_some() => {
            Err("countUnit is only there with sinceImagePushed".to_owned())
        }
        () => Ok(()),
    }
}

impl Selection {
    fn takes(&self, image: &Candidate) -> bool {
        match self.tag_status {
            TagStatus::Any => true,
            TagStatus::Untagged => image.tags.is_empty(),
            // Each listed one must be on the image, by some tag.
            TagStatus::Tagged => {
                let prefixes = self.tag_prefix_list.iter();
                let mut patterns: Vec<Vec<&str>> =
                    prefixes.map(|it| vec![it.as_str(), ""]).collect();
                patterns.extend(self.tag_pattern_list.iter().map(|it| it.split('*').collect()));
                patterns.iter().all(|parts| image.tags.iter().any(|tag| is_like(tag, parts)))
            }
        }
    }
}

/// The first part begins the tag, the last one ends it, and the others are between in their order.
fn is_like(tag: &str, parts: &[&str]) -> bool {
    let [first, between @ .., last] = parts else {
        return parts.first().is_some_and(|only| tag == *only);
    };
    let Some(mut rest) = tag.strip_prefix(first) else { return false };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl Ecr {
    /// Applies every repository's policy, and says how many images went.
    pub(crate) fn apply_lifecycles(self: &Arc<Self>) -> Result<usize, Fault> {
        let mut gone = 0;
        let mut failed = None;
        for repository in self.catalog.repositories.list() {
            let Some(run) = &repository.lifecycle else { continue };
            let id = RepositoryId::new(&repository.registry, &repository.name);
            match self.apply_lifecycle(&id, run) {
                Ok(number) => gone += number,
                Err(fault) => {
                    // What is wrong with one is no other's business.
                    tracing::warn!(repository = id.key(), %fault, "a lifecycle policy is not applied");
                    failed = Some(fault);
                }
            }
        }
        failed.map_or(Ok(gone), Err)
    }

    fn apply_lifecycle(&self, id: &RepositoryId, run: &PolicyRun) -> Result<usize, Fault> {
        let policy = LifecyclePolicy::parse(&run.text)?;
        let tags = self.catalog.tags(id);
        let candidate = |(digest, image): (Digest, Arc<Image>)| {
            let its = tags.iter().filter(|(_, target)| **target == digest);
            Candidate {
                tags: its.map(|(tag, _)| tag.clone()).collect(),
                digest: digest.to_string(),
                pushed_at: image.pushed_at,
            }
        };
        let read = |digest: &Digest| self.blobs.read(digest);
        let listed = self.catalog.listed(id, &read);
        let listed = listed.map_err(|error| Fault::internal(error.to_string()))?;
        let images = self.catalog.images(id).into_iter();
        let images: Vec<_> =
            images.filter(|(digest, _)| !listed.contains_key(digest)).map(candidate).collect();
        let mut gone = 0;
        for digest in policy.expired(&images, self.now()) {
            let Some(digest) = Digest::parse(&digest) else { continue };
            match self.catalog.delete_image(id, &digest, &read) {
                // An index came meanwhile.
                Err(DeleteImageError::Listed { .. }) => continue,
                done => done.map_err(|error| Fault::internal(error.to_string()))?,
            }
            tracing::info!(repository = id.key(), %digest, "an image has expired");
            gone += 1;
        }
        self.catalog.note_lifecycle(id, &run.text, self.now()).map_err(faults::commit)?;
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{catalog::PolicyRun, registry::testing::ecr};

    fn image(digest: &str, tags: &[&str], days_old: f64) -> Candidate {
        Candidate {
            digest: digest.to_owned(),
            tags: tags.iter().map(|it| (*it).to_owned()).collect(),
            pushed_at: -days_old * DAY,
        }
    }

    fn expired(rules: &str, images: &[Candidate]) -> Vec<String> {
        let policy = LifecyclePolicy::parse(&format!(r#"{{"rules":[{rules}]}}"#)).unwrap();
        policy.expired(images, 0.0)
    }

    const UNTAGGED: &str = r#"{"rulePriority":1,"selection":{"tagStatus":"untagged",
        "countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}"#;

    #[test]
    fn the_oldest_beyond_a_number_expire() {
        let images = [image("a", &[], 3.0), image("b", &[], 1.0), image("c", &["v1"], 9.0)];
        assert_eq!(expired(UNTAGGED, &images), ["a"]);
    }

    #[test]
    fn a_rule_of_age_takes_those_of_its_tags_and_no_later_rule_takes_them() {
        let rules = r#"
            {"rulePriority":1,"selection":{"tagStatus":"tagged","tagPrefixList":["keep"],
             "countType":"sinceImagePushed","countUnit":"days","countNumber":100},
             "action":{"type":"expire"}},
            {"rulePriority":2,"selection":{"tagStatus":"any","countType":"sinceImagePushed",
             "countUnit":"days","countNumber":7},"action":{"type":"expire"}}"#;
        let images = [
            image("kept", &["keep-1"], 50.0),
            image("old", &["v1"], 8.0),
            image("new", &["v2"], 6.0),
        ];
        assert_eq!(expired(rules, &images), ["old"]);
    }

    #[test]
    fn patterns_are_about_the_whole_tag() {
        let rules = r#"{"rulePriority":1,"selection":{"tagStatus":"tagged",
            "tagPatternList":["release-*-rc"],"countType":"imageCountMoreThan","countNumber":1},
            "action":{"type":"expire"}}"#;
        let images = [
            image("a", &["release-1-rc"], 2.0),
            image("b", &["release-2-rc"], 1.0),
            image("c", &["release-3"], 9.0),
        ];
        assert_eq!(expired(rules, &images), ["a"]);
    }

    #[tokio::test]
    async fn what_an_index_lists_stays_as_long_as_the_index() {
        let (ecr, _folder) = ecr();
        let id = RepositoryId::new("111122223333.dkr.ecr.us-east-1.amazonaws.com", "team/app");
        ecr.catalog.ensure_repository(&id, 0.0).unwrap();
        let config = Digest::of(b"{}");
        ecr.catalog.add_layer(&id, &config, 2).unwrap();
        let put = |manifest: Value, tag: Option<&str>| {
            let bytes = manifest.to_string().into_bytes();
            ecr.blobs.store(&mut &bytes[..]).unwrap();
            ecr.catalog.put_manifest(&id, &bytes, None, tag, 0.0).unwrap()
        };
        let image = |of: &str| {
            let config = json!({ "digest": config.as_str(), "size": 2 });
            json!({ "config": config, "layers": [], "annotations": { "of": of } })
        };
        let listed = put(image("listed"), None);
        let alone = put(image("alone"), None);
        let index = put(json!({ "manifests": [{ "digest": listed.as_str() }] }), Some("v1"));
        let text = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged",
            "countType":"sinceImagePushed","countUnit":"days","countNumber":1},
            "action":{"type":"expire"}}]}"#;
        let run = PolicyRun { text: text.to_owned(), evaluated_at: None };
        ecr.catalog.set_lifecycle(&id, Some(run)).unwrap();
        let is_there = |it: &Digest| ecr.catalog.resolve(&id, it.as_str()).is_some();

        assert_eq!(ecr.apply_lifecycles().unwrap(), 1);
        assert!(!is_there(&alone) && is_there(&listed) && is_there(&index));

        let read = |it: &Digest| ecr.blobs.read(it);
        let refused = ecr.catalog.delete_image(&id, &listed, &read).unwrap_err();
        assert!(matches!(refused, DeleteImageError::Listed { by } if by == index));
        ecr.catalog.delete_image(&id, &index, &read).unwrap();
        assert_eq!(ecr.apply_lifecycles().unwrap(), 1);
        assert!(!is_there(&listed));
    }

    /// What one repository has wrong is no other's business.
    #[tokio::test]
    async fn a_policy_that_cannot_be_applied_keeps_none_of_another_repository_from_it() {
        let (ecr, _folder) = ecr();
        let registry = "111122223333.dkr.ecr.us-east-1.amazonaws.com";
        for name in ["a-broken", "b"] {
            let id = RepositoryId::new(registry, name);
            ecr.catalog.ensure_repository(&id, 0.0).unwrap();
            let config = Digest::of(b"{}");
            ecr.catalog.add_layer(&id, &config, 2).unwrap();
            let manifest = json!({"config": {"digest": config.as_str(), "size": 2}, "layers": []});
            let bytes = manifest.to_string().into_bytes();
            ecr.blobs.store(&mut &bytes[..]).unwrap();
            ecr.catalog.put_manifest(&id, &bytes, None, None, 0.0).unwrap();
            let text = if name == "b" {
                r#"{"rules":[{"rulePriority":1,"selection":
                {"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days",
                "countNumber":1},"action":{"type":"expire"}}]}"#
            } else {
                "an older region's"
            };
            let run = PolicyRun { text: text.to_owned(), evaluated_at: None };
            ecr.catalog.set_lifecycle(&id, Some(run)).unwrap();
        }
        assert!(ecr.apply_lifecycles().is_err(), "it is told of");
        let left = |name: &str| ecr.catalog.images(&RepositoryId::new(registry, name)).len();
        assert_eq!((left("a-broken"), left("b")), (1, 0));
    }

    #[tokio::test]
    async fn a_policy_that_was_taken_away_meanwhile_does_not_come_back() {
        let (ecr, _folder) = ecr();
        let id = RepositoryId::new("111122223333.dkr.ecr.us-east-1.amazonaws.com", "team/app");
        ecr.catalog.ensure_repository(&id, 0.0).unwrap();
        let policy = || ecr.catalog.repositories.get(&id.key()).unwrap().lifecycle.clone();
        let run = PolicyRun { text: "first".to_owned(), evaluated_at: None };
        ecr.catalog.set_lifecycle(&id, Some(run.clone())).unwrap();
        ecr.catalog.note_lifecycle(&id, "another", 1.0).unwrap();
        assert_eq!(policy(), Some(run.clone()));
        ecr.catalog.note_lifecycle(&id, "first", 2.0).unwrap();
        assert_eq!(policy(), Some(PolicyRun { evaluated_at: Some(2.0), ..run }));
        ecr.catalog.set_lifecycle(&id, None).unwrap();
        ecr.catalog.note_lifecycle(&id, "first", 3.0).unwrap();
        assert_eq!(policy(), None);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let refused = |text: &str| LifecyclePolicy::parse(text).unwrap_err().code.into_owned();
        let any = UNTAGGED.replace("untagged", "any");
        let second = UNTAGGED.replace(r#""rulePriority":1"#, r#""rulePriority":2"#);
        for text in [
            "{}".to_owned(),
            r#"{"rules":[]}"#.to_owned(),
            format!(r#"{{"rules":[{UNTAGGED},{UNTAGGED}]}}"#),
            format!(r#"{{"rules":[{any},{second}]}}"#),
            format!(r#"{{"rules":[{}]}}"#, UNTAGGED.replace("untagged", "tagged")),
            format!(r#"{{"rules":[{}]}}"#, UNTAGGED.replace("expire", "transition")),
        ] {
            assert_eq!(refused(&text), "InvalidParameterException", "{text}");
        }
    }
}
