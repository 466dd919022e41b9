//! The files of volumes that are made from API objects.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIVolumeFile, KeyToPath, Pod,
    ProjectedVolumeSource, SecretProjection, SecretVolumeSource, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};

use super::{MountVolumeError, Volumes, atomic, ownership::Group};
use crate::{
    downward::{self, Facts},
    objects::{Data, ObjectKind},
    pod::{Kind, PodExt},
};

const DEFAULT_MODE: i32 = 0o644;
/// Of a token that belongs to one user or group.
const PRIVATE_MODE: i32 = 0o600;

#[derive(Default)]
pub(super) struct Plugin {
    pub name: &'static str,
    /// Kept off the disk.
    pub is_secret: bool,
}

pub(super) fn plugin(volume: &Volume) -> Option<Plugin> {
    let (name, is_secret) = if volume.config_map.is_some() {
        ("configmap", false)
    } else if volume.secret.is_some() {
        ("secret", true)
    } else if volume.downward_api.is_some() {
        ("downward-api", true)
    } else if volume.projected.is_some() {
        ("projected", true)
    } else {
        return None;
    };
    Some(Plugin { name, is_secret })
}

#[derive(Default)]
pub(super) struct Made {
    pub files: atomic::Files,
    pub refresh_at: Option<Timestamp>,
}

pub(super) struct Maker<'a> {
    pub volumes: &'a Volumes,
    pub pod: &'a Pod,
    pub facts: &'a Facts,
}

impl Maker<'_> {
    pub(super) async fn make(&self, volume: &Volume) -> Result<Made, MountVolumeError> {
        let mut made = Made::default();
        if let Some(source) = &volume.config_map {
            self.config_map(source, &mut made).await?;
        } else if let Some(source) = &volume.secret {
            self.secret(source, &mut made).await?;
        } else if let Some(source) = &volume.downward_api {
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            self.downward(source.items.as_deref().unwrap_or_default(), mode, &mut made)?;
        } else if let Some(source) = &volume.projected {
            self.projected(source, &mut made).await?;
        }
        Ok(made)
    }

    async fn config_map(
        &self,
        source: &ConfigMapVolumeSource,
        made: &mut Made,
    ) -> Result<(), MountVolumeError> {
        let from = From {
            kind: ObjectKind::ConfigMap,
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional,
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
        };
        self.object(from, made).await
    }

    async fn secret(
        &self,
        source: &SecretVolumeSource,
        made: &mut Made,
    ) -> Result<(), MountVolumeError> {
        let from = From {
            kind: ObjectKind::Secret,
            name: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_deref(),
            optional: source.optional,
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
        };
        self.object(from, made).await
    }

    async fn object(&self, from: From<'_>, made: &mut Made) -> Result<(), MountVolumeError> {
        let objects = &self.volumes.objects;
        let found = objects.find(from.kind, self.pod.namespace(), from.name).await;
        let is_optional = from.optional == Some(true);
        match found.map_err(MountVolumeError::Object)? {
            Some(data) => add_items(&data, &from, made),
            None if is_optional => Ok(()),
            None => Err(MountVolumeError::Object(crate::objects::ReadObjectError::NotFound {
                kind: if from.kind == ObjectKind::Secret { "secret" } else { "configmap" },
                name: from.name.to_owned(),
            })),
        }
    }

    fn downward(
        &self,
        items: &[DownwardAPIVolumeFile],
        default_mode: i32,
        made: &mut Made,
    ) -> Result<(), MountVolumeError> {
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => downward::field(self.pod, field, self.facts),
                (None, Some(resource)) => downward::resource(self.pod, None, resource, self.facts),
                (None, None) => continue,
            };
            let text = text.map_err(MountVolumeError::Field)?;
            put(made, &item.path, text.into_bytes(), item.mode.unwrap_or(default_mode), None)?;
        }
        Ok(())
    }

    async fn projected(
        &self,
        source: &ProjectedVolumeSource,
        made: &mut Made,
    ) -> Result<(), MountVolumeError> {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let mut problems = Vec::new();
        for projection in source.sources.iter().flatten() {
            problems.extend(self.projection(projection, mode, made).await.err());
        }
        all_of(problems)
    }

    async fn projection(
        &self,
        projection: &VolumeProjection,
        mode: i32,
        made: &mut Made,
    ) -> Result<(), MountVolumeError> {
        if let Some(it) = &projection.config_map {
            self.object(from_map(it, mode), made).await?;
        }
        if let Some(it) = &projection.secret {
            self.object(from_secret(it, mode), made).await?;
        }
        if let Some(it) = &projection.downward_api {
            self.downward(it.items.as_deref().unwrap_or_default(), mode, made)?;
        }
        if let Some(it) = &projection.service_account_token {
            self.token(it, mode, made).await?;
        }
        if let Some(it) = &projection.cluster_trust_bundle {
            let bundle = self.volumes.trust_bundles.read(it).await?;
            self.put_private(&it.path, bundle.into_bytes(), mode, made)?;
        }
        if projection.pod_certificate.is_some() {
            let message = "pod certificate projection is not supported in this kubelet";
            return Err(MountVolumeError::Text(message.to_owned()));
        }
        Ok(())
    }

    async fn token(
        &self,
        source: &ServiceAccountTokenProjection,
        mode: i32,
        made: &mut Made,
    ) -> Result<(), MountVolumeError> {
        let (client, now) = (&self.volumes.client, self.volumes.clock.now());
        let audience = source.audience.as_deref().unwrap_or_default();
        let life = source.expiration_seconds;
        let token = self.volumes.tokens.get(client, self.pod, audience, life, now).await?;
        let (text, replace_at) = (token.text, token.replace_at);
        made.refresh_at = Some(made.refresh_at.map_or(replace_at, |it| it.min(replace_at)));
        self.put_private(&source.path, text.into_bytes(), mode, made)
    }

    fn put_private(
        &self,
        path: &str,
        content: Vec<u8>,
        mode: i32,
        made: &mut Made,
    ) -> Result<(), MountVolumeError> {
        let (mode, owner) = privacy(self.pod, mode);
        put(made, path, content, mode, owner)
    }
}

