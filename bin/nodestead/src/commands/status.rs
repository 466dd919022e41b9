//! `nodestead status`: what runs, where, and what it would cost on AWS.

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use crate::{
    admin::{Admin, DaemonStatus, InstanceStatus, LoadBalancerStatus},
    cli::{self, Format},
    commands::down,
    failure::Failure,
    layout::Layout,
    progress::Waiting,
    sweep::leftovers::{self, Leftovers},
};

/// What the daemon tells, and what it does not know of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(flatten)]
    status: DaemonStatus,
    leftovers: Vec<Leftovers>,
    /// Why what other regions left is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    leftovers_unknown: Option<String>,
}

pub(crate) async fn run(args: cli::Status) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let waiting = Waiting::new("asking the region");
    let asked = Admin::new(layout.admin_socket()).get::<DaemonStatus>("/v1/status").await;
    // Only root may look for it everywhere.
    let is_root = nix::unistd::geteuid().is_root();
    let found = if is_root { leftovers::find(&layout) } else { Ok(Vec::new()) };
    drop(waiting);
    let (leftovers, leftovers_unknown) = known(found);
    let status = match asked {
        Ok(status) => status,
        Err(error) => {
            eprint!("{}", notes(leftovers.iter().filter(|it| it.id != layout.id())));
            // It listens when its state is read and its images are there.
            if let Some(daemon) = down::daemon(&layout) {
                return Err(starting(&layout, daemon.pid, &error).into());
            }
            let own = leftovers.iter().find(|it| it.id == layout.id());
            return Err(own.map_or(error, |it| dead(&layout, it).into()));
        }
    };
    let told = Told { status, leftovers, leftovers_unknown };
    match args.output.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&told)?),
        Format::Table => {
            print!("{}{}", rendered(&told.status), notes(&told.leftovers));
            if let Some(why) = &told.leftovers_unknown {
                println!("Note: what other regions have left could not be looked for: {why}");
            }
        }
    }
    Ok(())
}

/// Leftovers are a word beside the status: one that cannot be said hides nothing else.
fn known(found: anyhow::Result<Vec<Leftovers>>) -> (Vec<Leftovers>, Option<String>) {
    match found {
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    }
}

/// The daemon is alive and does not answer yet.
fn starting(layout: &Layout, pid: i32, error: &anyhow::Error) -> Failure {
    let at = layout.root().display();
    Failure::new(
        format!("the region on `{at}` is starting (process {pid}), or hangs: {error:#}"),
        format!(
            "try again in some seconds; `nodestead logs daemon --data-dir {at}` tells what it does"
        ),
    )
}

/// The region's daemon does not run, and something of the region is there.
fn dead(layout: &Layout, left: &Leftovers) -> Failure {
    let at = layout.root().display();
    Failure::new(
        format!("no daemon runs on `{at}`, and of its region there is left: {}", left.summary()),
        format!(
            "go on with it with `nodestead up --data-dir {at}`, or remove it with {}",
            left.way_out()
        ),
    )
}

fn notes<'a>(leftovers: impl IntoIterator<Item = &'a Leftovers>) -> String {
    let note = |it: &Leftovers| {
        let of = match &it.data_dir {
            Some(dir) => format!("the region of `{}`", dir.display()),
            None => format!("region {}, whose data directory is not known", it.id),
        };
        let (what, out) = (it.summary(), it.way_out());
        format!("Note: {of} does not run and has left {what}: remove it with {out}\n")
    };
    leftovers.into_iter().map(note).collect()
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
    text += &load_balancers(&status.load_balancers);
    text +=
        &format!("\nOn AWS the running instances would cost {:.4} USD per hour.\n", hourly(status));
    for limit in &status.limits {
        text += &format!("Note: {limit}\n");
    }
    text
}

/// What a browser on this machine can be pointed at.
fn load_balancers(all: &[LoadBalancerStatus]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["LOAD BALANCER", "SERVICE", "ON THIS MACHINE", "IN SERVICE"]);
    for it in all {
        let url = |endpoint: &String| match endpoint.strip_suffix(":80") {
            Some(address) => format!("http://{address}"),
            None => endpoint.clone(),
        };
        let urls: Vec<String> = it.host_endpoints.iter().map(url).collect();
        table.add_row([
            it.name.clone(),
            it.service.clone().unwrap_or_else(|| "-".to_owned()),
            if urls.is_empty() { "-".to_owned() } else { urls.join(" ") },
            format!("{} of {}", it.in_service, it.instances),
        ]);
    }
    let mut text = format!("\n{}\n", table.trim_fmt());
    for it in all {
        for problem in &it.problems {
            text += &format!("Note: the load balancer {} {problem}\n", it.name);
        }
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
            load_balancers: Vec::new(),
            limits: Vec::new(),
        };
        let text = rendered(&status);
        assert!(!text.contains("LOAD BALANCER"), "{text}");
        assert!(text.contains("would cost 0.0000 USD"), "{text}");
        assert!(text.contains("Cluster   stead is CREATING\n"), "{text}");
    }
    #[test]
    fn a_load_balancer_is_shown_with_what_a_browser_here_can_open() {
        let balancer = LoadBalancerStatus {
            name: "a1".to_owned(),
            service: Some("default/web".to_owned()),
            host_endpoints: vec!["127.64.0.1:80".to_owned(), "127.64.0.1:8443".to_owned()],
            instances: 3,
            in_service: 2,
            problems: vec!["cannot listen on 127.64.0.1:80: Address in use".to_owned()],
            ..LoadBalancerStatus::default()
        };
        let text = load_balancers(&[balancer]);
        assert!(text.contains("default/web"), "{text}");
        assert!(text.contains("http://127.64.0.1 127.64.0.1:8443"), "{text}");
        assert!(text.contains("2 of 3"), "{text}");
        assert!(text.contains("Note: the load balancer a1 cannot listen on"), "{text}");
    }

    #[test]
    fn leftovers_that_cannot_be_listed_are_said_to_be_unknown_and_hide_nothing() {
        let error = anyhow::anyhow!("no such device").context("cannot list namespaces");
        let (found, unknown) = known(Err(error));
        assert!(found.is_empty());
        assert_eq!(unknown.as_deref(), Some("cannot list namespaces: no such device"));
        assert_eq!(known(Ok(vec![Leftovers::default()])).1, None);
    }

    #[test]
    fn what_a_region_without_a_daemon_has_left_is_said_with_what_to_do() {
        let left = Leftovers {
            id: "0a1b2c".to_owned(),
            namespaces: vec!["nst-0a1b2c-vpc-1".to_owned(), "nst-0a1b2c-i-1".to_owned()],
            cgroups: vec!["nodestead/0a1b2c".to_owned()],
            processes: 3,
            ..Leftovers::default()
        };
        let text = notes([&left]);
        assert!(text.contains("2 namespaces, 1 cgroup with 3 processes"), "{text}");
        assert!(text.contains("region 0a1b2c") && text.contains("nodestead down --all"), "{text}");
        let known = Leftovers { data_dir: Some("/x".into()), ..left };
        assert!(notes([&known]).contains("remove it with `nodestead down --data-dir /x`"));
        let layout = Layout::new(std::path::Path::new("/var/lib/no-such-region")).unwrap();
        let failure = format!("{:?}", dead(&layout, &known));
        assert!(
            failure.contains("nodestead up") && failure.contains("nodestead down"),
            "{failure}"
        );
    }
}
