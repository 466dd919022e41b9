//! The algebra of requirements on labels.
//!
//! A requirement is a set of values: listed ones, or all but the listed ones, within bounds. `In`
//! and `DoesNotExist` are of the first kind, `NotIn`, `Exists` and comparisons of the second.
//!
//! Upstream: `pkg/scheduling/requirement.go`, `requirements.go` of kubernetes-sigs/karpenter.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use api_kube::karpenter::{NodeSelectorRequirement, labels};
use k8s_openapi::api::core::v1 as core;

/// Which values of one label are possible.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// All values but the listed ones.
    is_complement: bool,
    values: BTreeSet<Arc<str>>,
    at_least: Option<i64>,
    at_most: Option<i64>,
    /// How many values have to remain among the instance types in play.
    pub min_values: Option<u32>,
}

impl Requirement {
    /// `Exists`.
    pub fn any() -> Self {
        Self {
            is_complement: true,
            values: BTreeSet::new(),
            at_least: None,
            at_most: None,
            min_values: None,
        }
    }

    /// `DoesNotExist`.
    pub fn none() -> Self {
        Self { is_complement: false, ..Self::any() }
    }

    pub fn one(value: &str) -> Self {
        Self::of([value])
    }

    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        Self { values: values.into_iter().map(Arc::from).collect(), ..Self::none() }
    }

    /// From its operator; an unknown one, or a comparison without a number, matches nothing.
    pub fn new(operator: &str, values: &[String]) -> Self {
        let listed = || Self::of(values.iter().map(String::as_str));
        let number = || values.first().and_then(|it| it.parse::<i64>().ok());
        let bound = |least: Option<i64>, most: Option<i64>| {
            let it = Self { at_least: least, at_most: most, ..Self::any() };
            if least.is_none() && most.is_none() { Self::none() } else { it.checked() }
        };
        match operator {
            "In" => listed(),
            "NotIn" => Self { is_complement: true, ..listed() },
            "Exists" => Self::any(),
            "Gt" => bound(number().map(|it| it.saturating_add(1)), None),
            "Gte" => bound(number(), None),
            "Lt" => bound(None, number().map(|it| it.saturating_sub(1))),
            "Lte" => bound(None, number()),
            _ => Self::none(),
        }
    }

    pub fn has(&self, value: &str) -> bool {
        self.is_within(value) && self.values.contains(value) != self.is_complement
    }

    fn is_within(&self, value: &str) -> bool {
        if self.at_least.is_none() && self.at_most.is_none() {
            return true;
        }
        let Ok(number) = value.parse::<i64>() else { return false };
        self.at_least.is_none_or(|it| number >= it) && self.at_most.is_none_or(|it| number <= it)
    }

    /// Whether no value is possible.
    pub fn is_empty(&self) -> bool {
        !self.is_complement && self.values.is_empty()
    }

    /// Whether a node without the label will do: `NotIn`, `DoesNotExist`.
    pub fn allows_absence(&self) -> bool {
        match self.is_complement {
            true => !self.values.is_empty() && self.at_least.is_none() && self.at_most.is_none(),
            false => self.values.is_empty(),
        }
    }

    /// The listed values of `In`.
    pub fn listed(&self) -> Option<impl Iterator<Item = &Arc<str>>> {
        (!self.is_complement).then(|| self.values.iter())
    }

    /// The only value that is possible.
    pub fn only(&self) -> Option<&Arc<str>> {
        if self.is_complement || self.values.len() != 1 { None } else { self.values.first() }
    }

    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let at_least = self.at_least.max(other.at_least);
        let at_most = match (self.at_most, other.at_most) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let min_values = self.min_values.max(other.min_values);
        let mut both = Self {
            is_complement: self.is_complement && other.is_complement,
            values: BTreeSet::new(),
            at_least,
            at_most,
            min_values,
        };
        both.values = match (self.is_complement, other.is_complement) {
            (true, true) => self.values.union(&other.values).cloned().collect(),
            (false, true) => self.values.difference(&other.values).cloned().collect(),
            (true, false) => other.values.difference(&self.values).cloned().collect(),
            (false, false) => self.values.intersection(&other.values).cloned().collect(),
        };
        both.checked()
    }

    /// Bounds that cross leave nothing; listed values are cut to the bounds, which are then dropped.
    fn checked(mut self) -> Self {
        if let (Some(least), Some(most)) = (self.at_least, self.at_most)
            && least > most
        {
            return Self { min_values: self.min_values, ..Self::none() };
        }
        if !self.is_complement {
            let kept = self.values.iter().filter(|it| self.is_within(it)).cloned().collect();
            self = Self { values: kept, at_least: None, at_most: None, ..self };
        }
        self
    }

    /// A value that it allows, for a label that nothing else decides.
    pub fn example(&self) -> Option<String> {
        if let Some(value) = self.listed().and_then(|mut it| it.next()) {
            return Some(value.to_string());
        }
        if !self.is_complement || self.allows_absence() {
            return None;
        }
        let from = self.at_least.or(self.at_most.map(|it| it.min(0))).unwrap_or(0);
        let up = (from..=self.at_most.unwrap_or(i64::MAX)).take(self.values.len() + 1);
        up.map(|it| it.to_string()).find(|it| self.has(it))
    }

    /// As the API has it: one or more requirements that together mean the same.
    pub fn to_api(&self, key: &str) -> Vec<NodeSelectorRequirement> {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        let make = |operator: &str, values: Vec<String>| NodeSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values,
            min_values: self.min_values,
        };
        if !self.is_complement {
            let operator = if values.is_empty() { "DoesNotExist" } else { "In" };
            return vec![make(operator, values)];
        }
        let mut all = Vec::new();
        all.extend(self.at_least.map(|it| make("Gte", vec![it.to_string()])));
        all.extend(self.at_most.map(|it| make("Lte", vec![it.to_string()])));
        if !values.is_empty() {
            all.push(make("NotIn", values));
        } else if all.is_empty() {
            all.push(make("Exists", values));
        }
        all
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.to_api("").into_iter().map(|it| {
            let shown: Vec<&str> = it.values.iter().take(5).map(String::as_str).collect();
            let more = it.values.len().saturating_sub(5);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            match it.values.is_empty() {
                true => it.operator,
                false => format!("{} [{}{more}]", it.operator, shown.join(", ")),
            }
        });
        f.write_str(&parts.collect::<Vec<_>>().join(" and "))
    }
}

