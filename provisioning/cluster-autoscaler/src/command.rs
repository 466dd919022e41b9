//! `cluster-autoscaler` alone, against any API server and any AWS endpoint, with upstream's flags.

use std::{net::SocketAddr, path::PathBuf};

use clock::Clock;
use lifecycle::Scope;
use tokio::net::TcpListener;
use transport::Place;

use crate::{
    Backoff, Cloud, Config, Discovery, Drain, Election, Ended, Expander, FixedGroup, GroupOptions,
    Limits, Options, ScaleDown, Similarity,
    act::priority,
    flags::{General, Idle, Limited, Removing, gpu_limits},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Upstream's flags; `--help` shows all of them.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  nodestead run cluster-autoscaler --kubeconfig ~/.kube/config \\\n    \
    --node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/stead"
)]
pub struct Args {
    /// The kubeconfig of the API server; the pod's service account where it is not given.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub kubeconfig: String,
    /// The address of the API server; overrides the kubeconfig's.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub kubernetes: String,
    /// The cloud: `aws` is the only one.
    #[arg(long, default_value = "aws", value_parser = ["aws"])]
    pub cloud_provider: String,
    /// Log verbosity, as klog counts it.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
    #[command(flatten)]
    pub general: General,
    #[command(flatten)]
    pub removing: Removing,
    #[command(flatten)]
    pub limited: Limited,
    #[command(flatten)]
    pub idle: Idle,
}

/// Runs until the process is told to stop, or another takes the lease.
pub async fn run(args: Args) -> Result<(), BoxError> {
    if let Some(flag) = args.idle.refused() {
        return Err(format!("{flag} asks for what this autoscaler does not have").into());
    }
    for flag in args.idle.without_effect() {
        tracing::debug!(flag, "a flag without effect");
    }
    let options = options(&args)?;
    let general = &args.general;
    let given = |it: &str| (!it.is_empty()).then(|| it.to_owned());
    let kubeconfig = given(&args.kubeconfig).map(PathBuf::from);
    let address = given(&args.kubernetes);
    let client =
        controller::client("cluster-autoscaler", kubeconfig.as_deref(), address.as_deref()).await?;
    let clock = Clock::system();
    let environment = |name: &str| std::env::var(name).ok();
    let aws = aws_wire::client::from_environment(environment, None, clock)?;
    let parse = |specs: &[String]| specs.iter().map(|it| Discovery::parse(it)).collect();
    let discovery: Result<Vec<_>, _> = parse(&general.node_group_auto_discovery);
    let fixed: Result<Vec<_>, _> = general.nodes.iter().map(|it| FixedGroup::parse(it)).collect();
    let cloud = Cloud::new(aws, discovery?, fixed?, options.scale_down.defaults.clone());
    let config = Config {
        election: general.leader_elect.then(|| election(general)),
        listener: listen(&general.address)?,
        status_name: general.write_status_configmap.then(|| general.status_config_map_name.clone()),
        frequent_loops: general.frequent_loops_enabled,
        max_inactivity: general.max_inactivity,
        max_failing: general.max_failing_time,
        options,
    };
    let mut signals = Ok(());
    let asked = async { signals = lifecycle::asked_to_end().await };
    match crate::run(client, cloud, config, clock, Scope::new(), asked).await {
        Ended::LostLease => {
            Err("leader election lost: the lease was not renewed in time, or another \
                                 autoscaler has it; start it again"
                .into())
        }
        Ended::Asked => signals.map_err(Into::into),
    }
}

fn listen(address: &str) -> Result<Option<TcpListener>, BoxError> {
    if address.is_empty() {
        return Ok(None);
    }
    // As Go has it, no host means every address: of both families, where the kernel has both.
    let listener = match address.starts_with(':') {
        true => bind(&format!("[::]{address}")).or_else(|_| bind(&format!("0.0.0.0{address}"))),
        false => bind(address),
    };
    listener.map(Some)
}

fn bind(address: &str) -> Result<TcpListener, BoxError> {
    let parsed: SocketAddr =
        address.parse().map_err(|_| format!("--address={address} is no address"))?;
    let listener = Place::Here.listen(parsed);
    Ok(listener.map_err(|it| format!("failed to listen on {address}: {it}"))?)
}

fn election(flags: &General) -> Election {
    let namespace = match flags.leader_elect_resource_namespace.as_str() {
        "" => flags.namespace.clone(),
        given => given.to_owned(),
    };
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
    Election {
        namespace,
        name: flags.leader_elect_resource_name.clone(),
        identity: format!("{host}_{}", entropy::uuid()),
        lease_duration: flags.leader_elect_lease_duration,
        renew_deadline: flags.leader_elect_renew_deadline,
        retry_period: flags.leader_elect_retry_period,
    }
}

