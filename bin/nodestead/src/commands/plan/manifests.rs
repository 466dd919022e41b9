//! Manifests as the objects that they would become: a Deployment is its pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context;
use api_kube::karpenter::{Ec2NodeClass, NodeClaim, NodeOverlay, NodePool};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1 as core,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use karpenter_core::Snapshot;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::amounts;
use crate::failure::Failure;

/// More pods than these are no plan but a slip of the keyboard.
const MOST_PODS: i32 = 200_000;

/// What manifests say, beside what the core needs.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) snapshot: Snapshot,
    pub(super) classes: Vec<Ec2NodeClass>,
    pub(super) overlays: Vec<NodeOverlay>,
    /// Kinds that do not matter for nodes.
    pub(super) skipped: BTreeMap<String, usize>,
}

/// Reads files, and folders' `.yaml`, `.yml` and `.json`; `-` is the standard input.
pub(super) fn read(paths: &[std::path::PathBuf]) -> anyhow::Result<Manifests> {
    let mut manifests = Manifests::default();
    let mut objects = Vec::new();
    for path in paths {
        for (name, text) in texts(path)? {
            let found = objects_of(&text).with_context(|| format!("cannot read `{name}`"))?;
            objects.extend(found.into_iter().map(|it| (name.clone(), it)));
        }
    }
    for (name, object) in last_of_each(objects, |it| &it.1) {
        manifests.add(object).with_context(|| format!("cannot read `{name}`"))?;
    }
    Ok(manifests)
}

/// The objects of a YAML stream, those of Lists among them.
fn objects_of(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in documents(text) {
        let value: Value = serde_saphyr::from_str(&document).context("the manifest is not YAML")?;
        match value["kind"].as_str() {
            Some("List") => found.extend(value["items"].as_array().cloned().unwrap_or_default()),
            _ => found.push(value),
        }
    }
    found.retain(|it| !it.is_null());
    Ok(found)
}

/// Of objects that have one name the last, as `kubectl apply` would have it.
fn last_of_each<T>(objects: Vec<T>, object: impl Fn(&T) -> &Value) -> Vec<T> {
    let key = |it: &T| {
        let of = object(it);
        let part = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        let namespace = of["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        (part(&of["kind"]), namespace, part(&of["metadata"]["name"]))
    };
    let mut seen = BTreeSet::new();
    // What has no name is another object each time.
    let mut is_last = |it: &T| object(it)["metadata"]["name"].is_null() || seen.insert(key(it));
    let mut last: Vec<T> = objects.into_iter().rev().filter(|it| is_last(it)).collect();
    last.reverse();
    last
}

fn texts(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let unreadable = |path: &Path, error: std::io::Error| {
        Failure::new(
            format!("cannot read `{}` ({error})", path.display()),
            "name a manifest or a folder of manifests",
        )
    };
    if path == Path::new("-") {
        let text = std::io::read_to_string(std::io::stdin())?;
        return Ok(vec![("the standard input".to_owned(), text)]);
    }
    if !path.is_dir() {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        return Ok(vec![(path.display().to_string(), text)]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, error))?;
    let mut files: Vec<_> = entries.filter_map(|it| Some(it.ok()?.path())).collect();
    files.sort();
    let is_manifest = |it: &std::path::PathBuf| {
        let extension = it.extension().and_then(|it| it.to_str());
        it.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
    };
    let read = files.into_iter().filter(is_manifest).map(|file| {
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, error))?;
        Ok((file.display().to_string(), text))
    });
    read.collect()
}

impl Manifests {
    fn add(&mut self, object: Value) -> anyhow::Result<()> {
        let kind = object["kind"].as_str().context("an object without a kind")?.to_owned();
        let snapshot = &mut self.snapshot;
        match kind.as_str() {
            "Pod" => snapshot.pods.push(named(parsed(object)?)),
            "Deployment" => {
                let it: Deployment = parsed(object)?;
                let spec = it.spec.unwrap_or_default();
                self.pods("ReplicaSet", &it.metadata, spec.replicas, &spec.template)?;
            }
            "ReplicaSet" => {
                let it: ReplicaSet = parsed(object)?;
                let spec = it.spec.unwrap_or_default();
                let template = spec.template.unwrap_or_default();
                self.pods("ReplicaSet", &it.metadata, spec.replicas, &template)?;
            }
            "StatefulSet" => {
                let it: StatefulSet = parsed(object)?;
                let spec = it.spec.unwrap_or_default();
                self.pods("StatefulSet", &it.metadata, spec.replicas, &spec.template)?;
            }
            "Job" => {
                let it: Job = parsed(object)?;
                let spec = it.spec.unwrap_or_default();
                let most = spec.completions.unwrap_or(i32::MAX);
                let at_once = spec.parallelism.unwrap_or(1).min(most);
                self.pods("Job", &it.metadata, Some(at_once), &spec.template)?;
            }
            "DaemonSet" => snapshot.daemon_sets.push(parsed::<DaemonSet>(object)?),
            "Node" => snapshot.nodes.push(parsed(object)?),
            "Namespace" => snapshot.namespaces.push(parsed(object)?),
            "PersistentVolume" => snapshot.volumes.push(parsed(object)?),
            "PersistentVolumeClaim" => {
                let mut it: core::PersistentVolumeClaim = parsed(object)?;
                in_default(&mut it.metadata);
                snapshot.volume_claims.push(it);
            }
            "StorageClass" => snapshot.storage_classes.push(parsed(object)?),
            "CSINode" => snapshot.csi_nodes.push(parsed(object)?),
            "PodDisruptionBudget" => {
                let mut it: k8s_openapi::api::policy::v1::PodDisruptionBudget = parsed(object)?;
                in_default(&mut it.metadata);
                snapshot.budgets.push(it);
            }
            "NodePool" => snapshot.pools.push(parsed::<NodePool>(object)?),
            "NodeClaim" => snapshot.claims.push(parsed::<NodeClaim>(object)?),
            "EC2NodeClass" => self.classes.push(parsed(object)?),
            "NodeOverlay" => self.overlays.push(parsed(object)?),
            _ => *self.skipped.entry(kind).or_default() += 1,
        }
        Ok(())
    }

