//! Custom networking: the ENIConfig that says in which subnet, and with which security groups, this
//! node's further interfaces are made.
//!
//! The node names it, by the first of: label `vpc.amazonaws.com/externalEniConfig`, the annotation
//! and the label that the environment defines (both `k8s.amazonaws.com/eniConfig`; commonly the label
//! is `topology.kubernetes.io/zone`), and `default`.
//!
//! Upstream: `pkg/eniconfig`, CRD `eniconfigs.crd.k8s.amazonaws.com/v1alpha1`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::watcher::{self, Event, watcher},
};
use serde::Deserialize;
use tracing::{info, warn};

use crate::{config::Config, ipamd::Ipamd};

const EXTERNAL_LABEL: &str = "vpc.amazonaws.com/externalEniConfig";
const DEFAULT: &str = "default";
/// How long to wait before a watch that failed is begun again.
const PAUSE: Duration = Duration::from_secs(1);

/// `spec` of an ENIConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EniConfigSpec {
    pub subnet: String,
    /// Empty: those of the primary interface.
    pub security_groups: Vec<String>,
}

/// What this node is to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub name: String,
    /// `None`: there is no such ENIConfig.
    pub spec: Option<EniConfigSpec>,
}

/// The name of the node's ENIConfig.
pub fn name_of(
    config: &Config,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> String {
    let named = labels
        .get(EXTERNAL_LABEL)
        .or_else(|| annotations.get(&config.eni_config_annotation))
        .or_else(|| labels.get(&config.eni_config_label));
    named.cloned().unwrap_or_else(|| DEFAULT.to_owned())
}

/// Keeps ipamd told of the ENIConfig to use, until it is dropped.
pub async fn watch(client: Client, ipamd: Arc<Ipamd>, node_name: String) {
    let kind = GroupVersionKind::gvk("crd.k8s.amazonaws.com", "v1alpha1", "ENIConfig");
    let resource = ApiResource::from_gvk_with_plural(&kind, "eniconfigs");
    let configs = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let mut nodes = std::pin::pin!(watcher::watch_object(Api::<Node>::all(client), &node_name));
    let mut configs = std::pin::pin!(watcher(configs, watcher::Config::default()));
    let mut known = Known::default();
    loop {
        let failure = tokio::select! {
            Some(node) = nodes.next() => match node {
                Ok(node) => { known.learn_node(&ipamd.config(), node.as_ref()); None }
                Err(error) => Some(error),
            },
            Some(event) = configs.next() => match event {
                Ok(event) => { known.learn_config(event); None }
                Err(error) => Some(error),
            },
            else => return,
        };
        if let Some(error) = failure {
            warn!(error = %telemetry::chain(&error), "watching ENIConfigs failed");
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(chosen) = known.chosen() {
            ipamd.learn_eni_config(chosen);
        }
    }
}

/// What the API server said so far.
#[derive(Debug, Default)]
struct Known {
    name: Option<String>,
    specs: BTreeMap<String, EniConfigSpec>,
    /// While a list is read: what it has had so far.
    listing: Option<BTreeMap<String, EniConfigSpec>>,
    is_listed: bool,
}

impl Known {
    fn learn_node(&mut self, config: &Config, node: Option<&Node>) {
        let Some(node) = node else { return };
        let name = name_of(config, node.labels(), node.annotations());
        if self.name.as_ref() != Some(&name) {
            info!(name, "the node's ENIConfig");
        }
        self.name = Some(name);
    }

    fn learn_config(&mut self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.listing = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let listing = self.listing.get_or_insert_default();
                listing.extend(read(&object));
            }
            Event::InitDone => {
                self.specs = self.listing.take().unwrap_or_default();
                self.is_listed = true;
            }
            Event::Apply(object) => {
                self.specs.remove(&object.name_any());
                self.specs.extend(read(&object));
            }
            Event::Delete(object) => {
                self.specs.remove(&object.name_any());
            }
        }
    }

    /// `None` while the node or the ENIConfigs are not known.
    fn chosen(&self) -> Option<Chosen> {
        let name = self.name.clone().filter(|_| self.is_listed)?;
        Some(Chosen { spec: self.specs.get(&name).cloned(), name })
    }
}

/// One without a readable subnet is as good as none.
fn read(object: &DynamicObject) -> Option<(String, EniConfigSpec)> {
    let name = object.name_any();
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    match serde_json::from_value::<EniConfigSpec>(spec) {
        Ok(spec) if !spec.subnet.is_empty() => Some((name, spec)),
        Ok(_) => {
            warn!(name, "the ENIConfig names no subnet");
            None
        }
        Err(error) => {
            warn!(name, %error, "the ENIConfig cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let get = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Config::from_environment(get).unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_node_names_its_config_by_external_label_annotation_label_or_not_at_all() {
        let zone = "topology.kubernetes.io/zone";
        let config = config(&[("ENI_CONFIG_LABEL_DEF", zone)]);
        let annotation = ("k8s.amazonaws.com/eniConfig", "annotated");
        let labels = [(zone, "us-east-1a"), (EXTERNAL_LABEL, "external")];
        let name = |labels: &[(&str, &str)], annotations: &[(&str, &str)]| {
            name_of(&config, &map(labels), &map(annotations))
        };
        assert_eq!(name(&labels, &[annotation]), "external");
        assert_eq!(name(&labels[..1], &[annotation]), "annotated");
        assert_eq!(name(&labels[..1], &[]), "us-east-1a");
        assert_eq!(name(&[("k8s.amazonaws.com/eniConfig", "not-the-label")], &[]), "default");
    }

    fn object(name: &str, spec: serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
    }

    #[test]
    fn nothing_is_chosen_before_the_list_is_whole_and_a_deleted_config_is_gone() {
        let mut known = Known { name: Some("a".into()), ..Known::default() };
        known.learn_config(Event::Init);
        let spec = json!({ "subnet": "subnet-1", "securityGroups": ["sg-1"] });
        known.learn_config(Event::InitApply(object("a", spec.clone())));
        assert_eq!(known.chosen(), None);
        known.learn_config(Event::InitDone);
        let chosen = known.chosen().unwrap().spec.unwrap();
        assert_eq!((chosen.subnet.as_str(), chosen.security_groups.len()), ("subnet-1", 1));
        known.learn_config(Event::Apply(object("a", json!({ "securityGroups": ["sg-1"] }))));
        assert_eq!(known.chosen().unwrap().spec, None);
        known.learn_config(Event::Apply(object("a", spec.clone())));
        known.learn_config(Event::Delete(object("a", spec)));
        assert_eq!(known.chosen(), Some(Chosen { name: "a".into(), spec: None }));
    }
}
