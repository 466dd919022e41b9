//! A container's environment, from every source a pod can name.
//!
//! [`references`] says which objects are needed, the caller reads them, and [`build`] is pure.
//!
//! Upstream: `makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go`. Order matters: service
//! variables can be referred to by the container's own, and a later definition wins.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, EnvVar, FileKeySelector, Pod};

use crate::{
    downward::{self, Facts, FieldError},
    env_file::{ReadEnvFileError, Variables},
    expand::expand,
    objects::{Data, ObjectKind},
    pod::PodExt,
};

/// Why a container's configuration cannot be made: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildEnvError {
    #[error("{kind} \"{name}\" not found", kind = kind_name(*.kind))]
    NoObject { kind: ObjectKind, name: String },
    #[error("couldn't find key {key} in {title} {namespace}/{name}", title = title(*.kind))]
    NoKey { kind: ObjectKind, namespace: String, name: String, key: String },
    #[error(transparent)]
    Field(FieldError),
    #[error("cannot find the volume \"{volume}\" referenced by FileKeyRef")]
    NoVolume { volume: String },
    #[error("couldn't parse env file")]
    File(#[source] ReadEnvFileError),
    #[error("environment variable key \"{key}\" not found in file \"{path}\"")]
    NoFileKey { key: String, path: String },
}

fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "configmap",
        ObjectKind::Secret => "secret",
    }
}

fn title(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "ConfigMap",
        ObjectKind::Secret => "Secret",
    }
}

/// The objects that were read; `None` for those that do not exist.
pub(crate) type Found = HashMap<(ObjectKind, String), Option<Arc<Data>>>;

/// The files of variables that were read, by volume and path; `None` where the volume is not mounted.
pub(crate) type Files = HashMap<(String, String), Option<Result<Variables, ReadEnvFileError>>>;

/// Which files of variables the environment needs: volume and path.
pub(crate) fn files(container: &Container) -> Vec<(String, String)> {
    let sources = container.env.iter().flatten().filter_map(|it| it.value_from.as_ref());
    let files = sources.filter_map(|it| it.file_key_ref.as_ref());
    files.map(|it| (it.volume_name.clone(), it.path.clone())).collect()
}

/// Which ConfigMaps and Secrets the environment needs.
pub(crate) fn references(container: &Container) -> Vec<(ObjectKind, String)> {
    let mut all = Vec::new();
    for from in container.env_from.iter().flatten() {
        all.extend(from.config_map_ref.iter().map(|it| (ObjectKind::ConfigMap, it.name.clone())));
        all.extend(from.secret_ref.iter().map(|it| (ObjectKind::Secret, it.name.clone())));
    }
    for from in container.env.iter().flatten().filter_map(|it| it.value_from.as_ref()) {
        let map = from.config_map_key_ref.iter();
        all.extend(map.map(|it| (ObjectKind::ConfigMap, it.name.clone())));
        let secret = from.secret_key_ref.iter();
        all.extend(secret.map(|it| (ObjectKind::Secret, it.name.clone())));
    }
    all.sort();
    all.dedup();
    all
}

