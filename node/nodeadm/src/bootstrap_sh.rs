//! User data for Amazon Linux 2: `/etc/eks/bootstrap.sh CLUSTER --flag …`. These images join by nodeadm,
//! as those of Amazon Linux 2023 do; a call is recognised, and the `NodeConfig` for the same node shown.
//!
//! Upstream: `bootstrap.sh` of awslabs/amazon-eks-ami before its removal; on Amazon Linux 2023 a file of
//! that name prints an error and ends with 1, as this one does.

use std::{collections::BTreeMap, net::IpAddr};

use crate::user_data::Script;

pub(crate) const PATH: &str = "/etc/eks/bootstrap.sh";

/// What is at [`PATH`].
pub(crate) const CONTENT: &str = "#!/bin/sh\n\
    echo '/etc/eks/bootstrap.sh is of Amazon Linux 2; this image joins a cluster by nodeadm: give it a \
    NodeConfig of node.eks.aws in user data (the console shows one for this call)' >&2\n\
    exit 1\n";

/// A call of `bootstrap.sh`, as a node would be configured for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub cluster: Option<String>,
    pub flags: BTreeMap<String, String>,
}

/// The first call in the scripts of user data.
pub fn find(scripts: &[Script]) -> Option<Call> {
    scripts.iter().find_map(|it| call(&String::from_utf8_lossy(&it.content)))
}

fn call(script: &str) -> Option<Call> {
    // A backslash at its end joins a line to the next.
    let joined = script.replace("\\\r\n", " ").replace("\\\n", " ");
    let lines = joined.lines().filter(|it| !it.trim_start().starts_with('#'));
    lines.filter(|it| it.contains("bootstrap.sh")).find_map(|line| {
        let mut words = words(line).into_iter().skip_while(|it| !it.ends_with("/bootstrap.sh"));
        words.next()?;
        Some(parse(words))
    })
}

fn parse(mut words: impl Iterator<Item = String>) -> Call {
    let mut call = Call::default();
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some(flag) => {
                let value = match flag.split_once('=') {
                    Some((_, value)) => value.to_owned(),
                    None => words.next().unwrap_or_default(),
                };
                let name = flag.split('=').next().unwrap_or(flag);
                call.flags.insert(name.to_owned(), value);
            }
            None if [";", "&&", "||", "|", "&"].contains(&word.as_str()) => break,
            None => call.cluster = call.cluster.or(Some(word)),
        }
    }
    call
}

/// Splits at blanks; quotes keep them.
fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => found.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    found.extend(word);
    found
}

impl Call {
    fn flag(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str).filter(|it| !it.is_empty())
    }

    /// The `NodeConfig` that user data should hold in place of the call. What the call leaves to
    /// `DescribeCluster` has a name in angle brackets.
    pub fn node_config(&self) -> String {
        let or = |value: Option<&str>, what: &str| match value {
            Some(it) => it.to_owned(),
            None => format!("<{what} of DescribeCluster>"),
        };
        let mut text = format!(
            "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: {}\n    \
             apiServerEndpoint: {}\n    certificateAuthority: {}\n    cidr: {}\n",
            or(self.cluster.as_deref(), "name"),
            or(self.flag("apiserver-endpoint"), "endpoint"),
            or(self.flag("b64-cluster-ca"), "certificateAuthority.data"),
            or(self.cidr().as_deref(), "kubernetesNetworkConfig.serviceIpv4Cidr"),
        );
        let extra = self.flag("kubelet-extra-args").map(words).unwrap_or_default();
        let max_pods = extra.iter().find_map(|it| it.strip_prefix("--max-pods="));
        let flags: Vec<_> = extra.iter().filter(|it| !it.starts_with("--max-pods=")).collect();
        if max_pods.is_some() || !flags.is_empty() {
            text.push_str("  kubelet:\n");
        }
        if let Some(max_pods) = max_pods {
            text.push_str(&format!("    config:\n      maxPods: {max_pods}\n"));
        }
        if !flags.is_empty() {
            text.push_str("    flags:\n");
            for flag in flags {
                text.push_str(&format!("    - {}\n", serde_json::Value::from(flag.as_str())));
            }
        }
        text
    }

    /// The Services' range: as it is given, or that of the cluster's DNS, which is its tenth address.
    fn cidr(&self) -> Option<String> {
        let given = self.flag("service-ipv4-cidr").or_else(|| self.flag("service-ipv6-cidr"));
        let of_dns = || match self.flag("dns-cluster-ip")?.parse().ok()? {
            IpAddr::V4(it) => {
                let [a, b, ..] = it.octets();
                Some(format!("{a}.{b}.0.0/16"))
            }
            IpAddr::V6(_) => None,
        };
        given.map(str::to_owned).or_else(of_dns)
    }

    /// For whoever reads the console.
    pub fn explanation(&self) -> String {
        let mut text = format!(
            "User data calls {PATH}, which is of Amazon Linux 2. This image is configured by nodeadm: \
             the instance does not join a cluster. Use this as user data instead:\n\n{}",
            self.node_config()
        );
        let known =
            ["apiserver-endpoint", "b64-cluster-ca", "dns-cluster-ip", "kubelet-extra-args"];
        let known =
            |it: &str| known.contains(&it) || it.starts_with("service-ip") || it == "use-max-pods";
        let others: Vec<_> =
            self.flags.keys().filter(|it| !known(it)).map(String::as_str).collect();
        if !others.is_empty() {
            text.push_str(&format!("\nWithout a counterpart: --{}\n", others.join(", --")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(script: &str) -> Option<Call> {
        find(&[Script { name: "x".to_owned(), content: script.as_bytes().to_vec() }])
    }

    #[test]
    fn a_call_becomes_the_node_config_of_the_same_node() {
        let script = "#!/bin/bash\nset -ex\n/etc/eks/bootstrap.sh stead --b64-cluster-ca AAAA \\\n  \
            --apiserver-endpoint https://x.gr7.us-east-1.eks.amazonaws.com --dns-cluster-ip \
            172.20.0.10 \\\n  --kubelet-extra-args '--node-labels=a=b,c=d --max-pods=17' \
            --use-max-pods false && echo done\n";
        let call = found(script).unwrap();
        assert_eq!(call.cluster.as_deref(), Some("stead"));
        assert_eq!(
            call.node_config(),
            "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    name: stead\n    \
             apiServerEndpoint: https://x.gr7.us-east-1.eks.amazonaws.com\n    \
             certificateAuthority: AAAA\n    cidr: 172.20.0.0/16\n  kubelet:\n    config:\n      \
             maxPods: 17\n    flags:\n    - \"--node-labels=a=b,c=d\"\n"
        );
    }

    #[test]
    fn what_the_call_does_not_say_is_asked_of_eks() {
        let text = found("#!/bin/sh\nsudo /etc/eks/bootstrap.sh my-cluster --local-disks=raid0\n")
            .unwrap()
            .explanation();
        assert!(text.contains("name: my-cluster"), "{text}");
        assert!(text.contains("<certificateAuthority.data of DescribeCluster>"), "{text}");
        assert!(text.ends_with("Without a counterpart: --local-disks\n"), "{text}");
    }

    #[test]
    fn other_scripts_and_comments_are_no_call() {
        assert_eq!(found("#!/bin/sh\n# /etc/eks/bootstrap.sh stead\necho bootstrap.sh\n"), None);
        assert_eq!(find(&[]), None);
    }
}
