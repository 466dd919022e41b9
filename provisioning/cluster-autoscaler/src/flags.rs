//! Upstream's flags.
//!
//! A switch is given as `--flag` or `--flag=false`. Durations are Go's (`1m30s`).

mod idle;

use std::time::Duration;

pub use self::idle::Idle;

/// Go's way to write a duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    component_config::duration::parse(text)
        .ok_or_else(|| format!("`{text}` is no duration, as 1m30s is"))
}

/// `min:max`.
fn limits(text: &str) -> Result<(i64, i64), String> {
    let wrong = || format!("wrong limits `{text}`, expected <min>:<max>");
    let (min, max) = text.split_once(':').ok_or_else(wrong)?;
    let (min, max) = (min.parse().map_err(|_| wrong())?, max.parse().map_err(|_| wrong())?);
    if min < 0 || max < min { Err(wrong()) } else { Ok((min, max)) }
}

/// A type, and the least and the most that there may be of it.
type GpuLimits = (String, (i64, i64));

/// `type:min:max`; nothing where nothing is said.
pub(crate) fn gpu_limits(text: &str) -> Result<Option<GpuLimits>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("wrong argument: {text}, should have been gpu_type:min:max");
    let (kind, range) = text.split_once(':').filter(|it| !it.0.is_empty()).ok_or_else(wrong)?;
    let range = limits(range).map_err(|_| wrong())?;
    Ok(Some((kind.to_owned(), range)))
}

macro_rules! flags {
    (
        $(#[$about:meta])* $name:ident;
        switches { $($switch:ident = $on:literal, $help:literal;)* }
        durations { $($duration:ident = $default:literal, $what:literal;)* }
        values { $($value:ident: $type:ty = $standard:literal, $text:literal;)* }
        lists { $($list:ident, $about_list:literal;)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, clap::Args)]
        pub struct $name {
            $(
                #[doc = $help]
                #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
                #[arg(default_value_t = $on, action = clap::ArgAction::Set, hide_short_help = true)]
                pub $switch: bool,
            )*
            $(
                #[doc = $what]
                #[arg(long, value_parser = duration, default_value = $default, hide_short_help = true)]
                pub $duration: Duration,
            )*
            $(
                #[doc = $text]
                #[arg(long, default_value = $standard, allow_hyphen_values = true, hide_short_help = true)]
                pub $value: $type,
            )*
            $(
                #[doc = $about_list]
                #[arg(long, hide_short_help = true)]
                pub $list: Vec<String>,
            )*
        }
    };
}

flags! {
    /// Of adding nodes, and in general.
    General;
    switches {
        balance_similar_node_groups = false, "Keep groups of the same kind at about the same size.";
        scale_up_from_zero = true, "Let groups grow that have no node.";
        enforce_node_group_min_size = false, "Make groups grow to their least size.";
        force_delete_unregistered_nodes = false, "Replace instances that never become nodes also in groups at their least size.";
        force_ds = false, "Count DaemonSet pods that a live template node does not have yet.";
        frequent_loops_enabled = true, "Start a pass as soon as pods need a node.";
        emit_per_nodegroup_metrics = false, "Tell sizes and health of each group in metrics.";
        write_status_configmap = true, "Write status to a ConfigMap.";
        leader_elect = true, "Let one of several replicas work.";
    }
    durations {
        scan_interval = "10s", "How often the cluster is looked at.";
        max_node_provision_time = "15m", "How long an instance may take to become a node.";
        max_node_startup_time = "15m", "How long a node may take to become ready.";
        initial_node_group_backoff_duration = "5m", "How long a group that failed is left alone first.";
        max_node_group_backoff_duration = "30m", "How long it is left alone at most.";
        node_group_backoff_reset_timeout = "3h", "After how long its failures are forgotten.";
        new_pod_scale_up_delay = "0s", "How long new pods are waited with.";
        max_inactivity = "10m", "How long no pass may run before the health check fails.";
        max_failing_time = "15m", "How long no pass may succeed before the health check fails.";
        leader_elect_lease_duration = "15s", "How long others wait for the leader.";
        leader_elect_renew_deadline = "10s", "How long the leader tries to stay.";
        leader_elect_retry_period = "2s", "How long between tries.";
    }
    values {
        max_nodes_total: i64 = "0", "Most nodes of the whole cluster; 0 for no limit.";
        max_nodes_per_scaleup: usize = "1000", "Most nodes that one pass adds.";
        expander: String = "least-waste", "How one of several groups is chosen; several, with commas.";
        expendable_pods_priority_cutoff: i32 = "-10", "Pods of less priority add no nodes.";
        max_total_unready_percentage: f64 = "45", "The share of unready nodes at which all stops.";
        ok_total_unready_count: i64 = "3", "As many unready nodes are fine in any case.";
        memory_difference_ratio: f64 = "0.015", "How much memory of similar groups may differ.";
        max_free_difference_ratio: f64 = "0.05", "How much free resources of similar groups may differ.";
        max_allocatable_difference_ratio: f64 = "0.05", "How much allocatable may differ.";
        namespace: String = "kube-system", "Where the autoscaler runs.";
        status_config_map_name: String = "cluster-autoscaler-status", "The name of the status ConfigMap.";
        address: String = ":8085", "Where metrics are served; empty for nowhere.";
        leader_elect_resource_lock: String = "leases", "The kind of lock: leases is the only one.";
        leader_elect_resource_name: String = "cluster-autoscaler", "The lock's name.";
        leader_elect_resource_namespace: String = "", "The lock's namespace; the autoscaler's own otherwise.";
    }
    lists {
        nodes, "A group: min:max:name.";
        node_group_auto_discovery, "Groups with tags: asg:tag=KEY[=VALUE],….";
        gpu_total, "Least and most GPUs of a type in the cluster: TYPE:MIN:MAX.";
        balancing_ignore_label, "A label that similar groups may differ in.";
        balancing_label, "Groups are similar where these labels are the same, and nothing else counts.";
        ignore_taint, "A taint that a new node does not keep.";
        startup_taint, "A taint that a node has until it has started.";
        status_taint, "A taint that a new node does not keep, and that says nothing of readiness.";
    }
}

