//! `nodestead doctor iam`: the golden rule, that a node's role holds what the node needs and no more.
//!
//! Every pod that reaches the metadata service is the node's role. So what an application needs
//! belongs to its service account: IRSA or Pod Identity. With `--role` it proposes the policy that a
//! role's recorded calls need instead.
//!
//! Source: EKS best practices, "Identity and access management" (checks 13 to 16 of the reference).

mod node;
mod proposal;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde::Serialize;

use self::node::Permission;
use crate::{
    admin::{Admin, DaemonStatus},
    cli::{DoctorIam, Format},
    clusters,
    commands::explain::pod_credentials::{chain, facts::Facts},
    failure::{Failure, Status},
    iam::Iam,
    kubernetes,
    layout::Layout,
    progress::Waiting,
    region,
};

/// What ends with 1: something was found.
const FOUND: u8 = 1;

/// What is known of one node role.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    role: String,
    nodes: Vec<String>,
    /// What nodes do not need.
    application_permissions: Vec<Permission>,
    /// Pods whose containers get the role's credentials: `NAMESPACE/NAME`.
    inheriting_pods: Vec<String>,
    /// Of these, those that are meant to: they use the node's network.
    host_network_pods: usize,
    advice: Vec<String>,
}

impl Report {
    /// Whether a pod has, by its node, what only an application needs.
    fn is_finding(&self) -> bool {
        !self.application_permissions.is_empty()
    }
}

pub(super) async fn run(args: &DoctorIam) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    if let Some(role) = &args.role {
        return proposal::run(&layout, args, role).await;
    }
    let waiting = Waiting::new("asking for roles, what they may do, and pods");
    let reports = reports(&layout).await?;
    drop(waiting);
    match args.output.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&reports)?),
        Format::Table => print!("{}", rendered(&reports)),
    }
    match reports.iter().any(Report::is_finding) {
        true => Err(Status(FOUND).into()),
        false => Ok(()),
    }
}