/// Requirements on several labels, all of which hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requirements(BTreeMap<Arc<str>, Requirement>);

impl Requirements {
    /// Adds one; older names of labels become today's.
    pub fn add(&mut self, key: &str, requirement: Requirement) {
        let key = stable(key);
        match self.0.get_mut(key) {
            Some(mine) => *mine = mine.and(&requirement),
            None => drop(self.0.insert(key.into(), requirement)),
        }
    }

    pub fn with(mut self, key: &str, requirement: Requirement) -> Self {
        self.add(key, requirement);
        self
    }

    pub fn add_all(&mut self, other: &Self) {
        for (key, requirement) in &other.0 {
            self.add(key, requirement.clone());
        }
    }

    /// Each label as `In` of its value.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut all = Self::default();
        for (key, value) in labels {
            all.add(key, Requirement::one(value));
        }
        all
    }

    pub fn from_api(list: &[NodeSelectorRequirement]) -> Self {
        let mut all = Self::default();
        for it in list {
            let mut requirement = Requirement::new(&it.operator, &it.values);
            requirement.min_values = it.min_values;
            all.add(&it.key, requirement);
        }
        all
    }

    /// The label expressions of one node selector term.
    pub fn from_term(term: &core::NodeSelectorTerm) -> Self {
        let mut all = Self::default();
        for it in term.match_expressions.iter().flatten() {
            let values = it.values.as_deref().unwrap_or_default();
            all.add(&it.key, Requirement::new(&it.operator, values));
        }
        all
    }

    pub fn to_api(&self) -> Vec<NodeSelectorRequirement> {
        self.0.iter().flat_map(|(key, it)| it.to_api(key)).collect()
    }

    pub fn get(&self, key: &str) -> Option<&Requirement> {
        self.0.get(key)
    }

    pub fn set(&mut self, key: &str, requirement: Requirement) {
        self.0.insert(key.into(), requirement);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Requirement)> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a node with exactly these labels will do.
    pub fn accept(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, requirement)| match labels.get(&**key) {
            Some(value) => requirement.has(value),
            None => requirement.allows_absence(),
        })
    }

    /// What keeps a node that is described by `self` from what `wanted` asks for: a label that it
    /// will not have, or values that do not meet.
    pub fn conflict<'a>(&self, wanted: &'a Self) -> Option<&'a Arc<str>> {
        let is_bad = |key: &str, want: &Requirement| match self.0.get(key) {
            None => !labels::WELL_KNOWN.contains(&key) && !want.allows_absence(),
            Some(have) => {
                have.and(want).is_empty() && !(have.allows_absence() && want.allows_absence())
            }
        };
        wanted.0.iter().find(|(key, want)| is_bad(key, want)).map(|(key, _)| key)
    }
}

