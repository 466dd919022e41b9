//! Upstream's flags that are taken and change nothing, so that a manifest of upstream's works as it is.
//!
//! Deviation: how many objects of a kind are worked on at once (`--concurrent-…-syncs`) is not set by
//! flags; requests are not paced (`--kube-api-qps`, `--kube-api-burst`): each controller has a bounded
//! number under way, and the API server says who has to wait.

use std::time::Duration;

use controller::flags::go_duration;

/// See the module.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Taken, and without effect")]
pub struct TakenFlags {
    #[arg(long)]
    pub cluster_name: Option<String>,
    #[arg(long)]
    pub cluster_cidr: Option<String>,
    #[arg(long)]
    pub service_cluster_ip_range: Option<String>,
    #[arg(long)]
    pub node_cidr_mask_size: Option<u8>,
    /// Node controllers of clouds run outside of this process.
    #[arg(long, value_parser = ["", "external"])]
    pub cloud_provider: Option<String>,
    #[arg(long)]
    pub concurrent_cron_job_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_daemonset_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_deployment_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_endpoint_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_ephemeralvolume_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_gc_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_horizontal_pod_autoscaler_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_job_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_namespace_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_rc_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_replicaset_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_resource_quota_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_service_endpoint_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_serviceaccount_token_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_statefulset_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_ttl_after_finished_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_service_syncs: Option<u32>,
    #[arg(long)]
    pub concurrent_validating_admission_policy_status_syncs: Option<u32>,
    #[arg(long)]
    pub mirroring_concurrent_service_endpoint_syncs: Option<u32>,
    /// Objects are watched, and looked at again where something may have been missed.
    #[arg(long, value_parser = go_duration)]
    pub min_resync_period: Option<Duration>,
    #[arg(long, value_parser = go_duration)]
    pub namespace_sync_period: Option<Duration>,
    #[arg(long, value_parser = go_duration)]
    pub resource_quota_sync_period: Option<Duration>,
    #[arg(long, value_parser = go_duration)]
    pub pvclaimbinder_sync_period: Option<Duration>,
    #[arg(long, value_parser = go_duration)]
    pub attach_detach_reconcile_sync_period: Option<Duration>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub disable_attach_detach_reconcile_sync: Option<bool>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub configure_cloud_routes: Option<bool>,
    #[arg(long, value_parser = go_duration)]
    pub route_reconciliation_period: Option<Duration>,
    #[arg(long)]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    #[arg(long)]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    #[arg(long, value_parser = go_duration)]
    pub node_monitor_period: Option<Duration>,
    #[arg(long, value_parser = go_duration)]
    pub node_startup_grace_period: Option<Duration>,
    #[arg(long)]
    pub flex_volume_plugin_dir: Option<String>,
    #[arg(long, value_parser = go_duration)]
    pub controller_start_interval: Option<Duration>,
}