fn options(args: &Args) -> Result<Options, BoxError> {
    let (general, removing) = (&args.general, &args.removing);
    if general.leader_elect_resource_lock != "leases" {
        return Err(format!("invalid lock kind {}", general.leader_elect_resource_lock).into());
    }
    let expanders: Result<Vec<_>, _> = general.expander.split(',').map(Expander::parse).collect();
    let limits = |(min, max): (i64, i64), unit: i64| Limits {
        min: min.saturating_mul(unit),
        max: max.saturating_mul(unit),
    };
    let gpus: Result<Vec<_>, _> = general.gpu_total.iter().map(|it| gpu_limits(it)).collect();
    let gpus = gpus?;
    let mut startup_taints = general.startup_taint.clone();
    startup_taints.extend(general.ignore_taint.clone());
    Ok(Options {
        namespace: general.namespace.clone(),
        scan_interval: general.scan_interval,
        max_nodes_total: general.max_nodes_total,
        cores: limits(args.limited.cores_total, 1),
        memory: limits(args.limited.memory_total, 1 << 30),
        gpus: gpus.into_iter().flatten().map(|(kind, it)| (kind, limits(it, 1))).collect(),
        expanders: expanders?,
        max_nodes_per_scale_up: general.max_nodes_per_scaleup,
        balance_similar: general.balance_similar_node_groups,
        similarity: Similarity {
            ignored_labels: general.balancing_ignore_label.clone(),
            labels: general.balancing_label.clone(),
            memory_ratio: general.memory_difference_ratio,
            allocatable_ratio: general.max_allocatable_difference_ratio,
            free_ratio: general.max_free_difference_ratio,
        },
        new_pod_delay: general.new_pod_scale_up_delay,
        expendable_below: general.expendable_pods_priority_cutoff,
        scale_up_from_zero: general.scale_up_from_zero,
        enforce_min_size: general.enforce_node_group_min_size,
        force_unregistered: general.force_delete_unregistered_nodes,
        max_startup_time: general.max_node_startup_time,
        max_unready_percentage: general.max_total_unready_percentage,
        ok_unready: general.ok_total_unready_count,
        backoff: Backoff {
            initial: general.initial_node_group_backoff_duration,
            max: general.max_node_group_backoff_duration,
            reset: general.node_group_backoff_reset_timeout,
        },
        scale_down: scale_down(removing, general),
        drain: drain(removing)?,
        startup_taints,
        status_taints: general.status_taint.clone(),
        force_daemon_sets: general.force_ds,
        ignored_schedulers: args.limited.bypassed_scheduler_names.clone(),
        per_group_metrics: general.emit_per_nodegroup_metrics,
    })
}

fn scale_down(flags: &Removing, general: &General) -> ScaleDown {
    ScaleDown {
        is_enabled: flags.scale_down_enabled,
        defaults: GroupOptions {
            utilization_threshold: flags.scale_down_utilization_threshold,
            gpu_utilization_threshold: flags.scale_down_gpu_utilization_threshold,
            unneeded_time: flags.scale_down_unneeded_time,
            unready_time: flags.scale_down_unready_time,
            ignore_daemon_sets: flags.ignore_daemonsets_utilization,
            ignore_mirror_pods: flags.ignore_mirror_pods_utilization,
            max_provision_time: general.max_node_provision_time,
        },
        unready_enabled: flags.scale_down_unready_enabled,
        delay_after_add: flags.scale_down_delay_after_add,
        delay_after_delete: flags.scale_down_delay_after_delete,
        delay_after_failure: flags.scale_down_delay_after_failure,
        is_delay_local: flags.scale_down_delay_type_local,
        max_parallelism: flags.max_scale_down_parallelism,
        max_drain_parallelism: flags.max_drain_parallelism,
        non_empty_candidates: flags.scale_down_non_empty_candidates_count,
        pool_ratio: flags.scale_down_candidates_pool_ratio,
        pool_min: flags.scale_down_candidates_pool_min_count,
        recheck: flags.unremovable_node_recheck_timeout,
        max_soft_taints: flags.max_bulk_soft_taint_count,
        delay_after_taint: flags.node_delete_delay_after_taint,
        deletion_delay_limit: flags.node_deletion_delay_timeout,
        cordon: flags.cordon_node_before_terminating,
    }
}

fn drain(flags: &Removing) -> Result<Drain, BoxError> {
    let priorities = priority::parse(&flags.drain_priority_config)?;
    let standard = Drain::default().max_graceful_termination.as_secs();
    if !priorities.is_empty() && flags.max_graceful_termination_sec != standard {
        let why = "invalid configuration, could not use --drain-priority-config together with \
                   --max-graceful-termination-sec";
        return Err(why.into());
    }
    Ok(Drain {
        min_replicas: flags.min_replica_count,
        priorities,
        skip_system_pods: flags.skip_nodes_with_system_pods,
        system_pod_limit: flags.blocking_system_pod_distruption_timeout,
        skip_local_storage: flags.skip_nodes_with_local_storage,
        skip_custom_controllers: flags.skip_nodes_with_custom_controller_pods,
        max_graceful_termination: std::time::Duration::from_secs(
            flags.max_graceful_termination_sec,
        ),
        max_eviction_time: flags.max_pod_eviction_time,
        evict_daemon_sets_of_empty: flags.daemonset_eviction_for_empty_nodes,
        evict_daemon_sets_of_occupied: flags.daemonset_eviction_for_occupied_nodes,
    })
}

#[cfg(test)]
mod tests;