async fn reports(layout: &Layout) -> anyhow::Result<Vec<Report>> {
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let kubernetes = kubernetes::client(layout).await?;
    let client = region::client(layout, &status)?;
    let pods = Api::<Pod>::all(kubernetes.clone()).list(&ListParams::default()).await;
    let pods = pods.context("cannot list the pods")?.items;
    let pods: Vec<&Pod> = pods.iter().filter(|it| !has_ended(it)).collect();
    let cluster = clusters::chosen(layout, &status, None)?;
    let facts = Facts::read(&kubernetes, &client, &status, &cluster, &pods).await?;
    let iam = Iam::new(client);
    let mut by_role: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (node, instance) in &facts.instances {
        if let Some(role) = &instance.role {
            by_role.entry(role).or_default().insert(node);
        }
    }
    let mut reports = Vec::new();
    for (role, nodes) in by_role {
        let entity = iam.role(role).await?;
        let entity = entity.ok_or_else(|| {
            Failure::new(
                format!("role `{role}` of {} nodes is gone", nodes.len()),
                "give the instance profile a role that exists",
            )
        })?;
        reports.push(report(role, &nodes, node::permissions(&entity.documents), &pods, &facts));
    }
    Ok(reports)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn report(
    role: &str,
    nodes: &BTreeSet<&str>,
    application_permissions: Vec<Permission>,
    pods: &[&Pod],
    facts: &Facts,
) -> Report {
    let here = pods.iter().filter(|pod| {
        let node = pod.spec.as_ref().and_then(|it| it.node_name.as_deref());
        node.is_some_and(|it| nodes.contains(it))
    });
    let inherits = |pod: &&&Pod| {
        let found = chain::of_pod(pod, facts);
        found.iter().any(|it| it.works && it.source == "instance-metadata")
    };
    let inheriting: Vec<&&Pod> = here.filter(inherits).collect();
    let is_on_host =
        |pod: &&&&Pod| pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or(false);
    let host_network_pods = inheriting.iter().filter(is_on_host).count();
    let mut advice = Vec::new();
    if !application_permissions.is_empty() {
        advice.push(format!(
            "give these permissions to the service accounts that need them (IRSA or Pod Identity) \
             and take them from {role}; see what a role has used with `nodestead doctor iam --role \
             {role}`"
        ));
    }
    let open = nodes.iter().filter(|it| {
        facts.instances.get(**it).is_some_and(|it| it.hop_limit > 1 || !it.requires_tokens)
    });
    let open = open.count();
    if open > 0 && inheriting.len() > host_network_pods {
        advice.push(format!(
            "{open} of {} nodes let pods reach the metadata service: require tokens and set \
             HttpPutResponseHopLimit to 1",
            nodes.len()
        ));
    }
    Report {
        role: role.to_owned(),
        nodes: nodes.iter().map(|it| (*it).to_owned()).collect(),
        application_permissions,
        inheriting_pods: inheriting
            .iter()
            .map(|it| format!("{}/{}", it.namespace().unwrap_or_default(), it.name_any()))
            .collect(),
        host_network_pods,
        advice,
    }
}

fn rendered(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "No node has a role.\n".to_owned();
    }
    let mut text = String::new();
    for it in reports {
        text += &format!("Role {} of {} nodes: ", it.role, it.nodes.len());
        match it.application_permissions.len() {
            0 => text += "nothing that nodes do not need\n",
            1 => text += "one statement that nodes do not need\n",
            count => text += &format!("{count} statements that nodes do not need\n"),
        }
        for permission in &it.application_permissions {
            text += &format!(
                "  {} (statement {}): {} on {}\n",
                permission.policy,
                permission.statement,
                permission.actions.join(", "),
                permission.resources.join(", "),
            );
        }
        let (all, on_host) = (it.inheriting_pods.len(), it.host_network_pods);
        text +=
            &format!("  {all} pods get its credentials, {on_host} of them by the node's network\n");
        if it.is_finding() {
            for pod in &it.inheriting_pods {
                text += &format!("    {pod}\n");
            }
        }
        for advice in &it.advice {
            text += &format!("  next: {advice}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::explain::pod_credentials::facts::Instance;

    fn facts(hop_limit: i64) -> Facts {
        let instance = Instance {
            id: "i-1".to_owned(),
            role: Some("node".to_owned()),
            has_endpoint: true,
            requires_tokens: true,
            hop_limit,
        };
        Facts { instances: [("a".to_owned(), instance)].into(), ..Facts::default() }
    }

    fn pod(name: &str, node: &str, on_host: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": name},
            "spec": {"nodeName": node, "hostNetwork": on_host, "containers": [{"name": "c"}]},
        }))
        .unwrap()
    }

    fn found(hop_limit: i64, permissions: Vec<Permission>) -> Report {
        let pods = [pod("web", "a", false), pod("agent", "a", true), pod("far", "b", true)];
        let pods: Vec<&Pod> = pods.iter().collect();
        report("node", &BTreeSet::from(["a"]), permissions, &pods, &facts(hop_limit))
    }

    fn s3() -> Vec<Permission> {
        vec![Permission {
            policy: "app".to_owned(),
            statement: "0".to_owned(),
            actions: vec!["s3:*".to_owned()],
            resources: vec!["*".to_owned()],
        }]
    }

    #[test]
    fn pods_inherit_a_nodes_role_as_far_as_the_hop_limit_reaches() {
        assert_eq!(found(2, s3()).inheriting_pods, ["n/web", "n/agent"]);
        let near = found(1, s3());
        assert_eq!((near.inheriting_pods, near.host_network_pods), (vec!["n/agent".to_owned()], 1));
    }

    #[test]
    fn application_permissions_are_a_finding_and_name_the_pods() {
        let it = found(2, s3());
        assert!(it.is_finding());
        let text = rendered(&[it]);
        assert!(text.contains("app (statement 0): s3:* on *"), "{text}");
        assert!(text.contains("    n/web\n") && text.contains("IRSA"), "{text}");
        assert!(text.contains("HopLimit to 1"), "{text}");
        let clean = found(1, Vec::new());
        assert!(!clean.is_finding() && clean.advice.is_empty(), "{clean:?}");
    }
}
