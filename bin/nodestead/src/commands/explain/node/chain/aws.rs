//! The steps that rest on EC2 and IAM.

use nodeadm::{bootstrap_sh, node_config::NodeConfig, user_data::UserData};

use super::{Cluster, Instance, Verdict, fails, good, unknown};

pub(super) fn instance(it: &Instance) -> Verdict {
    let reason = match it.state_reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    match it.state.as_str() {
        "running" => good(format!("{} {} runs in {}", it.kind, it.node_name, it.zone)),
        "pending" => unknown("it is starting"),
        "stopped" | "stopping" => fails(
            format!("it is {}{reason}", it.state),
            format!("aws ec2 start-instances --instance-ids {}", it.id),
        ),
        other => fails(format!("it is {other}{reason}"), "launch another one"),
    }
}

pub(super) fn user_data(it: &Instance, cluster: &Cluster) -> Verdict {
    let next = "launch it with a NodeConfig of node.eks.aws in its user data";
    if it.user_data.trim_ascii().is_empty() {
        return fails("it has none: nothing tells the instance to be a node", next);
    }
    if String::from_utf8_lossy(&it.user_data).contains("[settings.kubernetes]") {
        return unknown("settings of Bottlerocket, which are not looked into here");
    }
    let data = match UserData::parse(&it.user_data) {
        Ok(data) => data,
        Err(error) => return fails(telemetry::chain(&error).to_string(), next),
    };
    match NodeConfig::parse(&data.configs) {
        Err(error) => fails(telemetry::chain(&error).to_string(), next),
        Ok(None) => match bootstrap_sh::find(&data.scripts) {
            Some(call) => fails(
                "it calls /etc/eks/bootstrap.sh of Amazon Linux 2, which this image does not have",
                format!("use this in its place:\n{}", call.node_config()),
            ),
            None => fails("it has no NodeConfig: nothing tells the instance to be a node", next),
        },
        Ok(Some(config)) => of_cluster(&config, cluster),
    }
}

/// Whether the configuration is that of the cluster.
fn of_cluster(config: &NodeConfig, cluster: &Cluster) -> Verdict {
    let own = &config.cluster;
    let wrong = |field: &str, is: &str, should: &str| {
        let next = format!("aws eks describe-cluster --name {} tells it", cluster.name);
        fails(format!("spec.cluster.{field} is {is}, and the cluster's is {should}"), next)
    };
    let host = own.api_server_endpoint.trim_start_matches("https://").trim_end_matches('/');
    let host = host.split(':').next().unwrap_or(host);
    let lines = |pem: &str| pem.split_whitespace().collect::<String>();
    if own.name != cluster.name {
        wrong("name", &own.name, &cluster.name)
    } else if !cluster.host.is_empty()
        && !host.eq_ignore_ascii_case(&cluster.host)
        // nodeadm asks EKS for the VPC's.
        && !nodeadm::endpoint::is_loopback(&own.api_server_endpoint)
    {
        wrong("apiServerEndpoint", host, &cluster.host)
    } else if !cluster.authority.is_empty()
        && lines(&own.certificate_authority) != lines(&cluster.authority)
    {
        let next = format!("aws eks describe-cluster --name {} tells it", cluster.name);
        fails("spec.cluster.certificateAuthority is not the cluster's", next)
    } else if !cluster.cidr.is_empty() && own.cidr.to_string() != cluster.cidr {
        wrong("cidr", &own.cidr.to_string(), &cluster.cidr)
    } else {
        good(format!("a NodeConfig for cluster {}", own.name))
    }
}

pub(super) fn metadata(it: &Instance) -> Verdict {
    if it.has_metadata {
        return good("the instance metadata service answers");
    }
    fails(
        "the instance metadata service is disabled: nodeadm cannot learn what instance this is",
        format!(
            "aws ec2 modify-instance-metadata-options --instance-id {} --http-endpoint enabled",
            it.id
        ),
    )
}