/// What a label is called today.
pub fn stable(key: &str) -> &str {
    labels::ALIASES.iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| *new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(operator: &str, values: &[&str]) -> Requirement {
        Requirement::new(operator, &values.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn each_operator_allows_what_it_says() {
        for (operator, values, allowed, refused) in [
            ("In", vec!["a", "b"], "a", "c"),
            ("NotIn", vec!["a"], "b", "a"),
            ("Gt", vec!["4"], "5", "4"),
            ("Gte", vec!["4"], "4", "3"),
            ("Lt", vec!["4"], "3", "4"),
            ("Lte", vec!["4"], "4", "x"),
        ] {
            let it = requirement(operator, &values);
            assert!(it.has(allowed) && !it.has(refused), "{operator}");
        }
        assert!(requirement("Exists", &[]).has("a") && !requirement("DoesNotExist", &[]).has("a"));
    }

    #[test]
    fn bounds_that_cross_leave_nothing() {
        let none = requirement("Gt", &["5"]).and(&requirement("Lt", &["5"]));
        assert!(none.is_empty());
        let cut = requirement("In", &["1", "7", "x"]).and(&requirement("Gt", &["5"]));
        assert_eq!(cut, requirement("In", &["7"]));
    }

    #[test]
    fn a_custom_label_has_to_be_defined_and_a_well_known_one_need_not() {
        let node = Requirements::default().with("team", requirement("In", &["a"]));
        let wants = |key: &str, it: Requirement| Requirements::default().with(key, it);
        assert!(node.conflict(&wants("other", requirement("In", &["a"]))).is_some());
        assert!(node.conflict(&wants("other", requirement("NotIn", &["a"]))).is_none());
        assert!(node.conflict(&wants(labels::ZONE, requirement("In", &["a"]))).is_none());
        assert!(node.conflict(&wants("team", requirement("In", &["b"]))).is_some());
    }

    #[test]
    fn older_names_are_todays() {
        let old = "failure-domain.beta.kubernetes.io/zone";
        let it = Requirements::default().with(old, Requirement::one("a"));
        assert!(it.get(labels::ZONE).is_some());
    }

    #[test]
    fn what_is_written_is_read_again() {
        for it in [
            requirement("In", &["a", "b"]),
            requirement("NotIn", &["a"]),
            requirement("Exists", &[]),
            requirement("DoesNotExist", &[]),
            requirement("Gt", &["4"]).and(&requirement("Lt", &["9"])),
            requirement("Gt", &["4"]).and(&requirement("NotIn", &["7"])),
        ] {
            let all = Requirements::from_api(&it.to_api("k"));
            assert_eq!(all.get("k"), Some(&it));
        }
    }

    #[test]
    fn an_example_is_allowed() {
        for (it, expected) in [
            (requirement("In", &["b"]), Some("b")),
            (requirement("Gt", &["4"]), Some("5")),
            (requirement("Exists", &[]), Some("0")),
            (requirement("NotIn", &["0"]), None),
            (requirement("DoesNotExist", &[]), None),
        ] {
            assert_eq!(it.example().as_deref(), expected);
        }
    }
}
