//! The flags that describe this one node: how they are read and checked.
//!
//! Upstream: `ValidateKubeletFlags`, `staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go`.

use std::collections::BTreeMap;

use super::Args;
use crate::{GoDuration, duration as go};

/// Namespaces in which a kubelet may label its own node.
const NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Labels of Kubernetes's own that a kubelet may set.
const LABELS: [&str; 13] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
    "kubernetes.io/os-distribution",
];

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("a label is written `key=value`".to_owned());
    }
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn duration(text: &str) -> Result<GoDuration, String> {
    go::parse(text).map(GoDuration).ok_or_else(|| match go::read(text) {
        Ok(_) => format!("time: invalid duration {text:?}"),
        Err(error) => error.to_string(),
    })
}

/// Labels of Kubernetes's own namespaces are not the node's to choose, but for some.
pub(super) fn check_labels(labels: &[(String, String)]) -> Result<(), String> {
    let unknown: Vec<_> =
        labels.iter().map(|(key, _)| key.as_str()).filter(|it| !is_allowed(it)).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{}]\n--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix ({}) or be in the specifically allowed set ({})",
            unknown.join(" "),
            NAMESPACES.join(", "),
            LABELS.join(", "),
        ));
    }
    let wrong = labels.iter().find(|(key, value)| !is_name(key) || !is_value(value));
    match wrong {
        None => Ok(()),
        Some((key, value)) => Err(format!("invalid node labels: '{key}={value}'")),
    }
}

fn is_allowed(key: &str) -> bool {
    let Some((namespace, _)) = key.split_once('/') else { return true };
    let is_below = |parent: &str| {
        namespace == parent || namespace.strip_suffix(parent).is_some_and(|it| it.ends_with('.'))
    };
    let is_kubernetes = is_below("kubernetes.io") || is_below("k8s.io");
    !is_kubernetes || LABELS.contains(&key) || NAMESPACES.into_iter().any(is_below)
}

fn is_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_domain = |it: &str| {
        !it.is_empty()
            && it.len() <= 253
            && it.bytes().all(|it| {
                it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'-' | b'.')
            })
    };
    prefix.is_none_or(is_domain) && !name.is_empty() && is_value(name)
}

fn is_value(value: &str) -> bool {
    let is_edge = |it: Option<char>| it.is_none_or(|it| it.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'))
        && is_edge(value.chars().next())
        && is_edge(value.chars().last())
}

/// What was given, for `/flagz`.
pub(super) fn shown(args: &Args) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    let path = |it: &Option<std::path::PathBuf>| {
        it.as_ref().map(|it| it.display().to_string()).unwrap_or_default()
    };
    let mut put = |name: &str, value: String| {
        shown.insert(name.to_owned(), value);
    };
    put("config", path(&args.config));
    put("config-dir", path(&args.config_dir));
    put("kubeconfig", path(&args.kubeconfig));
    put("bootstrap-kubeconfig", path(&args.bootstrap_kubeconfig));
    put("cert-dir", path(&args.cert_dir));
    put("root-dir", args.root_dir.clone());
    put("hostname-override", args.hostname_override.clone().unwrap_or_default());
    put("cloud-provider", args.cloud_provider.clone());
    let ips: Vec<_> = args.node_ip.iter().map(ToString::to_string).collect();
    put("node-ip", ips.join(","));
    let labels: Vec<_> = args.node_labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    put("node-labels", labels.join(","));
    put("image-credential-provider-config", path(&args.image_credential_provider_config));
    put("image-credential-provider-bin-dir", path(&args.image_credential_provider_bin_dir));
    put("v", args.v.unwrap_or_default().to_string());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_not_label_itself_with_what_belongs_to_kubernetes() {
        let check = |key: &str| check_labels(&[(key.to_owned(), "x".to_owned())]);
        for key in ["a", "example.com/a", "node.kubernetes.io/x", "kubernetes.io/os", "notk8s.io/a"]
        {
            assert_eq!(check(key), Ok(()), "{key}");
        }
        for key in
            ["kubernetes.io/x", "node-role.kubernetes.io/master", "x.k8s.io/a", "-a", "a/b/c"]
        {
            assert!(check(key).is_err(), "{key}");
        }
    }
}
