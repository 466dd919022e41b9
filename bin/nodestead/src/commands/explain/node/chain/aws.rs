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

/// The console's last word on configuring, in this boot.
pub(super) fn boot(it: &Instance, is_registered: bool) -> Verdict {
    let lines: Vec<_> = it.console.lines().collect();
    let start = lines.iter().rposition(|it| plain(it).ends_with(": booting"));
    let lines = &lines[start.unwrap_or_default()..];
    let told = lines.iter().enumerate().rev().find_map(|(at, line)| match *line {
        line if line.contains("user data asked for no node") => Some(Ok(false)),
        line if line.contains("the node is configured") => Some(Ok(true)),
        line if line.contains("failed to configure the node") => Some(Err(at)),
        _ => None,
    });
    match told {
        Some(Ok(true)) => good("nodeadm has configured containerd and the kubelet"),
        Some(Ok(false)) => good("it is up, and its user data asked for no node: it has no kubelet"),
        Some(Err(at)) => fails(
            failure(&lines[..=at]),
            format!("aws ec2 get-console-output --instance-id {}", it.id),
        ),
        // The console keeps its end only.
        None if is_registered => good("its kubelet has registered the node"),
        None => unknown("the console says nothing of it"),
    }
}

/// nodeadm says which step failed and why, below each other; init, on the last line, only that it did.
fn failure(lines: &[&str]) -> String {
    let Some((last, before)) = lines.split_last() else { return String::new() };
    let begins = |it: &&str| plain(it).starts_with("error: ");
    let Some(start) = before.iter().rposition(begins) else { return said(last) };
    let is_other = before[start..].iter().any(|it| it.contains("failed to configure the node"));
    if is_other {
        return said(last);
    }
    let error = plain(before[start]);
    let causes = before[start + 1..].iter().map(|it| plain(it));
    let causes = causes.filter_map(|it| it.strip_prefix("because: ").map(str::to_owned));
    let error = error.trim_start_matches("error: ").to_owned();
    std::iter::once(error).chain(causes).collect::<Vec<_>>().join(": ")
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
    lines.find(|it| has_word(it, words)).map(said)
}

/// What a line of a log says, without when, where and how loud: the message, and its error.
fn said(line: &str) -> String {
    let line = plain(line);
    let loud = ["WARN ", "ERROR "].into_iter().find_map(|level| line.split_once(level));
    let rest = loud.map_or(line.as_str(), |(_, rest)| rest.trim_start());
    let is_target = |it: &str| !it.contains(' ');
    let message = match rest.split_once(": ") {
        Some((target, message)) if is_target(target) => message,
        _ => rest,
    };
    let is_field = |it: &str| {
        let name = it.split_once('=').map(|(name, _)| name);
        let is_small = |it: char| it.is_ascii_lowercase() || it == '_';
        name.is_some_and(|it| !it.is_empty() && it.chars().all(is_small))
    };
    let words: Vec<_> = message.split(' ').collect();
    let fields = words.iter().position(|it| is_field(it)).unwrap_or(words.len());
    let told = words[..fields].join(" ");
    let mut names = [" error=", " failure="].into_iter();
    match names.find_map(|name| message.split_once(name)) {
        Some((_, why)) => format!("{told}: {}", why.trim_matches('"')),
        None => told,
    }
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