/// Whoever misses one thing may miss another, and is told of both; of what several sources miss, once.
fn all_of(mut problems: Vec<MountVolumeError>) -> Result<(), MountVolumeError> {
    if problems.len() < 2 {
        return problems.pop().map_or(Ok(()), Err);
    }
    let mut told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let mut seen = BTreeSet::new();
    told.retain(|it| seen.insert(it.clone()));
    match told.as_slice() {
        [one] => Err(MountVolumeError::Text(one.clone())),
        _ => Err(MountVolumeError::Text(format!("[{}]", told.join(", ")))),
    }
}

/// A pod that runs as one user gets tokens that are this user's, and that nobody else can read but
/// the pod's group, whose they become afterwards.
///
/// Upstream: `collectData` of `pkg/volume/projected`.
fn privacy(pod: &Pod, mode: i32) -> (i32, Option<u32>) {
    let owner = only_user(pod);
    let is_private = owner.is_some() || Group::of(pod).is_some();
    (if is_private { PRIVATE_MODE } else { mode }, owner)
}

/// The user of all containers, if they share one. Ephemeral ones do not count: they come later.
///
/// Upstream: `FsUserFrom`.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = PodExt::spec(pod).security_context.as_ref().and_then(|it| it.run_as_user);
    let all = pod.all_containers().into_iter();
    let mut users = all
        .filter(|(kind, _)| *kind != Kind::Ephemeral)
        .map(|(_, it)| it.security_context.as_ref().and_then(|it| it.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|it| it == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

struct From<'a> {
    kind: ObjectKind,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
}

fn from_map(it: &ConfigMapProjection, mode: i32) -> From<'_> {
    let kind = ObjectKind::ConfigMap;
    From { kind, name: &it.name, items: it.items.as_deref(), optional: it.optional, mode }
}

