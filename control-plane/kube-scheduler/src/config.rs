//! `KubeSchedulerConfiguration` (`kubescheduler.config.k8s.io/v1`), with upstream's names and defaults.
//!
//! [`load`] reads a file, [`validation`] refuses what upstream refuses, in its words, and [`plugins`]
//! makes a [`Profile`] of each of its profiles; together they are the [`Settings`] of a scheduler.
//!
//! Upstream: `pkg/scheduler/apis/config`, `pkg/scheduler/framework/runtime`.
//!
//! Deviation: `parallelism`, the client's rates and content types, profiling,
//! `delayCacheUntilActive`, `bindTimeoutSeconds` of `VolumeBinding`, `filterTimeout` of `DynamicResources`
//! and the numbers of candidates of `DefaultPreemption` are checked and have no effect: nothing here waits
//! or works in parallel by them, and preemption looks at all nodes. The `shape` of `VolumeBinding` is
//! refused.
//!
//! Deviation: plug-ins are asked in their usual order, whatever the order in which they are enabled. Those
//! of the extension points of one step (`preFilter` and `filter`, `preScore` and `score`, `reserve` and
//! `preBind`) are switched together: a file that takes one alone away is refused, where upstream's
//! scheduler starts and then fails at each pod.

pub mod args;
pub mod extender;
pub mod load;
pub mod plugins;
pub mod validation;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use component_config::duration::SignedGoDuration as GoDuration;
use scheduling::Profile;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{extender::ExtenderConfig, load::ConfigError};
use crate::{Extender, Metrics, extenders};

pub(crate) const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
pub(crate) const KIND: &str = "KubeSchedulerConfiguration";

/// The file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub parallelism: i32,
    pub leader_election: LeaderElection,
    pub client_connection: ClientConnection,
    pub enable_profiling: bool,
    pub enable_contention_profiling: bool,
    pub percentage_of_nodes_to_score: Option<i32>,
    pub pod_initial_backoff_seconds: i64,
    pub pod_max_backoff_seconds: i64,
    pub profiles: Vec<ProfileConfig>,
    pub extenders: Vec<ExtenderConfig>,
    pub delay_cache_until_active: bool,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            parallelism: 16,
            leader_election: LeaderElection::default(),
            client_connection: ClientConnection::default(),
            enable_profiling: true,
            enable_contention_profiling: true,
            percentage_of_nodes_to_score: None,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: Vec::new(),
            extenders: Vec::new(),
            delay_cache_until_active: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElection {
    pub leader_elect: bool,
    pub lease_duration: GoDuration,
    pub renew_deadline: GoDuration,
    pub retry_period: GoDuration,
    pub resource_lock: String,
    pub resource_name: String,
    pub resource_namespace: String,
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            leader_elect: true,
            lease_duration: GoDuration::seconds(15),
            renew_deadline: GoDuration::seconds(10),
            retry_period: GoDuration::seconds(2),
            resource_lock: "leases".to_owned(),
            resource_name: "kube-scheduler".to_owned(),
            resource_namespace: "kube-system".to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub accept_content_types: String,
    pub content_type: String,
    pub qps: f64,
    pub burst: i32,
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self {
            kubeconfig: String::new(),
            accept_content_types: String::new(),
            content_type: "application/vnd.kubernetes.protobuf".to_owned(),
            qps: 50.0,
            burst: 100,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileConfig {
    /// `None`: the default one's; a name that is empty is refused.
    pub scheduler_name: Option<String>,
    pub percentage_of_nodes_to_score: Option<i32>,
    pub plugins: PluginSets,
    pub plugin_config: Vec<PluginConfig>,
}

impl ProfileConfig {
    pub(crate) fn name(&self) -> &str {
        self.scheduler_name.as_deref().unwrap_or("default-scheduler")
    }
}

/// Which plug-ins are switched at which extension point.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginSets {
    pub pre_enqueue: PluginSet,
    pub queue_sort: PluginSet,
    pub pre_filter: PluginSet,
    pub filter: PluginSet,
    pub post_filter: PluginSet,
    pub pre_score: PluginSet,
    pub score: PluginSet,
    pub reserve: PluginSet,
    pub permit: PluginSet,
    pub pre_bind: PluginSet,
    pub bind: PluginSet,
    pub post_bind: PluginSet,
    pub multi_point: PluginSet,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginSet {
    pub enabled: Vec<PluginEntry>,
    pub disabled: Vec<PluginEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginEntry {
    pub name: String,
    pub weight: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginConfig {
    pub name: String,
    pub args: Value,
}

/// What a scheduler goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By the name that pods call them.
    pub profiles: BTreeMap<String, Arc<Profile>>,
    /// How long a pod that fits nowhere waits at least, first and in the end.
    pub backoff: (Duration, Duration),
    /// In the order in which they are asked.
    pub extenders: Vec<Extender>,
    pub metrics: Arc<Metrics>,
}

impl Default for Settings {
    /// One profile, `default-scheduler`.
    fn default() -> Self {
        let profile = Profile::shared();
        Self {
            profiles: [(profile.name.clone(), profile)].into(),
            backoff: (Duration::from_secs(1), Duration::from_secs(10)),
            extenders: Vec::new(),
            metrics: Arc::default(),
        }
    }
}

impl Settings {
    /// The profile of a pod; `None`: it is another scheduler's.
    pub(crate) fn profile(&self, pod: &k8s_openapi::api::core::v1::Pod) -> Option<&Arc<Profile>> {
        let name = pod.spec.as_ref().and_then(|it| it.scheduler_name.as_deref());
        let name = name.filter(|it| !it.is_empty()).unwrap_or("default-scheduler");
        self.profiles.get(name)
    }
}

impl Configuration {
    /// What the file comes to, if nothing in it is wrong.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        validation::check(self)?;
        let mut profiles = BTreeMap::new();
        let default = [ProfileConfig::default()];
        let all = if self.profiles.is_empty() { &default[..] } else { &self.profiles };
        for config in all {
            let made = plugins::profile(config, self.percentage_of_nodes_to_score);
            let mut profile = made.map_err(|message| ConfigError::Profile {
                name: config.name().to_owned(),
                message,
            })?;
            let managed = self.extenders.iter().flat_map(|it| &it.managed_resources);
            let ignored: BTreeSet<_> =
                managed.filter(|it| it.ignored_by_scheduler).map(|it| it.name.clone()).collect();
            if !ignored.is_empty() {
                // As upstream, in the place of what the plug-in's own arguments say.
                profile.fit.ignored_resources = ignored;
            }
            profiles.insert(profile.name.clone(), Arc::new(profile));
        }
        let seconds = |it: i64| Duration::from_secs(u64::try_from(it).unwrap_or(0));
        let backoff =
            (seconds(self.pod_initial_backoff_seconds), seconds(self.pod_max_backoff_seconds));
        let extenders = extenders::dialled(&self.extenders).map_err(|error| {
            ConfigError::Invalid { message: telemetry::chain(&error).to_string() }
        })?;
        Ok(Settings { profiles, backoff, extenders, metrics: Arc::default() })
    }
}
