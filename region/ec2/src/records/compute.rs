//! Instances, the images they boot, and key pairs.

use instance_types::InstanceType;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Preference, Tags, placement_group::Placed, record};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Instance {
    pub id: String,
    pub reservation_id: String,
    /// Who asked for it, when not the account itself: a service such as Auto Scaling.
    pub requester: Option<String>,
    pub image_id: String,
    pub instance_type: String,
    pub state: InstanceState,
    /// Counts starts and reboots: the host is booted anew when it is behind.
    pub boot: u64,
    /// What EC2's status checks say of it while it is running.
    #[serde(default)]
    pub check: StatusCheck,
    pub state_reason: Option<StateReason>,
    /// As `User initiated (2026-11-23 16:00:00 GMT)`.
    pub transition_reason: String,
    pub launched_at: Timestamp,
    pub terminated_at: Option<Timestamp>,
    pub launch_index: i64,
    pub key_name: Option<String>,
    /// The snapshot that it was started from, where its image was the user's own.
    #[serde(default)]
    pub root_snapshot: Option<String>,
    /// The key pair's key as it was at the launch: a line of `authorized_keys`.
    #[serde(default)]
    pub public_key: Option<String>,
    /// In base64, as it came.
    pub user_data: Option<String>,
    pub profile: Option<Profile>,
    pub metadata: MetadataOptions,
    pub zone: String,
    pub vpc_id: String,
    pub subnet_id: String,
    pub is_monitored: bool,
    pub is_ebs_optimized: bool,
    pub disable_api_termination: bool,
    pub disable_api_stop: bool,
    /// It was launched to be one that can hibernate.
    #[serde(default)]
    pub can_hibernate: bool,
    /// It was stopped, or is being so, with all that is in its memory.
    #[serde(default)]
    pub is_hibernated: bool,
    /// `stop` or `terminate`: what an instance's own power-off means.
    pub shutdown_behavior: String,
    pub is_spot: bool,
    /// Into which reservations it may go, each time that it starts.
    #[serde(default)]
    pub capacity_preference: Preference,
    /// The reservation whose room it takes.
    #[serde(default)]
    pub capacity_reservation: Option<String>,
    /// Of a Spot Instance that is to go.
    #[serde(default)]
    pub interruption: Option<Interruption>,
    pub cpu_credits: Option<String>,
    /// Where it has others than its type.
    #[serde(default)]
    pub cpu_options: Option<Cpus>,
    /// Its placement group.
    #[serde(default)]
    pub placed: Option<Placed>,
    pub client_token: Option<String>,
    pub launch_template: Option<(String, i64)>,
    pub block_devices: Vec<BlockDevice>,
    pub tags: Tags,
}

record!(Instance, "instance", "i-", "InvalidInstanceID", "instance");

/// An instance's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Cpus {
    pub cores: u32,
    pub threads_per_core: u32,
}

impl Cpus {
    /// What instances of a type have unless they are launched with others.
    pub fn of(kind: &InstanceType) -> Self {
        // An older way of virtualization, and AMD's later generations: each vCPU is a core.
        let is_core_each = ["t2", "m7a", "c7a", "r7a", "m8a", "c8a", "r8a", "hpc6a", "hpc7a"];
        match kind.vcpus {
            0 | 1 => Self { cores: 1, threads_per_core: 1 },
            vcpus if is_core_each.contains(&kind.family()) => {
                Self { cores: vcpus, threads_per_core: 1 }
            }
            vcpus => Self { cores: vcpus / 2, threads_per_core: 2 },
        }
    }

    /// vCPUs.
    pub fn count(self) -> u32 {
        self.cores * self.threads_per_core
    }
}

/// Checks are made every minute: what fails for longer than that is impaired.
const CHECKED_EVERY: SignedDuration = SignedDuration::from_mins(1);

impl Instance {
    /// Its own processors, or those of its type.
    pub fn cpus(&self, kind: &InstanceType) -> Cpus {
        self.cpu_options.unwrap_or_else(|| Cpus::of(kind))
    }

