//! What EKS's operations are decided on: resources with their tags, and what is asked for.
//!
//! Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon Elastic
//! Kubernetes Service".

use std::collections::BTreeMap;

use region_gateway::Target;

use crate::Eks;

type Tags = BTreeMap<String, String>;

fn pairs(tags: &Tags) -> impl Iterator<Item = (&str, &str)> {
    tags.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// A resource that has tags.
pub(crate) fn tagged(arn: String, tags: &Tags) -> Target {
    Target::resource(arn).with_tags("aws:ResourceTag", pairs(tags))
}

/// With the tags that the request gives.
pub(crate) fn tagging(target: Target, tags: &Tags) -> Target {
    target.with_tags("aws:RequestTag", pairs(tags))
}

/// A condition key that a request may leave out.
pub(crate) trait WithSome {
    fn with_some(self, key: &str, value: Option<String>) -> Self;
    /// A list without values is not there.
    fn with_all(self, key: &str, values: &[String]) -> Self;
}

impl WithSome for Target {
    fn with_some(self, key: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.with(key, [value]),
            None => self,
        }
    }

    fn with_all(self, key: &str, values: &[String]) -> Self {
        if values.is_empty() { self } else { self.with(key, values.iter().cloned()) }
    }
}

impl Eks {
    pub(crate) fn cluster_target(&self, name: &str) -> Vec<Target> {
        let known = self.cluster(name);
        let none = Tags::new();
        let tags = known.as_ref().map_or(&none, |it| &it.tags);
        vec![tagged(self.arn(&format!("cluster/{name}")), tags)]
    }

    /// The cluster for what is made in it, with tags of its own: `made` is its ARN's part below the
    /// kind and the cluster, with `*` for what EKS chooses.
    pub(crate) fn tagging_target(
        &self,
        cluster: &str,
        (kind, made): (&str, &str),
        tags: &Tags,
    ) -> Vec<Target> {
        let known = self.cluster(cluster);
        let none = Tags::new();
        let its = known.as_ref().map_or(&none, |it| &it.tags);
        let target = tagged(self.arn(&format!("cluster/{cluster}")), its);
        let arn = self.arn(&format!("{kind}/{cluster}/{made}"));
        tagging(target, tags).and_tagging("eks:TagResource", arn)
    }
}