pub(super) fn role(it: &Instance) -> Verdict {
    let Some(profile) = &it.profile else {
        let next = format!(
            "aws ec2 associate-iam-instance-profile --instance-id {} --iam-instance-profile Name=…",
            it.id
        );
        return fails("it has no instance profile, and so no credentials", next);
    };
    match &it.role {
        None => fails(
            format!("instance profile {profile} does not exist any more, or has no role"),
            "aws iam add-role-to-instance-profile --instance-profile-name … --role-name …",
        ),
        Some(role) if !role.trusts_ec2 => fails(
            format!("{} does not trust ec2.amazonaws.com", role.arn),
            "aws iam update-assume-role-policy --role-name … --policy-document …",
        ),
        Some(role) => good(role.arn.clone()),
    }
}

pub(super) fn rights(it: &Instance) -> Verdict {
    match &it.role {
        None => unknown("there is no role"),
        Some(role) if role.denied.is_empty() => good("what a node needs to join and to pull"),
        Some(role) => fails(
            format!("{} may not {}", role.arn, role.denied.join(", ")),
            "attach AmazonEKSWorkerNodePolicy and AmazonEC2ContainerRegistryPullOnly to it",
        ),
    }
}

pub(super) fn dns(it: &Instance) -> Verdict {
    if it.has_dns {
        return good("the VPC's resolver answers");
    }
    fails(
        "enableDnsSupport of the VPC is off: the cluster's endpoint has no address there",
        "aws ec2 modify-vpc-attribute --vpc-id … --enable-dns-support",
    )
}

/// The console's last word on configuring.
pub(super) fn boot(it: &Instance) -> Verdict {
    let lines = it.console.lines().rev();
    let told = lines.clone().find_map(|line| match line {
        line if line.contains("the node is configured") => Some(Ok(())),
        line if line.contains("failed to configure the node") => Some(Err(line)),
        _ => None,
    });
    match told {
        Some(Ok(())) => good("nodeadm has configured containerd and the kubelet"),
        Some(Err(line)) => {
            // nodeadm says which step; init only that it failed.
            let step = lines.into_iter().find(|it| it.contains("step `")).unwrap_or(line);
            fails(plain(step), format!("aws ec2 get-console-output --instance-id {}", it.id))
        }
        None => unknown("the console says nothing of it"),
    }
}

const UNREACHABLE: [&str; 8] = [
    "timed out",
    "deadline has elapsed",
    "connection refused",
    "unreachable",
    "lookup",
    "resolve",
    "certificate",
    "failed to connect",
];
/// Words of whoever was reached.
const REFUSED: [&str; 4] = ["unauthorized", "401", "forbidden", "403"];

/// What a kubelet that is no node last says of the endpoint.
pub(super) fn endpoint(it: &Instance, cluster: &Cluster) -> Verdict {
    let said = complaint(&it.kubelet_log, &[&UNREACHABLE[..], &REFUSED].concat());
    match said {
        Some(line) if has_word(&line, &REFUSED) => good("the API server answers the kubelet"),
        Some(line) => fails(
            line,
            format!(
                "look at the way to {}: routes, security groups, and the endpoint's access",
                cluster.host
            ),
        ),
        None => unknown("the kubelet does not complain of it"),
    }
}

fn has_word(line: &str, words: &[&str]) -> bool {
    let lower = line.to_ascii_lowercase();
    words.iter().any(|word| lower.contains(word))
}

/// The kubelet's last complaint that has one of the words, which are in lower case.
pub(super) fn complaint(log: &str, words: &[&str]) -> Option<String> {
    let is_complaint = |it: &&str| it.contains("WARN") || it.contains("ERROR");
    let mut lines = log.lines().rev().take(200).filter(is_complaint);
    lines.find(|it| has_word(it, words)).map(plain)
}

/// Without the colours of a terminal.
pub(super) fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            text.push(letter);
        }
    }
    text.trim().to_owned()
}
