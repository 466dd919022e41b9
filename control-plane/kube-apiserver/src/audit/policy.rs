//! What of a request is written down.
//!
//! Upstream: the `Policy` of audit.k8s.io/v1, k8s.io/apiserver/pkg/audit/policy.

use serde::Deserialize;

use super::Stage;
use crate::{
    matching::{self, Stars, is_in},
    request::{RequestInfo, UserInfo},
};

/// How much of a request is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// The first rule that fits says how much. Where none does, nothing is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    api_version: String,
    kind: String,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a policy is none.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("the audit policy cannot be read: {0}")]
    Malformed(String),
    #[error("the audit policy is a {0}, not a Policy of audit.k8s.io/v1")]
    Kind(String),
    #[error("the audit policy has no rules: nothing would be written")]
    Empty,
}

/// What a policy makes of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(super) level: Level,
    pub(super) omitted: Vec<Stage>,
    pub(super) omits_managed_fields: bool,
}

impl Policy {
    /// From YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = serde_saphyr::from_str(text)
            .map_err(|error| PolicyError::Malformed(error.to_string()))?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(PolicyError::Kind(format!("{} of {}", policy.kind, policy.api_version)));
        }
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        Ok(policy)
    }

    pub(super) fn of(&self, user: &UserInfo, info: &RequestInfo) -> Verdict {
        let Some(rule) = self.rules.iter().find(|it| it.fits(user, info)) else {
            return Verdict::default();
        };
        let omitted = self.omit_stages.iter().chain(&rule.omit_stages).copied().collect();
        let omits_managed_fields = rule.omit_managed_fields.unwrap_or(self.omit_managed_fields);
        Verdict { level: rule.level, omitted, omits_managed_fields }
    }
}

impl Rule {
    fn fits(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        let is_in_group =
            self.user_groups.is_empty() || self.user_groups.iter().any(|it| user.is_in(it));
        is_in(&self.users, &user.username)
            && is_in_group
            && is_in(&self.verbs, &info.verb)
            && self.is_about(info)
    }

    fn is_about(&self, info: &RequestInfo) -> bool {
        let has_places = !self.namespaces.is_empty() || !self.resources.is_empty();
        if !info.is_resource {
            return !has_places && (self.paths.is_empty() || self.names_path(&info.path));
        }
        if !has_places {
            return self.paths.is_empty();
        }
        is_in(&self.namespaces, &info.namespace)
            && (self.resources.is_empty() || self.resources.iter().any(|it| it.has(info)))
    }

    fn names_path(&self, path: &str) -> bool {
        self.paths.iter().any(|it| matching::path(it, path))
    }
}

impl Resources {
    fn has(&self, info: &RequestInfo) -> bool {
        let is_named = |it: &String| matching::resource(it, info, Stars::Both);
        self.group == info.group
            && (self.resources.is_empty() || self.resources.iter().any(is_named))
            && is_in(&self.resource_names, &info.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
  resources: [{group: '', resources: [endpoints, services]}]
- level: Metadata
  resources: [{group: '', resources: [secrets, pods/log, 'pods/*']}]
- level: RequestResponse
  omitStages: [ResponseStarted]
  namespaces: [kube-system]
  resources: [{group: '', resources: [configmaps], resourceNames: [one]}]
- level: None
  userGroups: [system:authenticated]
  nonResourceURLs: ['/api*', /version]
- level: Request
  resources: [{group: apps}]
";

    fn level(user: &str, method: http::Method, path: &str, query: &str) -> Level {
        let policy = Policy::parse(POLICY).unwrap();
        policy.of(&UserInfo::new(user, &[]), &RequestInfo::parse(&method, path, query)).level
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let get = |user: &str, path: &str| level(user, http::Method::GET, path, "");
        let watch = |user| level(user, http::Method::GET, "/api/v1/services", "watch=1");
        assert_eq!(watch("system:kube-proxy"), Level::None);
        assert_eq!(get("eve", "/api/v1/namespaces/a/secrets/s"), Level::Metadata);
        assert_eq!(get("eve", "/api/v1/namespaces/a/pods/p/status"), Level::Metadata);
        let maps = "/api/v1/namespaces/kube-system/configmaps";
        assert_eq!(get("eve", &format!("{maps}/one")), Level::RequestResponse);
        assert_eq!(get("eve", &format!("{maps}/two")), Level::None);
        assert_eq!(get("eve", "/apis"), Level::None);
        assert_eq!(get("eve", "/apis/apps/v1/deployments"), Level::Request);
    }

    #[test]
    fn stages_are_left_out_by_the_policy_and_by_the_rule() {
        let policy = Policy::parse(POLICY).unwrap();
        let path = "/api/v1/namespaces/kube-system/configmaps/one";
        let info = RequestInfo::parse(&http::Method::GET, path, "");
        let omitted = policy.of(&UserInfo::new("eve", &[]), &info).omitted;
        assert_eq!(omitted, [Stage::RequestReceived, Stage::ResponseStarted]);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in [
            "apiVersion: v1\nkind: Policy\nrules: [{level: None}]",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Some}]",
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, user: [a]}]",
        ] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
    }
}