flags! {
    /// Of removing nodes.
    Removing;
    switches {
        scale_down_enabled = true, "Remove nodes that are not needed.";
        scale_down_unready_enabled = true, "Also those that are not ready.";
        scale_down_delay_type_local = false, "Delays hold one group, not all.";
        skip_nodes_with_system_pods = true, "Keep nodes with pods of kube-system that have no budget.";
        skip_nodes_with_local_storage = true, "Keep nodes with pods that use emptyDir or hostPath.";
        skip_nodes_with_custom_controller_pods = true, "Keep nodes with pods of unknown controllers.";
        ignore_daemonsets_utilization = false, "Do not count DaemonSets' pods as use.";
        ignore_mirror_pods_utilization = false, "Do not count mirror pods as use.";
        daemonset_eviction_for_empty_nodes = false, "Evict DaemonSets' pods of empty nodes.";
        daemonset_eviction_for_occupied_nodes = true, "Evict DaemonSets' pods of other nodes.";
        cordon_node_before_terminating = true, "Cordon a node that goes.";
    }
    durations {
        scale_down_delay_after_add = "10m", "How long nothing goes after something came.";
        scale_down_delay_after_delete = "0s", "How long nothing goes after something went.";
        scale_down_delay_after_failure = "3m", "How long nothing goes after that failed.";
        scale_down_unneeded_time = "10m", "How long a node must be unneeded.";
        scale_down_unready_time = "20m", "How long a node must be unready.";
        unremovable_node_recheck_timeout = "5m", "How long a node that cannot go is not asked about.";
        max_pod_eviction_time = "2m", "How long the eviction of a pod is tried.";
        node_delete_delay_after_taint = "5s", "How long between the taint and the rest.";
        node_deletion_delay_timeout = "2m", "How long annotations may delay a removal.";
        blocking_system_pod_distruption_timeout = "1h", "How long a pod of kube-system keeps its node.";
    }
    values {
        scale_down_utilization_threshold: f64 = "0.5", "A node of less use may go.";
        scale_down_gpu_utilization_threshold: f64 = "0.5", "Likewise for nodes with GPUs.";
        scale_down_non_empty_candidates_count: usize = "30", "How many nodes with pods may be unneeded at once.";
        scale_down_candidates_pool_ratio: f64 = "0.1", "The share of nodes that is simulated in a pass.";
        scale_down_candidates_pool_min_count: usize = "50", "As many are simulated in any case.";
        max_scale_down_parallelism: usize = "10", "How many nodes go at once.";
        max_drain_parallelism: usize = "1", "How many of them are drained.";
        max_graceful_termination_sec: u64 = "600", "The longest grace period that pods get, in seconds.";
        max_bulk_soft_taint_count: usize = "10", "How many nodes a pass soft taints.";
        min_replica_count: i32 = "0", "Pods of ReplicaSets and their like that want fewer keep their node.";
        drain_priority_config: String = "", "Pods go by priority: PRIORITY:SECONDS,…, the least first, each group with its grace period.";
    }
    lists {}
}

/// The rest.
#[derive(Clone, Debug, clap::Args)]
pub struct Limited {
    /// Least and most cores of the cluster.
    #[arg(long, value_parser = limits, default_value = "0:320000", hide_short_help = true)]
    pub cores_total: (i64, i64),
    /// Least and most memory of the cluster, in gibibytes.
    #[arg(long, value_parser = limits, default_value = "0:6400000", hide_short_help = true)]
    pub memory_total: (i64, i64),
    /// Schedulers that are not waited for: their pods need a node as soon as they are there.
    #[arg(long, value_delimiter = ',', hide_short_help = true)]
    pub bypassed_scheduler_names: Vec<String>,
}
