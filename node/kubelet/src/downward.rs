//! The downward API: fields of the pod and amounts of its containers, as text.
//!
//! Upstream: `pkg/fieldpath`, `pkg/api/v1/resource/helpers.go`.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};

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
    pairs.map(|(key, value)| format!("{key}={}", quoted(value))).collect::<Vec<_>>().join("\n")
}

/// As Go's `%q` writes a text: programs parse it back.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for it in text.chars() {
        match it {
            '"' | '\\' => out.extend(['\\', it]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' ' => out.push(it),
            it if it < ' ' || it == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(it))),
            // Spaces that are not the plain one, and what has no shape, are named by their numbers.
            it if it.is_control() || it.is_whitespace() || is_shapeless(it) => {
                let number = u32::from(it);
                if number < 0x1_0000 {
                    out.push_str(&format!("\\u{number:04x}"));
                } else {
                    out.push_str(&format!("\\U{number:08x}"));
                }
            }
            it => out.push(it),
        }
    }
    out.push('"');
    out
}

/// Marks of text direction, joiners and the like, and numbers for private use.
fn is_shapeless(it: char) -> bool {
    matches!(
        it,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0001}'..='\u{e007f}' | '\u{f0000}'..='\u{10ffff}'
    )
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
    // A container without a limit may use what its pod may, or the node has. A limit of nothing is none.
    let is_some = |it: &&Quantity| !is_limit || quantity::milli(it) != Some(0);
    let of_pod = || limit_of_pod(pod, resource).filter(is_some);
    let given = given.filter(is_some).or_else(|| if is_limit { of_pod() } else { None });
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

/// What all containers of a pod may use together, of what a pod can be given a limit of.
fn limit_of_pod<'a>(pod: &'a Pod, resource: &str) -> Option<&'a Quantity> {
    let limits = pod.spec.as_ref()?.resources.as_ref()?.limits.as_ref()?;
    limits.get(resource).filter(|_| matches!(resource, "cpu" | "memory"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

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
    fn a_missing_limit_is_the_pods_if_it_has_one() {
        let amount = |name: &str, it: &str| (name.to_owned(), Quantity(it.to_owned()));
        let limits = [amount("memory", "64Mi"), amount("cpu", "0")].into();
        let resources = ResourceRequirements { limits: Some(limits), ..Default::default() };
        let spec = PodSpec { resources: Some(resources), ..PodSpec::default() };
        let pod = Pod { spec: Some(spec), ..Pod::default() };
        let facts =
            Facts { allocatable_cpu_milli: 3000, allocatable_memory: 1 << 30, ..Facts::default() };
        let ask = |container: &Container, resource_name: &str| {
            let selector =
                ResourceFieldSelector { resource: resource_name.to_owned(), ..Default::default() };
            resource(&pod, Some(container), &selector, &facts).unwrap()
        };
        let free = Container::default();
        assert_eq!(ask(&free, "limits.memory"), (64 << 20).to_string());
        assert_eq!(ask(&free, "limits.cpu"), "3");
        assert_eq!(ask(&free, "requests.memory"), "0", "nobody asked for any");
        let limits = Some([amount("memory", "8Mi")].into());
        let own = ResourceRequirements { limits, ..Default::default() };
        let bound = Container { resources: Some(own), ..Container::default() };
        assert_eq!(ask(&bound, "limits.memory"), (8 << 20).to_string());
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

    #[test]
    fn annotations_are_quoted_as_go_quotes_them() {
        for (text, wanted) in [
            ("it's", r#""it's""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("1\n2\t3\r\u{7}\u{b}", r#""1\n2\t3\r\a\v""#),
            ("\0\u{1b}[0m\u{7f}", r#""\x00\x1b[0m\x7f""#),
            ("é 日 e\u{301} \u{1f600}", "\"é 日 e\u{301} \u{1f600}\""),
            ("\u{85}\u{a0}\u{feff}\u{e0001}", r#""\u0085\u00a0\ufeff\U000e0001""#),
        ] {
            assert_eq!(quoted(text), wanted, "{text:?}");
        }
    }
}