fn from_secret(it: &SecretProjection, mode: i32) -> From<'_> {
    let kind = ObjectKind::Secret;
    From { kind, name: &it.name, items: it.items.as_deref(), optional: it.optional, mode }
}

fn add_items(data: &Data, from: &From<'_>, made: &mut Made) -> Result<(), MountVolumeError> {
    let Some(items) = from.items.filter(|it| !it.is_empty()) else {
        for (key, content) in data.iter() {
            put(made, key, content.clone(), from.mode, None)?;
        }
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                let mode = item.mode.unwrap_or(from.mode);
                put(made, &item.path, content.clone(), mode, None)?;
            }
            None if from.optional == Some(true) => {}
            None => {
                let text = match from.kind {
                    ObjectKind::Secret => "references non-existent secret key",
                    ObjectKind::ConfigMap => "configmap references non-existent config key",
                };
                return Err(MountVolumeError::NoKey { text, key: item.key.clone() });
            }
        }
    }
    Ok(())
}

fn put(
    made: &mut Made,
    path: &str,
    content: Vec<u8>,
    mode: i32,
    owner: Option<u32>,
) -> Result<(), MountVolumeError> {
    // `./a` is `a`.
    let path: PathBuf =
        Path::new(path).components().filter(|it| *it != Component::CurDir).collect();
    if !atomic::is_valid(&path) {
        return Err(MountVolumeError::BadPath { path: path.display().to_string() });
    }
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
    made.files.insert(path, atomic::File { content, mode, owner });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn private(pod: Value, containers: Value) -> (i32, Option<u32>) {
        let spec = json!({
            "securityContext": pod, "containers": containers,
            "initContainers": [{ "name": "i" }],
            "ephemeralContainers": [{ "name": "e", "securityContext": { "runAsUser": 9 } }],
        });
        privacy(&serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap(), 0o644)
    }

    fn runs_as(user: i64) -> Value {
        json!({ "name": "c", "securityContext": { "runAsUser": user } })
    }

    #[test]
    fn a_token_is_the_users_as_whom_all_containers_run_and_private() {
        let plain = json!({ "name": "c" });
        let user = json!({ "runAsUser": 1000 });
        assert_eq!(private(json!({}), json!([plain])), (0o644, None));
        assert_eq!(private(user.clone(), json!([plain])), (0o600, Some(1000)));
        assert_eq!(private(user.clone(), json!([plain, runs_as(1000)])), (0o600, Some(1000)));
        assert_eq!(private(user, json!([plain, runs_as(1001)])), (0o644, None), "whose?");
        assert_eq!(private(json!({}), json!([runs_as(1000)])), (0o644, None), "init says nothing");
    }

    #[test]
    fn a_token_of_a_pod_with_a_group_is_private_and_still_the_users() {
        let group = json!({ "fsGroup": 77 });
        assert_eq!(private(group, json!([{ "name": "c" }])), (0o600, None));
        let both = json!({ "runAsUser": 1000, "fsGroup": 77 });
        assert_eq!(private(both, json!([{ "name": "c" }])), (0o600, Some(1000)));
    }

    #[test]
    fn all_that_a_projected_volume_misses_is_told_and_nothing_twice() {
        let text = |it: &str| MountVolumeError::Text(it.to_owned());
        let told = |list: &[&str]| {
            let told = all_of(list.iter().map(|it| text(it)).collect());
            told.err().map(|it| it.to_string())
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&["a"]).as_deref(), Some("a"));
        assert_eq!(told(&["a", "b", "a"]).as_deref(), Some("[a, b]"));
        assert_eq!(told(&["a", "a"]).as_deref(), Some("a"));
    }
}