    /// The pods of a controller.
    fn pods(
        &mut self,
        kind: &str,
        of: &ObjectMeta,
        replicas: Option<i32>,
        template: &core::PodTemplateSpec,
    ) -> anyhow::Result<()> {
        let replicas = replicas.unwrap_or(1);
        let name = of.name.as_deref().context("a workload without a name")?;
        let most = usize::try_from(MOST_PODS).unwrap_or(usize::MAX);
        let wanted = usize::try_from(replicas)
            .with_context(|| format!("{kind} `{name}`: {replicas} pods are less than none"))?;
        if self.snapshot.pods.len() + wanted > most {
            let what = format!("`{name}` asks for {replicas} pods; plans end at {MOST_PODS}");
            return Err(Failure::new(what, "plan a part of it").into());
        }
        let namespace = of.namespace.clone().unwrap_or_else(|| "default".to_owned());
        for index in 0..replicas {
            let mut metadata = template.metadata.clone().unwrap_or_default();
            metadata.namespace = Some(namespace.clone());
            metadata.name = Some(format!("{name}-{index}"));
            metadata.uid = Some(format!("{namespace}/{name}-{index:06}"));
            metadata.owner_references = Some(vec![OwnerReference {
                kind: kind.to_owned(),
                name: name.to_owned(),
                controller: Some(true),
                ..Default::default()
            }]);
            let spec = template.spec.clone();
            self.snapshot.pods.push(core::Pod { metadata, spec, status: None });
        }
        Ok(())
    }
}

fn parsed<T: DeserializeOwned>(object: Value) -> anyhow::Result<T> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    amounts::check(&object).with_context(|| format!("{kind} `{name}` is not valid"))?;
    serde_json::from_value(object).with_context(|| format!("{kind} `{name}` is not well-formed"))
}

fn in_default(metadata: &mut ObjectMeta) {
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
}

fn named(mut pod: core::Pod) -> core::Pod {
    in_default(&mut pod.metadata);
    if pod.metadata.uid.is_none() {
        let metadata = &pod.metadata;
        let part = |it: &Option<String>| it.clone().unwrap_or_default();
        let uid = format!("{}/{}", part(&metadata.namespace), part(&metadata.name));
        pod.metadata.uid = Some(uid);
    }
    pod
}

/// The documents of a YAML stream.
fn documents(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in text.lines() {
        if line == "---" || line.starts_with("--- ") {
            found.push(String::new());
        } else if let Some(last) = found.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let has_content = |it: &String| {
        it.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    found.into_iter().filter(has_content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests_of(text: &str) -> anyhow::Result<Manifests> {
        let mut manifests = Manifests::default();
        last_of_each(objects_of(text)?, |it| it)
            .into_iter()
            .try_for_each(|it| manifests.add(it))?;
        Ok(manifests)
    }

    #[test]
    fn workloads_become_their_pods() {
        let text = "# nothing\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n\
                    spec: {replicas: 3, template: {metadata: {labels: {app: web}}, spec: {containers: \
                    [{name: c}]}}}\n---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: \
                    {parallelism: 5, completions: 2, template: {spec: {containers: [{name: c}]}}}\n\
                    --- \nkind: Service\nmetadata: {name: s}\n";
        let manifests = manifests_of(text).unwrap();
        assert_eq!(manifests.snapshot.pods.len(), 5);
        assert_eq!(manifests.snapshot.pods[0].metadata.namespace.as_deref(), Some("default"));
        assert_eq!(manifests.skipped["Service"], 1);
    }

    #[test]
    fn what_cannot_be_read_says_which_object() {
        let text = "kind: Deployment\nmetadata: {name: web}\nspec: {replicas: many}\n";
        let error = manifests_of(text).unwrap_err();
        assert!(format!("{error:#}").contains("Deployment `web`"), "{error:#}");
        let error = manifests_of(&text.replace("many", "-4")).unwrap_err();
        assert!(format!("{error:#}").contains("-4 pods"), "{error:#}");
    }

    #[test]
    fn amounts_of_kinds_that_plans_do_not_read_are_nobodys_business() {
        let of = |kind: &str| {
            let text =
                format!("kind: {kind}\nmetadata: {{name: a}}\nspec: {{limits: {{cpu: ten}}}}\n");
            manifests_of(&text).map(|it| it.skipped.len())
        };
        assert_eq!(of("HelmRelease").unwrap(), 1);
        assert!(format!("{:#}", of("NodePool").unwrap_err()).contains("NodePool `a`"));
    }

    #[test]
    fn an_object_that_is_said_twice_is_there_once_as_it_was_said_last() {
        let pod = |name: &str, image: &str| {
            format!(
                "---\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
            )
        };
        let text = [pod("a", "one"), pod("b", "one"), pod("a", "two")].concat();
        let pods = manifests_of(&text).unwrap().snapshot.pods;
        let images: Vec<_> =
            pods.iter().filter_map(|it| it.spec.as_ref()?.containers[0].image.as_deref()).collect();
        assert_eq!(images, ["one", "two"]);
    }
}
