//! The downward API: fields of the pod and amounts of its containers, as text.
//!
//! Upstream: `pkg/fieldpath`, `pkg/api/v1/resource/helpers.go`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use crate::{pod::PodExt, quantity};

/// What is known of a pod only on the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub pod_ips: Vec<IpAddr>,
    pub host_ips: Vec<IpAddr>,
    pub allocatable_cpu_milli: i64,
    pub allocatable_memory: i64,
    pub allocatable_storage: i64,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    #[error("unsupported fieldPath: {path}")]
    Unsupported { path: String },
    #[error("container {name} not found")]
    NoContainer { name: String },
    #[error("unsupported container resource : {resource}")]
    UnsupportedResource { resource: String },
}

/// The value of a `fieldRef`.
pub(crate) fn field(
    pod: &Pod,
    selector: &ObjectFieldSelector,
    facts: &Facts,
) -> Result<String, FieldError> {
    let path = selector.field_path.as_str();
    let joined = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    let metadata = &pod.metadata;
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(metadata
            .labels
            .as_ref()
            .and_then(|it| it.get(key))
            .cloned()
            .unwrap_or_default());
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(pod.annotation(key).unwrap_or_default().to_owned());
    }
    let spec = PodExt::spec(pod);
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().0,
        "metadata.labels" => lines(metadata.labels.iter().flatten()),
        "metadata.annotations" => lines(metadata.annotations.iter().flatten()),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => joined(&facts.host_ips),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => joined(&facts.pod_ips),
        _ => return Err(FieldError::Unsupported { path: path.to_owned() }),
    })
}

fn subscript<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']")
}

/// `key="value"` lines, sorted, with Go's quoting.
fn lines<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    pairs.map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

/// The value of a `resourceFieldRef`, in units of its divisor, rounded up.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, FieldError> {
    let found = match selector.container_name.as_deref().filter(|it| !it.is_empty()) {
        Some(name) => pod.find_container(name).map(|(_, it)| it),
        None => own.cloned(),
    };
    let container = found.ok_or_else(|| FieldError::NoContainer {
        name: selector.container_name.clone().unwrap_or_default(),
    })?;
    let (list, resource) = selector.resource.split_once('.').unwrap_or(("", ""));
    let resources = container.resources.unwrap_or_default();
    let given = match list {
        "limits" => resources.limits.as_ref().and_then(|it| it.get(resource)),
        "requests" => resources.requests.as_ref().and_then(|it| it.get(resource)),
        _ => return Err(FieldError::UnsupportedResource { resource: selector.resource.clone() }),
    };
    let is_limit = list == "limits";
    // A container without a limit may use what the node has. A limit of nothing is none.
    let given = given.filter(|it| !is_limit || quantity::milli(it) != Some(0));
    let amount = match (resource, given) {
        ("cpu", Some(it)) => quantity::milli(it).unwrap_or(0),
        ("cpu", None) if is_limit => facts.allocatable_cpu_milli,
        (_, Some(it)) => quantity::value(it).unwrap_or(0),
        ("memory", None) if is_limit => facts.allocatable_memory,
        ("ephemeral-storage", None) if is_limit => facts.allocatable_storage,
        (_, None) => 0,
    };
    let divisor = selector.divisor.as_ref();
    let divisor = if resource == "cpu" {
        divisor.and_then(quantity::milli).filter(|it| *it > 0).unwrap_or(1000)
    } else {
        divisor.and_then(quantity::value).filter(|it| *it > 0).unwrap_or(1)
    };
    Ok((amount.div_euclid(divisor) + i64::from(amount.rem_euclid(divisor) != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity,
    };

    use super::*;

    #[test]
    fn a_missing_limit_is_what_the_node_has_and_all_is_rounded_up() {
        let facts =
            Facts { allocatable_cpu_milli: 1930, allocatable_storage: 5, ..Facts::default() };
        let amount = |name: &str, it: &str| (name.to_owned(), Quantity(it.to_owned()));
        let limits = [amount("memory", "1500k"), amount("ephemeral-storage", "0")].into();
        let container = Container {
            resources: Some(ResourceRequirements { limits: Some(limits), ..Default::default() }),
            ..Container::default()
        };
        let ask = |resource_name: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                resource: resource_name.to_owned(),
                divisor: divisor.map(|it| Quantity(it.to_owned())),
                container_name: None,
            };
            resource(&Pod::default(), Some(&container), &selector, &facts).unwrap()
        };
        assert_eq!(ask("limits.cpu", None), "2");
        assert_eq!(ask("limits.cpu", Some("1m")), "1930");
        assert_eq!(ask("limits.memory", Some("1Mi")), "2");
        assert_eq!(ask("requests.cpu", None), "0");
        assert_eq!(ask("limits.ephemeral-storage", None), "5");
    }

    #[test]
    fn labels_are_found_by_key() {
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("a/b".to_owned(), "x".to_owned())].into());
        let ask = |path: &str| {
            let selector =
                ObjectFieldSelector { field_path: path.to_owned(), ..Default::default() };
            field(&pod, &selector, &Facts::default())
        };
        assert_eq!(ask("metadata.labels['a/b']").unwrap(), "x");
        assert_eq!(ask("metadata.labels").unwrap(), "a/b=\"x\"");
        assert!(ask("spec.containers").is_err());
    }
}
