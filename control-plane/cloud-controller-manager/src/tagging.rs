//! Tags the instances of Nodes, and labels each Node with a checksum of the tags that its instance has.
//!
//! EKS tags instances with `aws:eks:cluster-name`: the label `k8s.io/cloud-provider-aws` of its Nodes
//! comes from here. A Node that carries the checksum is not looked at again; the instance of a Node
//! that was deleted loses the tags.
//!
//! Upstream: `pkg/controllers/tagging` of cloud-provider-aws. Deviation: a call that fails is tried
//! again without end, not nine times.

use std::collections::BTreeMap;

use aws_ec2::{
    common::TagInput,
    tag::{CreateTags, CreateTagsRequest, DeleteTags, DeleteTagsRequest},
};
use aws_wire::{CallError, Client as Ec2};
use controller::{Action, ApplyError, Change, Key, Queue, Store};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use md5::{Digest, Md5};
use serde_json::json;

use crate::{instance, plan};

const LABEL: &str = "k8s.io/cloud-provider-aws";
/// Instances worked on at once.
const WORKERS: usize = 4;

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Tag(Key),
    /// Of this instance, whose Node is gone.
    Untag(String),
}

pub(crate) struct Tagging {
    client: Client,
    ec2: Ec2,
    nodes: Store<Node>,
    tags: BTreeMap<String, String>,
    checksum: String,
}

impl Tagging {
    pub(crate) fn new(
        client: Client,
        ec2: Ec2,
        nodes: Store<Node>,
        tags: BTreeMap<String, String>,
    ) -> Self {
        let checksum = checksum(&tags);
        Self { client, ec2, nodes, tags, checksum }
    }

    /// For ever; without tags there is nothing to do.
    pub(crate) async fn run(self) {
        if self.tags.is_empty() {
            return std::future::pending().await;
        }
        let queue = Queue::new();
        let (feed, checksum) = (queue.clone(), self.checksum.clone());
        self.nodes.subscribe(move |change| {
            if let Some(item) = item(change, &checksum) {
                feed.add(item);
            }
        });
        controller::run("tagging", queue, WORKERS, |item| self.reconcile(item)).await;
    }

    async fn reconcile(&self, item: Item) -> Result<Action, ApplyError> {
        match item {
            Item::Tag(key) => self.tag(&key).await?,
            Item::Untag(instance) => {
                let request = DeleteTagsRequest {
                    resources: vec![instance],
                    tags: inputs(&self.tags),
                    ..Default::default()
                };
                unless_gone(self.ec2.call::<DeleteTags>(request).await)?;
            }
        }
        Ok(Action::Done)
    }

    async fn tag(&self, key: &Key) -> Result<(), ApplyError> {
        let node = self.nodes.get(key).filter(|it| is_required(it, &self.checksum));
        let Some(node) = node else { return Ok(()) };
        let Some(instance) = instance_of(&node) else { return Ok(()) };
        let request = CreateTagsRequest {
            resources: vec![instance],
            tags: inputs(&self.tags),
            ..Default::default()
        };
        if unless_gone(self.ec2.call::<CreateTags>(request).await)?.is_none() {
            return Ok(());
        }
        let (api, name) = (Api::<Node>::all(self.client.clone()), node.name_any());
        let patch = json!({ "metadata": { "labels": { LABEL: self.checksum } } });
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).map_err(|it| ApplyError::new::<Node>("label", &name, it))
    }
}

/// An instance that is gone needs nothing.
fn unless_gone<T>(result: Result<T, CallError>) -> Result<Option<T>, ApplyError> {
    match result {
        Ok(made) => Ok(Some(made)),
        Err(error) if error.is("InvalidInstanceID.NotFound") => Ok(None),
        Err(error) => Err(ApplyError::other(telemetry::chain(&error).to_string())),
    }
}

fn item(change: &Change<Node>, checksum: &str) -> Option<Item> {
    match (&change.old, &change.new) {
        (_, Some(node)) => is_required(node, checksum).then(|| Item::Tag(Key::of(&**node))),
        (Some(node), None) => instance_of(node).map(Item::Untag),
        (None, None) => None,
    }
}

fn is_required(node: &Node, checksum: &str) -> bool {
    !plan::is_foreign(node) && node.labels().get(LABEL).is_none_or(|it| it != checksum)
}

fn instance_of(node: &Node) -> Option<String> {
    let provider_id = node.spec.as_ref()?.provider_id.as_deref()?;
    instance::id_of(provider_id).map(str::to_owned)
}

fn inputs(tags: &BTreeMap<String, String>) -> Vec<TagInput> {
    let input = |(key, value): (&String, &String)| TagInput {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(input).collect()
}

/// MD5 of `key=value` in the order of the text, with commas between.
fn checksum(tags: &BTreeMap<String, String>) -> String {
    let mut lines: Vec<_> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    lines.sort();
    hex::encode(Md5::digest(lines.join(",")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn node(label: Option<&str>) -> Node {
        serde_json::from_value(json!({
            "metadata": {
                "name": "n",
                "labels": label.map(|it| json!({ LABEL: it })).unwrap_or_default(),
            },
            "spec": { "providerID": "aws:///us-east-1a/i-0abc" },
        }))
        .unwrap()
    }

    fn change(old: Option<Node>, new: Option<Node>) -> Change<Node> {
        Change { key: Key::cluster("n"), old: old.map(Arc::new), new: new.map(Arc::new) }
    }

    #[test]
    fn the_checksum_is_the_one_that_real_clusters_show() {
        // As seen on nodes of EKS clusters of these names.
        for (cluster, label) in [
            ("myeks", "5553ae84a0d29114870f67bbabd07d44"),
            ("roboshop", "d573a2d478e01899d878f9c9cc3fcc2a"),
        ] {
            let tags = [("aws:eks:cluster-name".to_owned(), cluster.to_owned())].into();
            assert_eq!(checksum(&tags), label, "{cluster}");
        }
    }

    #[test]
    fn a_node_is_tagged_until_it_carries_the_checksum_and_untagged_when_it_goes() {
        let tag = Some(Item::Tag(Key::cluster("n")));
        assert_eq!(item(&change(None, Some(node(None))), "sum"), tag);
        assert_eq!(item(&change(None, Some(node(Some("old")))), "sum"), tag);
        assert_eq!(item(&change(None, Some(node(Some("sum")))), "sum"), None);
        let gone = change(Some(node(Some("sum"))), None);
        assert_eq!(item(&gone, "sum"), Some(Item::Untag("i-0abc".to_owned())));
        let mut hybrid = node(None);
        hybrid.spec.as_mut().unwrap().provider_id = Some("eks-hybrid:///us-east-1/x/mi-1".into());
        assert_eq!(item(&change(None, Some(hybrid)), "sum"), None);
    }
}
