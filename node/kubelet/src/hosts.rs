//! The `/etc/hosts` that a pod's containers share.
//!
//! A pod on the node's network gets the node's file with the pod's aliases; any other pod gets one
//! of its own with its addresses and name. Upstream: `ensureHostsFile` in `kubelet_pods.go`.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::Pod;

use crate::{admission::sysctls, pod::PodExt};

const MAX_HOSTNAME: usize = 63;
/// What fits into Linux' `nodename`.
const MAX_NODENAME: usize = 64;

#[derive(Debug, thiserror::Error)]
#[error(
    "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({MAX_NODENAME} characters is the max, {length} characters requested)"
)]
pub(crate) struct NameTooLongError {
    name: String,
    length: usize,
}

const MANAGED: &str = "# Kubernetes-managed hosts file.\n";
const MANAGED_HOST: &str = "# Kubernetes-managed hosts file (host network).\n";

/// The content for a pod. `hostname` and `domain` are the pod's own.
pub(crate) fn content(
    pod: &Pod,
    ips: &[IpAddr],
    hostname: &str,
    domain: &str,
    node_file: &str,
) -> String {
    let mut text = if pod.is_host_network() {
        format!("{MANAGED_HOST}{node_file}")
    } else {
        let mut own = format!(
            "{MANAGED}127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n"
        );
        for ip in ips {
            let names = if domain.is_empty() {
                hostname.to_owned()
            } else {
                format!("{hostname}.{domain}\t{hostname}")
            };
            own.push_str(&format!("{ip}\t{names}\n"));
        }
        own
    };
    let aliases = PodExt::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.iter().flatten().map(String::as_str).collect::<Vec<_>>();
        text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    text
}

/// A pod's host name and, where it has a subdomain, its cluster domain.
///
/// Names longer than Linux allows are cut, as upstream does.
pub(crate) fn names(pod: &Pod, cluster_domain: &str, node_name: &str) -> (String, String) {
    let spec = PodExt::spec(pod);
    if pod.is_host_network() && spec.hostname_override.is_none() {
        return (node_name.to_owned(), String::new());
    }
    if let Some(given) = &spec.hostname_override {
        return (cut(given), String::new());
    }
    let name = spec.hostname.as_deref().filter(|it| !it.is_empty()).unwrap_or_else(|| pod.name());
    let hostname = cut(name);
    let domain = match spec.subdomain.as_deref().filter(|it| !it.is_empty()) {
        Some(sub) => format!("{sub}.{}.svc.{cluster_domain}", pod.namespace()),
        None => String::new(),
    };
    (hostname, domain)
}

fn cut(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_HOSTNAME)].trim_end_matches(['-', '.']).to_owned()
}

/// The name that the kernel is told: with its domain where the pod asks for that.
pub(crate) fn kernel_name(
    pod: &Pod,
    hostname: &str,
    domain: &str,
) -> Result<String, NameTooLongError> {
    let is_full = PodExt::spec(pod).set_hostname_as_fqdn == Some(true);
    if !is_full || domain.is_empty() {
        return Ok(hostname.to_owned());
    }
    let name = format!("{hostname}.{domain}");
    let length = name.len();
    if length > MAX_NODENAME { Err(NameTooLongError { name, length }) } else { Ok(name) }
}

/// Sysctls of the sandbox.
pub(crate) fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let context = PodExt::spec(pod).security_context.as_ref();
    let listed = context.and_then(|it| it.sysctls.as_ref()).into_iter().flatten();
    listed.map(|it| (sysctls::normalized(&it.name), it.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{HostAlias, PodSpec},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };

    use super::*;

    fn pod(name: &str, spec: PodSpec) -> Pod {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            ..ObjectMeta::default()
        };
        Pod { metadata, spec: Some(spec), ..Pod::default() }
    }

    #[test]
    fn a_subdomain_makes_a_full_name() {
        let spec = PodSpec { subdomain: Some("db".to_owned()), ..PodSpec::default() };
        let pod = pod("db-0", spec);
        let (hostname, domain) = names(&pod, "cluster.local", "n");
        assert_eq!((hostname.as_str(), domain.as_str()), ("db-0", "db.shop.svc.cluster.local"));
        let text = content(&pod, &["10.1.2.3".parse().unwrap()], &hostname, &domain, "");
        assert!(text.contains("10.1.2.3\tdb-0.db.shop.svc.cluster.local\tdb-0\n"));
    }

    #[test]
    fn a_name_that_overrides_the_others_has_no_domain() {
        let text = |it: &str| Some(it.to_owned());
        let spec = PodSpec {
            hostname: text("custom"),
            subdomain: text("db"),
            hostname_override: text("override.example.host"),
            ..PodSpec::default()
        };
        let found = names(&pod("db-0", spec), "cluster.local", "n");
        assert_eq!(found, ("override.example.host".to_owned(), String::new()));
    }

    #[test]
    fn the_full_name_is_the_kernels_only_on_request_and_if_it_fits() {
        let spec = PodSpec { subdomain: Some("db".to_owned()), ..PodSpec::default() };
        let mut pod = pod("db-0", spec);
        let name = |pod: &Pod, domain: &str| kernel_name(pod, "db-0", domain);
        assert_eq!(name(&pod, "db.shop.svc.c").unwrap(), "db-0");
        pod.spec.as_mut().unwrap().set_hostname_as_fqdn = Some(true);
        assert_eq!(name(&pod, "db.shop.svc.c").unwrap(), "db-0.db.shop.svc.c");
        let error = name(&pod, &"x".repeat(60)).unwrap_err().to_string();
        assert!(error.ends_with("(64 characters is the max, 65 characters requested)"), "{error}");
    }

    #[test]
    fn a_long_name_is_cut_to_what_linux_allows() {
        let name = format!("{}-{}", "a".repeat(62), "b".repeat(30));
        assert_eq!(names(&pod(&name, PodSpec::default()), "c", "n").0, "a".repeat(62));
    }

    #[test]
    fn the_nodes_own_entries_and_the_aliases_are_kept_on_the_host_network() {
        let alias = HostAlias {
            ip: "1.2.3.4".to_owned(),
            hostnames: Some(vec!["x".to_owned(), "y".to_owned()]),
        };
        let spec = PodSpec {
            host_network: Some(true),
            host_aliases: Some(vec![alias]),
            ..PodSpec::default()
        };
        let text = content(&pod("p", spec), &[], "n", "", "127.0.0.1 localhost\n");
        assert!(text.starts_with(MANAGED_HOST) && text.ends_with("1.2.3.4\tx\ty\n"));
        assert!(text.contains("127.0.0.1 localhost"));
    }
}
