//! `nodestead status`: what runs, where, and what it would cost on AWS.

use comfy_table::{Table, presets::NOTHING};

use crate::{
    admin::{Admin, DaemonStatus, InstanceStatus},
    cli::{self, Format},
    layout::Layout,
};

pub(crate) async fn run(args: cli::Status) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let status: DaemonStatus = Admin::new(layout.admin_socket()).get("/v1/status").await?;
    match args.output.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Format::Table => print!("{}", rendered(&status)),
    }
    Ok(())
}

fn rendered(status: &DaemonStatus) -> String {
    let mut text = format!(
        "Region    {} (account {}), AWS endpoint {}, daemon {}\n",
        status.region, status.account, status.aws_endpoint, status.pid
    );
    for cluster in &status.clusters {
        // It has none before its API server answers.
        let at = match cluster.endpoint.as_str() {
            "" => String::new(),
            endpoint => format!(" at {endpoint}"),
        };
        text += &format!("Cluster   {} is {}{at}\n", cluster.name, cluster.status);
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["INSTANCE", "STATE", "TYPE", "ZONE", "ADDRESS", "NODE", "PID", "USD/HOUR"]);
    for instance in &status.instances {
        table.add_row([
            instance.id.clone(),
            state(instance),
            instance.instance_type.clone(),
            instance.zone.clone(),
            instance.private_ip.clone(),
            instance.node_name.clone(),
            instance.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            instance.usd_per_hour.map_or_else(|| "?".to_owned(), |usd| format!("{usd:.4}")),
        ]);
    }
    text += &format!("\n{}\n", table.trim_fmt());
    text +=
        &format!("\nOn AWS the running instances would cost {:.4} USD per hour.\n", hourly(status));
    for limit in &status.limits {
        text += &format!("Note: {limit}\n");
    }
    text
}

/// A running instance that cannot be reached says so.
fn state(instance: &InstanceStatus) -> String {
    match (instance.state.as_str(), instance.status_check.as_str()) {
        ("running", check @ ("initializing" | "impaired")) => format!("running ({check})"),
        (state, _) => state.to_owned(),
    }
}

/// The price of the running instances, without the control plane's.
fn hourly(status: &DaemonStatus) -> f64 {
    let running = status.instances.iter().filter(|it| it.state == "running");
    // Not `sum`: of nothing it is -0.
    running.filter_map(|it| it.usd_per_hour).fold(0.0, |sum, it| sum + it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ClusterStatus;

    #[test]
    fn a_region_without_instances_costs_nothing_and_a_cluster_without_endpoint_is_nowhere() {
        let status = DaemonStatus {
            pid: 1,
            region: "us-east-1".to_owned(),
            account: "111122223333".to_owned(),
            aws_endpoint: "http://127.0.0.1:4566".to_owned(),
            clusters: vec![ClusterStatus {
                name: "stead".to_owned(),
                status: "CREATING".to_owned(),
                endpoint: String::new(),
            }],
            instances: Vec::new(),
            limits: Vec::new(),
        };
        let text = rendered(&status);
        assert!(text.contains("would cost 0.0000 USD"), "{text}");
        assert!(text.contains("Cluster   stead is CREATING\n"), "{text}");
    }
}