/// The variables, in the order in which the container gets them.
pub(crate) fn build(
    pod: &Pod,
    container: &Container,
    services: BTreeMap<String, String>,
    (found, files): (&Found, &Files),
    facts: &Facts,
) -> Result<Vec<(String, String)>, BuildEnvError> {
    let mut own = Ordered::default();
    add_from(container, found, &mut own)?;
    for variable in container.env.iter().flatten() {
        let value = match variable.value_from.as_ref().and_then(|it| it.file_key_ref.as_ref()) {
            Some(it) => of_file(it, files)?,
            None => value_of(pod, container, variable, found, facts, &own, &services)?,
        };
        if let Some(value) = value {
            own.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if !own.values.contains_key(&name) {
            own.set(&name, value);
        }
    }
    Ok(own.in_order())
}

fn of_file(it: &FileKeySelector, files: &Files) -> Result<Option<String>, BuildEnvError> {
    let is_optional = it.optional == Some(true);
    let variables = match files.get(&(it.volume_name.clone(), it.path.clone())) {
        None | Some(None) => {
            return Err(BuildEnvError::NoVolume { volume: it.volume_name.clone() });
        }
        Some(Some(Err(ReadEnvFileError::Open { .. }))) if is_optional => return Ok(None),
        Some(Some(Err(error))) => return Err(BuildEnvError::File(error.clone())),
        Some(Some(Ok(variables))) => variables,
    };
    match variables.get(&it.key) {
        Some(value) => Ok(Some(value.clone())),
        None if is_optional => Ok(None),
        None => Err(BuildEnvError::NoFileKey { key: it.key.clone(), path: it.path.clone() }),
    }
}

#[derive(Default)]
struct Ordered {
    order: Vec<String>,
    values: HashMap<String, String>,
}

impl Ordered {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    fn in_order(mut self) -> Vec<(String, String)> {
        let mut all = Vec::with_capacity(self.order.len());
        for name in self.order {
            let value = self.values.remove(&name).unwrap_or_default();
            all.push((name, value));
        }
        all
    }
}

fn add_from(container: &Container, found: &Found, own: &mut Ordered) -> Result<(), BuildEnvError> {
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let of_map = from.config_map_ref.as_ref().map(|it| (&it.name, it.optional));
        let of_secret = from.secret_ref.as_ref().map(|it| (&it.name, it.optional));
        let listed = of_map.map(|it| (ObjectKind::ConfigMap, it)).into_iter();
        for (kind, (name, optional)) in listed.chain(of_secret.map(|it| (ObjectKind::Secret, it))) {
            match found.get(&(kind, name.clone())).and_then(Option::as_ref) {
                Some(data) => {
                    for (key, value) in data.variables() {
                        let value = String::from_utf8_lossy(value).into_owned();
                        own.set(&format!("{prefix}{key}"), value);
                    }
                }
                None if optional == Some(true) => {}
                None => return Err(BuildEnvError::NoObject { kind, name: name.clone() }),
            }
        }
    }
    Ok(())
}

fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    found: &Found,
    facts: &Facts,
    own: &Ordered,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, BuildEnvError> {
    if let Some(value) = variable.value.as_ref().filter(|it| !it.is_empty()) {
        let lookup = |name: &str| own.values.get(name).or_else(|| services.get(name));
        return Ok(Some(expand(value, |name| lookup(name).map(String::as_str))));
    }
    let Some(from) = &variable.value_from else { return Ok(Some(String::new())) };
    if let Some(it) = &from.field_ref {
        return downward::field(pod, it, facts).map(Some).map_err(BuildEnvError::Field);
    }
    if let Some(it) = &from.resource_field_ref {
        let value = downward::resource(pod, Some(container), it, facts);
        return value.map(Some).map_err(BuildEnvError::Field);
    }
    if let Some(it) = &from.config_map_key_ref {
        return key_of(pod, ObjectKind::ConfigMap, &it.name, &it.key, it.optional, found);
    }
    if let Some(it) = &from.secret_key_ref {
        return key_of(pod, ObjectKind::Secret, &it.name, &it.key, it.optional, found);
    }
    Ok(Some(String::new()))
}

