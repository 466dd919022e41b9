//! Flags that change nothing here, and flags of what is not here.
//!
//! The first are accepted, whatever they say: they tune what this autoscaler does otherwise, or
//! concern other clouds. The second may say what upstream's default is; anything else is refused.

macro_rules! idle {
    (
        accepted switches { $($free_switch:ident)* }
        accepted values { $($free:ident)* }
        refused switches { $($switch:ident = $off:literal)* }
        refused values { $($value:ident = $default:literal)* }
    ) => {
        /// See the module.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct Idle {
            $(
                #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
                #[arg(hide = true)]
                $free_switch: Option<bool>,
            )*
            $(
                #[arg(long, hide = true, allow_hyphen_values = true)]
                $free: Vec<String>,
            )*
            $(
                #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
                #[arg(hide = true)]
                $switch: Option<bool>,
            )*
            $(
                #[arg(long, hide = true, allow_hyphen_values = true)]
                $value: Vec<String>,
            )*
        }

        impl Idle {
            /// The first flag that asks for what is not here.
            pub(crate) fn refused(&self) -> Option<String> {
                let name = |it: &str| it.replace('_', "-");
                $(
                    if self.$switch.is_some_and(|it| it != $off) {
                        let value = !$off;
                        return Some(format!("--{}={value}", name(stringify!($switch))));
                    }
                )*
                $(
                    if let Some(given) = self.$value.iter().find(|it| it.as_str() != $default) {
                        return Some(format!("--{}={given}", name(stringify!($value))));
                    }
                )*
                None
            }

            /// Flags that were given and change nothing.
            pub(crate) fn without_effect(&self) -> Vec<&'static str> {
                let mut given = Vec::new();
                $(
                    if self.$free_switch.is_some() {
                        given.push(stringify!($free_switch));
                    }
                )*
                $(
                    if !self.$free.is_empty() {
                        given.push(stringify!($free));
                    }
                )*
                given
            }
        }
    };
}

idle! {
    accepted switches {
        bulk_mig_instances_listing_enabled
        clusterapi_cloud_config_authoritative
        debugging_snapshot_enabled
        dynamic_node_delete_delay_after_taint_enabled
        enable_inter_pod_affinity_hostname_fast_path
        fastpath_binpacking_enabled
        force_delete_failed_nodes
        max_node_skip_eval_time_tracker_enabled
        node_removal_latency_tracking_enabled
        parallel_scale_up
        profiling
        record_duplicated_events
        regional
        scaleup_simulation_for_skipped_node_groups_enabled
        logtostderr
        alsologtostderr
    }
    accepted values {
        cluster_name
        cluster_snapshot_parallelism
        gce_concurrent_refreshes
        gce_mig_instances_min_refresh_wait_time
        kube_api_content_type
        kube_client_burst
        kube_client_qps
        max_binpacking_time
        max_bulk_soft_taint_time
        max_nodegroup_binpacking_duration
        max_startup_time
        node_deletion_batcher_interval
        node_deletion_candidate_ttl
        node_info_cache_expire_time
        pending_pods_batching_timeout
        predicate_parallelism
        scale_down_simulation_timeout
        scheduler_verbosity
        user_agent
        stderrthreshold
    }
    refused switches {
        async_node_groups = false
        aws_use_static_instance_list = false
        capacity_buffer_controller_enabled = false
        capacity_buffer_pod_dry_run_enabled = true
        capacity_buffer_pod_injection_enabled = false
        capacity_quotas_enabled = false
        check_capacity_batch_processing = false
        enable_csi_node_aware_scheduling = false
        enable_dynamic_resource_allocation = true
        enable_graceful_degradation = false
        enable_proactive_scaleup = false
        enable_provisioning_requests = false
        salvo_scale_up = false
        scale_from_unschedulable = false
    }
    refused values {
        allowed_scheduler_names = ""
        check_capacity_processor_instance = ""
        check_capacity_provisioning_request_batch_timebox = "10s"
        check_capacity_provisioning_request_max_batch_size = "10"
        cloud_config = ""
        estimator = "binpacking"
        grpc_expander_cert = ""
        grpc_expander_url = ""
        pod_injection_limit = "5000"
        provisioning_request_initial_backoff_time = "1m0s"
        provisioning_request_max_backoff_cache_size = "1000"
        provisioning_request_max_backoff_time = "10m0s"
        salvo_scale_up_budget = "1m0s"
        scheduler_config_file = ""
        startup_taint_prefix = ""
    }
}
