//! The kubelet: runs the pods that are bound to one node, over CRI.
//!
//! Reconciliation of one pod is in [`pod_workers`], what it decides in [`plan`], what it tells the
//! API in [`status`]; [`pleg`] wakes it when the runtime says that something happened.
//!
//! It is event driven: nothing is polled where an event can be had, and idle it does almost nothing.
//!
//! **Invariant:** what runs is in the runtime, what should run is in the API server. The process can be
//! killed at any line; the next one finds what runs by its labels and starts nothing twice.

use api_kube as _;

mod admission;
mod allocation;
mod api_client;
mod api_limit;
mod backoff;
mod certificates;
mod cgroups;
mod cm;
pub mod command;
mod config;
mod context;
mod cri;
mod dbus;
mod dns;
mod downward;
mod early_exits;
mod env;
mod env_file;
mod events;
mod eviction;
mod expand;
mod garbage;
mod heartbeat;
mod hooks;
mod hosts;
mod housekeeping;
mod images;
mod kubelet;
mod labels;
mod logs;
mod memory;
mod metrics;
mod node;
mod node_admission;
mod node_object;
mod objects;
mod observed;
mod oom;
mod pace;
mod paths;
mod plan;
mod pleg;
mod plugins;
mod pod;
mod pod_config;
mod pod_starts;
mod pod_workers;
mod probes;
mod qos;
mod quantity;
mod rate;
mod runtime_class;
mod runtime_features;
mod security;
mod server;
mod services;
mod settings;
mod shutdown;
mod static_pods;
mod stats;
mod status;
mod stop_signal;
mod timeline;
mod turns;
mod userns;
mod volumes;
mod yaml;

pub use component_config::duration::GoDuration;

use component_config::duration;

pub use self::{
    api_client::ApiClient,
    config::{
        Anonymous, Authentication, AuthenticationWebhook, Authorization, AuthorizationWebhook,
        CrashLoopBackOff, KubeletConfiguration, LoadConfigurationError, MemoryReservation,
        MemorySwap, ShutdownGracePeriodByPodPriority, Sources, UserNamespaces, X509,
    },
    kubelet::{Kubelet, StartError},
    oom::MemoryKills,
    settings::{Settings, VERSION},
    shutdown::Shutdown,
};