    /// What EC2's status checks of it say: `ok`, `impaired`, `initializing`, `not-applicable`.
    pub fn status_check(&self, now: Timestamp) -> &'static str {
        match (self.state, self.check) {
            (InstanceState::Running, StatusCheck::Ok) => "ok",
            (InstanceState::Running, StatusCheck::Failing { since })
                if now.duration_since(since) >= CHECKED_EVERY =>
            {
                "impaired"
            }
            (InstanceState::Running | InstanceState::Pending, _) => "initializing",
            _ => "not-applicable",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum InstanceState {
    #[default]
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl InstanceState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    pub fn code(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    /// On its way out, or gone.
    pub fn is_ending(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct StateReason {
    pub code: String,
    pub message: String,
}

/// The end of a Spot Instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Interruption {
    /// When a rebalance was recommended.
    pub recommended_at: Timestamp,
    /// When it is terminated.
    pub at: Timestamp,
    /// The warning has been given.
    pub is_warned: bool,
}

/// An instance profile as the instance knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Profile {
    pub association_id: String,
    pub arn: String,
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MetadataOptions {
    pub http_tokens: String,
    pub http_put_response_hop_limit: i64,
    pub http_endpoint: String,
    pub http_protocol_ipv6: String,
    pub instance_metadata_tags: String,
}

impl Default for MetadataOptions {
    /// The defaults of accounts and AMIs made since 2024: IMDSv2 only, one hop short of pods.
    fn default() -> Self {
        Self {
            http_tokens: "required".to_owned(),
            http_put_response_hop_limit: 2,
            http_endpoint: "enabled".to_owned(),
            http_protocol_ipv6: "disabled".to_owned(),
            instance_metadata_tags: "disabled".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct BlockDevice {
    pub device_name: String,
    pub volume_id: String,
    pub size_gib: i64,
    pub volume_type: String,
    pub iops: Option<i64>,
    pub throughput: Option<i64>,
    pub is_encrypted: bool,
    /// The key that its launch has named; without one it is the account's default.
    #[serde(default)]
    pub kms_key: Option<String>,
    pub delete_on_termination: bool,
}

/// Whether a running instance can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum StatusCheck {
    #[default]
    Ok,
    /// It boots again, after a power loss or a reboot of its own.
    Initializing,
    /// It does not come back: since then.
    Failing { since: Timestamp },
}

/// What the host under an instance did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostReport {
    Started,
    /// It runs no more and has not switched itself off: power was lost, or it reboots.
    PowerLost,
    /// It could not be booted again, which is tried again.
    Unbootable,
    /// It has begun to switch itself off, by its own doing.
    PoweringOff,
    /// It is off, because it was told to be or by its own doing; or it hibernates.
    Stopped,
    /// It was to hibernate and cannot.
    NotHibernated,
    Terminated,
    Failed(String),
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Image {
    pub id: String,
    pub name: String,
    pub description: String,
    pub architecture: String,
    pub owner_id: String,
    pub owner_alias: Option<String>,
    pub is_public: bool,
    pub created_at: Timestamp,
    pub root_device_name: String,
    pub root_size_gib: i64,
    /// What instances start from, for images of the user's own; EKS's have the region's.
    #[serde(default)]
    pub snapshot: Option<String>,
    pub tags: Tags,
}

record!(Image, "image", "ami-", "InvalidAMIID", "image");

/// A root file system on the machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Snapshot {
    pub id: String,
    pub description: String,
    pub size_gib: i64,
    /// It is all there.
    pub is_completed: bool,
    pub started_at: Timestamp,
    pub tags: Tags,
}

record!(Snapshot, "snapshot", "snap-", "InvalidSnapshot", "snapshot");

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct KeyPair {
    pub id: String,
    pub name: String,
    pub kind: String,
    pub fingerprint: String,
    /// In OpenSSH's form.
    pub public_key: String,
    pub created_at: Timestamp,
    pub tags: Tags,
}

record!(KeyPair, "key-pair", "key-", "InvalidKeyPair", "key pair");

/// Remembers what a client token stands for, so that a repeated call is answered, not repeated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Token {
    /// The action and the token.
    pub id: String,
    /// Digest of the request's parameters.
    pub digest: String,
    /// What the first call made.
    pub made: String,
    pub at: Timestamp,
    pub tags: Tags,
}

record!(Token, "", "", "InvalidClientToken", "client token");
