//! What the flags ask for.
//!
//! The defaults are upstream's. An Auto Scaling group may have some of its own by tags
//! (`k8s.io/cluster-autoscaler/node-template/autoscaling-options/…`): see [`GroupOptions`].

use std::{collections::BTreeMap, time::Duration};

use crate::expander::Expander;

/// See the module.
#[derive(Clone, Debug)]
pub struct Options {
    pub namespace: String,
    pub scan_interval: Duration,
    pub max_nodes_total: i64,
    /// In cores, and in bytes.
    pub cores: Limits,
    pub memory: Limits,
    /// By the type that nodes have in `k8s.amazonaws.com/accelerator`.
    pub gpus: BTreeMap<String, Limits>,
    pub expanders: Vec<Expander>,
    pub max_nodes_per_scale_up: usize,
    pub balance_similar: bool,
    pub similarity: Similarity,
    pub new_pod_delay: Duration,
    pub expendable_below: i32,
    pub scale_up_from_zero: bool,
    pub enforce_min_size: bool,
    /// Instances that never become nodes go whatever the least size of their group is.
    pub force_unregistered: bool,
    pub max_startup_time: Duration,
    pub max_unready_percentage: f64,
    pub ok_unready: i64,
    pub backoff: Backoff,
    pub scale_down: ScaleDown,
    pub drain: Drain,
    /// Taint keys that do not count when a template is made of a node.
    pub startup_taints: Vec<String>,
    /// The same for keys that say nothing of readiness.
    pub status_taints: Vec<String>,
    pub force_daemon_sets: bool,
    pub ignored_schedulers: Vec<String>,
    /// Metrics tell of each group.
    pub per_group_metrics: bool,
}

/// A least and a most for the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub min: i64,
    pub max: i64,
}

/// When groups count as alike.
#[derive(Clone, Debug)]
pub struct Similarity {
    pub ignored_labels: Vec<String>,
    /// If any: groups are alike where these are, and nothing else counts.
    pub labels: Vec<String>,
    pub memory_ratio: f64,
    pub allocatable_ratio: f64,
    pub free_ratio: f64,
}

/// How long a group that failed is left alone: doubled at each failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
    pub reset: Duration,
}

/// When a node may go.
#[derive(Clone, Debug)]
pub struct ScaleDown {
    pub is_enabled: bool,
    pub defaults: GroupOptions,
    pub unready_enabled: bool,
    pub delay_after_add: Duration,
    pub delay_after_delete: Duration,
    pub delay_after_failure: Duration,
    pub is_delay_local: bool,
    pub max_parallelism: usize,
    pub max_drain_parallelism: usize,
    pub non_empty_candidates: usize,
    pub pool_ratio: f64,
    pub pool_min: usize,
    pub recheck: Duration,
    pub max_soft_taints: usize,
    pub delay_after_taint: Duration,
    pub deletion_delay_limit: Duration,
    pub cordon: bool,
}

/// What a group may decide by its tags.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupOptions {
    pub utilization_threshold: f64,
    pub gpu_utilization_threshold: f64,
    pub unneeded_time: Duration,
    pub unready_time: Duration,
    pub ignore_daemon_sets: bool,
    pub ignore_mirror_pods: bool,
    pub max_provision_time: Duration,
}

/// Pods from a priority on, and the longest grace period that they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PriorityGrace {
    pub priority: i32,
    pub grace: Duration,
}

/// Which pods hold a node, and how pods are evicted.
#[derive(Clone, Debug)]
pub struct Drain {
    pub skip_system_pods: bool,
    pub system_pod_limit: Duration,
    pub skip_local_storage: bool,
    pub skip_custom_controllers: bool,
    /// Pods of controllers that want fewer replicas keep their node.
    pub min_replicas: i32,
    /// Which pods go first, the least first, and how long each group of them has; without any, all
    /// go at once.
    pub priorities: Vec<PriorityGrace>,
    pub max_graceful_termination: Duration,
    pub max_eviction_time: Duration,
    pub evict_daemon_sets_of_empty: bool,
    pub evict_daemon_sets_of_occupied: bool,
}

impl Default for Options {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            namespace: "kube-system".to_owned(),
            scan_interval: Duration::from_secs(10),
            max_nodes_total: 0,
            cores: Limits { min: 0, max: 320_000 },
            memory: Limits { min: 0, max: 6_400_000 << 30 },
            gpus: BTreeMap::new(),
            expanders: vec![Expander::LeastWaste],
            max_nodes_per_scale_up: 1000,
            balance_similar: false,
            similarity: Similarity {
                ignored_labels: Vec::new(),
                labels: Vec::new(),
                memory_ratio: 0.015,
                allocatable_ratio: 0.05,
                free_ratio: 0.05,
            },
            new_pod_delay: Duration::ZERO,
            expendable_below: -10,
            scale_up_from_zero: true,
            enforce_min_size: false,
            force_unregistered: false,
            max_startup_time: minutes(15),
            max_unready_percentage: 45.0,
            ok_unready: 3,
            backoff: Backoff { initial: minutes(5), max: minutes(30), reset: minutes(180) },
            scale_down: ScaleDown::default(),
            drain: Drain::default(),
            startup_taints: Vec::new(),
            status_taints: Vec::new(),
            force_daemon_sets: false,
            ignored_schedulers: Vec::new(),
            per_group_metrics: false,
        }
    }
}

impl Default for ScaleDown {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            is_enabled: true,
            defaults: GroupOptions {
                utilization_threshold: 0.5,
                gpu_utilization_threshold: 0.5,
                unneeded_time: minutes(10),
                unready_time: minutes(20),
                ignore_daemon_sets: false,
                ignore_mirror_pods: false,
                max_provision_time: minutes(15),
            },
            unready_enabled: true,
            delay_after_add: minutes(10),
            delay_after_delete: Duration::ZERO,
            delay_after_failure: minutes(3),
            is_delay_local: false,
            max_parallelism: 10,
            max_drain_parallelism: 1,
            non_empty_candidates: 30,
            pool_ratio: 0.1,
            pool_min: 50,
            recheck: minutes(5),
            max_soft_taints: 10,
            delay_after_taint: Duration::from_secs(5),
            deletion_delay_limit: minutes(2),
            cordon: true,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            skip_system_pods: true,
            system_pod_limit: Duration::from_secs(3600),
            skip_local_storage: true,
            skip_custom_controllers: true,
            min_replicas: 0,
            priorities: Vec::new(),
            max_graceful_termination: Duration::from_secs(600),
            max_eviction_time: Duration::from_secs(120),
            evict_daemon_sets_of_empty: false,
            evict_daemon_sets_of_occupied: true,
        }
    }
}
