//! Which pods a profile is for. Pure.
//!
//! A pod that names a profile in a label gets that one, if it selects the pod at all; any other gets
//! the first in the order of names that does. Namespaces, and keys and values of labels, may hold `*`
//! for any text and `?` for one character.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{FargateProfile, Selector, State};

/// The label by which a pod names its profile, and is told it.
pub(crate) const LABEL: &str = "eks.amazonaws.com/fargate-profile";

/// The profile that the pod is for.
pub(crate) fn profile_of<'a>(
    profiles: impl IntoIterator<Item = &'a FargateProfile>,
    namespace: &str,
    pod: &Value,
) -> Option<&'a FargateProfile> {
    // Fargate has no DaemonSets: their pods are for the nodes that there are.
    let owners = pod["metadata"]["ownerReferences"].as_array();
    if owners.is_some_and(|it| it.iter().any(|it| it["kind"] == "DaemonSet")) {
        return None;
    }
    let labels: BTreeMap<&str, &str> = pod["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let named = labels.get(LABEL);
    let selects = |it: &&FargateProfile| {
        it.state == State::Active
            && named.is_none_or(|name| *name == it.name)
            && it.selectors.iter().any(|it| it.takes(namespace, &labels))
    };
    profiles.into_iter().filter(selects).min_by(|a, b| a.name.cmp(&b.name))
}

impl Selector {
    fn takes(&self, namespace: &str, labels: &BTreeMap<&str, &str>) -> bool {
        let has = |(key, value): (&String, &String)| {
            labels
                .iter()
                .any(|(its_key, its_value)| is_like(its_key, key) && is_like(its_value, value))
        };
        is_like(namespace, &self.namespace) && self.labels.iter().all(has)
    }
}

fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where the last asterisk is, and how much of the text it takes.
    let mut last: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(of) {
            Some('*') => {
                last = Some((of, at));
                of += 1;
            }
            Some(it) if *it == '?' || *it == text[at] => (at, of) = (at + 1, of + 1),
            _ => {
                let Some((star, taken)) = last else { return false };
                last = Some((star, taken + 1));
                (at, of) = (taken + 1, star + 1);
            }
        }
    }
    pattern[of..].iter().all(|it| *it == '*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn profile(name: &str, namespace: &str, labels: &[(&str, &str)]) -> FargateProfile {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        FargateProfile {
            cluster: "c".into(),
            name: name.into(),
            id: String::new(),
            role_arn: String::new(),
            subnets: Vec::new(),
            selectors: vec![Selector { namespace: namespace.into(), labels }],
            state: State::Active,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            tags: BTreeMap::new(),
            asked: None,
        }
    }

    fn chosen(profiles: &[FargateProfile], namespace: &str, pod: &Value) -> Option<String> {
        profile_of(profiles, namespace, pod).map(|it| it.name.clone())
    }

    #[test]
    fn a_pod_is_for_the_first_profile_that_selects_it_or_for_the_one_that_it_names() {
        let profiles = [
            profile("b", "jobs", &[]),
            profile("a", "jobs", &[("team", "red")]),
            profile("c", "jobs", &[("team", "*")]),
        ];
        let plain = json!({});
        assert_eq!(chosen(&profiles, "jobs", &plain).as_deref(), Some("b"));
        assert_eq!(chosen(&profiles, "other", &plain), None);
        let red = json!({ "metadata": { "labels": { "team": "red" } } });
        assert_eq!(chosen(&profiles, "jobs", &red).as_deref(), Some("a"));
        let named = json!({ "metadata": { "labels": { "team": "red", LABEL: "c" } } });
        assert_eq!(chosen(&profiles, "jobs", &named).as_deref(), Some("c"));
        let wrong = json!({ "metadata": { "labels": { "team": "blue", LABEL: "a" } } });
        assert_eq!(chosen(&profiles, "jobs", &wrong), None);
    }

    #[test]
    fn a_daemon_sets_pods_and_profiles_that_come_or_go_are_left_alone() {
        let mut one = profile("a", "*", &[]);
        let owned = json!({ "metadata": { "ownerReferences": [{ "kind": "DaemonSet" }] } });
        assert_eq!(chosen(std::slice::from_ref(&one), "kube-system", &owned), None);
        one.state = State::Deleting;
        assert_eq!(chosen(&[one], "kube-system", &json!({})), None);
    }

    #[test]
    fn patterns_match_any_text_and_single_characters() {
        for (text, pattern) in
            [("prod-a", "prod-*"), ("prod-a", "prod-?"), ("abc", "*b*"), ("", "*")]
        {
            assert!(is_like(text, pattern), "{text} {pattern}");
        }
        for (text, pattern) in [("prod", "prod-*"), ("prod-ab", "prod-?"), ("abc", "*d"), ("a", "")]
        {
            assert!(!is_like(text, pattern), "{text} {pattern}");
        }
    }
}