fn key_of(
    pod: &Pod,
    kind: ObjectKind,
    name: &str,
    key: &str,
    optional: Option<bool>,
    found: &Found,
) -> Result<Option<String>, BuildEnvError> {
    let is_optional = optional == Some(true);
    match found.get(&(kind, name.to_owned())).and_then(Option::as_ref) {
        None if is_optional => Ok(None),
        None => Err(BuildEnvError::NoObject { kind, name: name.to_owned() }),
        Some(data) => match data.variable(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if is_optional => Ok(None),
            None => Err(BuildEnvError::NoKey {
                kind,
                namespace: pod.namespace().to_owned(),
                name: name.to_owned(),
                key: key.to_owned(),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        ConfigMapEnvSource, ConfigMapKeySelector, EnvFromSource, EnvVarSource,
    };

    use super::*;

    fn plain(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
    }

    fn built(container: &Container, found: &Found) -> Result<Vec<(String, String)>, BuildEnvError> {
        let services = BTreeMap::from([("S_SERVICE_HOST".to_owned(), "10.1.1.1".to_owned())]);
        let files = Files::from([(
            ("v".to_owned(), "env".to_owned()),
            Some(Ok(Variables::from([("K".to_owned(), "of file".to_owned())]))),
        )]);
        build(&Pod::default(), container, services, (found, &files), &Facts::default())
    }

    fn map() -> Found {
        let data = Data::from_iter([("k".to_owned(), b"v".to_vec())]);
        Found::from([((ObjectKind::ConfigMap, "m".to_owned()), Some(Arc::new(data)))])
    }

    #[test]
    fn variables_refer_to_earlier_ones_and_to_services() {
        let container = Container {
            env: Some(vec![
                plain("A", "1"),
                plain("B", "$(A)-$(S_SERVICE_HOST)-$(C)"),
                plain("C", "3"),
            ]),
            ..Container::default()
        };
        let all = built(&container, &Found::new()).unwrap();
        assert_eq!(all[1], ("B".to_owned(), "1-10.1.1.1-$(C)".to_owned()));
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn the_containers_own_value_wins_over_a_whole_config_map() {
        let from = EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource { name: "m".to_owned(), optional: None }),
            prefix: Some("P_".to_owned()),
            secret_ref: None,
        };
        let container = Container {
            env_from: Some(vec![from]),
            env: Some(vec![plain("P_k", "own")]),
            ..Container::default()
        };
        let all = built(&container, &map()).unwrap();
        assert_eq!(all[0], ("P_k".to_owned(), "own".to_owned()));
    }

    #[test]
    fn a_variable_comes_from_a_file_of_a_volume() {
        let of = |volume: &str, key: &str, optional| {
            let selector = FileKeySelector {
                key: key.to_owned(),
                path: "env".to_owned(),
                volume_name: volume.to_owned(),
                optional,
            };
            let source = EnvVarSource { file_key_ref: Some(selector), ..EnvVarSource::default() };
            let variable = EnvVar { name: "A".to_owned(), value: None, value_from: Some(source) };
            built(&Container { env: Some(vec![variable]), ..Container::default() }, &Found::new())
        };
        assert_eq!(of("v", "K", None).unwrap()[0].1, "of file");
        assert_eq!(of("v", "X", Some(true)).unwrap().len(), 1);
        assert_eq!(
            of("v", "X", None).unwrap_err().to_string(),
            "environment variable key \"X\" not found in file \"env\""
        );
        assert_eq!(
            of("w", "K", None).unwrap_err().to_string(),
            "cannot find the volume \"w\" referenced by FileKeyRef"
        );
    }

    #[test]
    fn what_is_missing_is_named_unless_it_is_optional() {
        let of = |name: &str, key: &str, optional| {
            let selector =
                ConfigMapKeySelector { name: name.to_owned(), key: key.to_owned(), optional };
            let source =
                EnvVarSource { config_map_key_ref: Some(selector), ..EnvVarSource::default() };
            let variable = EnvVar { name: "A".to_owned(), value: None, value_from: Some(source) };
            built(&Container { env: Some(vec![variable]), ..Container::default() }, &map())
        };
        assert_eq!(of("x", "k", None).unwrap_err().to_string(), "configmap \"x\" not found");
        let missing = of("m", "x", None).unwrap_err().to_string();
        assert_eq!(missing, "couldn't find key x in ConfigMap default/m");
        assert_eq!(of("x", "k", Some(true)).unwrap().len(), 1);
        assert_eq!(of("m", "k", None).unwrap()[0].1, "v");
    }
}
