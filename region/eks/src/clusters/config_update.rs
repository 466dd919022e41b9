//! What `UpdateClusterConfig` changes, and what it refuses.
//!
//! Deviation: what this region does not have (Auto Mode, logs of the control plane, zonal shift, remote
//! networks, tiers of control planes) is refused where it is asked for; to switch it off is an update
//! that changes nothing. The upgrade policy is kept and shown: no version here comes to the end of its
//! support.

use aws_eks::{UpdateClusterConfigRequest, UpgradePolicy, VpcConfigRequest};
use aws_wire::Fault;
use serde_json::{Value, json};

use super::validate::{
    self, AUTHENTICATION_MODES, access_cidrs, authentication_mode, has_endpoint,
};
use crate::{faults, records::Cluster};

/// A change to a cluster that is a matter of records.
pub(crate) struct Update {
    pub(crate) kind: &'static str,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) change: Change,
}

/// What [`Update`] writes.
pub(crate) enum Change {
    AuthenticationMode(String),
    DeletionProtection(bool),
    Endpoint {
        is_public: bool,
        is_private: bool,
        cidrs: Vec<String>,
    },
    SupportType(String),
    /// What is asked for is what every cluster here is like.
    Nothing,
}

impl Change {
    pub(crate) fn apply(self, cluster: &mut Cluster) {
        match self {
            Self::AuthenticationMode(mode) => cluster.authentication_mode = mode,
            Self::DeletionProtection(is_on) => cluster.deletion_protection = is_on,
            Self::Endpoint { is_public, is_private, cidrs } => {
                cluster.endpoint_public_access = is_public;
                cluster.endpoint_private_access = is_private;
                cluster.public_access_cidrs = cidrs;
            }
            Self::SupportType(it) => cluster.support_type = Some(it),
            Self::Nothing => {}
        }
    }
}

pub(crate) fn update(
    cluster: &Cluster,
    request: &UpdateClusterConfigRequest,
) -> Result<Update, Fault> {
    supported(request)?;
    let mut updates = Vec::new();
    if let Some(config) = &request.resources_vpc_config {
        updates.push(endpoint_update(cluster, config));
    }
    if let Some(access) = &request.access_config {
        updates.push(match access.authentication_mode.clone() {
            Some(mode) => mode_update(&cluster.authentication_mode, mode),
            None => Err(nothing()),
        });
    }
    if let Some(is_on) = request.deletion_protection {
        updates.push(Ok(Update {
            kind: "DeletionProtectionUpdate",
            params: vec![("DeletionProtection".to_owned(), is_on.to_string())],
            change: Change::DeletionProtection(is_on),
        }));
    }
    if let Some(policy) = &request.upgrade_policy {
        updates.push(policy_update(policy));
    }
    updates.extend(unchanging(request).map(Ok));
    // Refused as such before what any of them is about.
    if updates.len() > 1 {
        return Err(faults::invalid_parameter("Only one type of update can be allowed."));
    }
    updates.pop().unwrap_or_else(|| Err(nothing()))
}

/// What EKS has and this region does not: whoever asks for it would believe to have it.
fn supported(request: &UpdateClusterConfigRequest) -> Result<(), Fault> {
    validate::refuse(&[
        ("computeConfig", &request.compute_config),
        ("controlPlaneScalingConfig", &request.control_plane_scaling_config),
        ("kubeApiServerConfig", &request.kube_api_server_config),
        ("kubeControllerManagerConfig", &request.kube_controller_manager_config),
        ("kubeSchedulerConfig", &request.kube_scheduler_config),
        ("kubernetesNetworkConfig", &request.kubernetes_network_config),
        ("remoteNetworkConfig", &request.remote_network_config),
        ("storageConfig", &request.storage_config),
        ("zonalShiftConfig", &request.zonal_shift_config),
    ])?;
    let mut logs = request.logging.iter().flat_map(|it| &it.cluster_logging);
    match logs.any(|it| it.enabled == Some(true) && !it.types.is_empty()) {
        true => Err(validate::unsupported("logging")),
        false => Ok(()),
    }
}

fn nothing() -> Fault {
    faults::invalid_parameter("No changes needed for the cluster config provided.")
}

/// Updates that want what every cluster here is like: clients send them, and are told of success.
fn unchanging(request: &UpdateClusterConfigRequest) -> impl Iterator<Item = Update> {
    let json = |it: &Value| it.to_string();
    let logging = request.logging.as_ref();
    let logging = logging.map(|it| serde_json::to_string(it).unwrap_or_default());
    let parts = |kind: &'static str, params: Vec<(&str, Option<String>)>| {
        let params = params.into_iter().filter_map(|(name, it)| Some((name.to_owned(), it?)));
        let params: Vec<(String, String)> = params.collect();
        (!params.is_empty()).then_some(Update { kind, params, change: Change::Nothing })
    };
    let given = |it: &Value| (!it.is_null()).then(|| json(it));
    let scaling = &request.control_plane_scaling_config;
    let tier = || (!scaling.is_null()).then(|| validate::STANDARD_TIER.to_owned());
    let all = [
        parts("LoggingUpdate", vec![("ClusterLogging", logging)]),
        parts(
            "AutoModeUpdate",
            vec![
                ("ComputeConfig", given(&request.compute_config)),
                ("KubernetesNetworkConfig", given(&request.kubernetes_network_config)),
                ("StorageConfig", given(&request.storage_config)),
            ],
        ),
        parts(
            "ZonalShiftConfigUpdate",
            vec![("ZonalShiftConfig", given(&request.zonal_shift_config))],
        ),
        parts(
            "RemoteNetworkConfigUpdate",
            vec![("RemoteNetworkConfig", given(&request.remote_network_config))],
        ),
        parts(
            "ControlPlaneScalingConfigUpdate",
            vec![("PreviousTier", tier()), ("UpdatedTier", tier())],
        ),
    ];
    all.into_iter().flatten()
}

fn policy_update(policy: &UpgradePolicy) -> Result<Update, Fault> {
    let wanted = validate::support_type(Some(policy))?;
    let param = json!({ "supportType": wanted }).to_string();
    Ok(Update {
        kind: "UpgradePolicyUpdate",
        params: vec![("UpgradePolicy".to_owned(), param)],
        change: Change::SupportType(wanted),
    })
}

/// What is not named stays as it is.
fn endpoint_update(cluster: &Cluster, config: &VpcConfigRequest) -> Result<Update, Fault> {
    if !config.subnet_ids.is_empty() || !config.security_group_ids.is_empty() {
        return Err(faults::invalid_parameter(
            "This region does not support updates of a cluster's subnets and security groups.",
        ));
    }
    let is_public = config.endpoint_public_access.unwrap_or(cluster.endpoint_public_access);
    let is_private = config.endpoint_private_access.unwrap_or(cluster.endpoint_private_access);
    let cidrs = match config.public_access_cidrs.is_empty() {
        true => cluster.public_access_cidrs.clone(),
        false => config.public_access_cidrs.clone(),
    };
    has_endpoint(is_public, is_private)?;
    access_cidrs(&cidrs)?;
    let wanted = (is_public, is_private, &cidrs);
    let present = (
        cluster.endpoint_public_access,
        cluster.endpoint_private_access,
        &cluster.public_access_cidrs,
    );
    if wanted == present {
        return Err(faults::invalid_parameter(format!(
            "Cluster is already at the desired configuration with endpointPrivateAccess: \
             {is_private} , endpointPublicAccess: {is_public}, and Public Endpoint Restrictions: \
             [{}]",
            cidrs.join(", ")
        )));
    }
    let list = serde_json::to_string(&cidrs).unwrap_or_default();
    let param = |kind: &str, value: String| (kind.to_owned(), value);
    Ok(Update {
        kind: "EndpointAccessUpdate",
        params: vec![
            param("EndpointPublicAccess", is_public.to_string()),
            param("EndpointPrivateAccess", is_private.to_string()),
            param("PublicAccessCidrs", list),
        ],
        change: Change::Endpoint { is_public, is_private, cidrs },
    })
}

fn mode_update(current: &str, wanted: String) -> Result<Update, Fault> {
    let wanted = authentication_mode(Some(&wanted))?;
    let rank = |mode: &str| AUTHENTICATION_MODES.iter().position(|it| *it == mode);
    if rank(&wanted) == rank(current) {
        return Err(faults::invalid_parameter(format!(
            "Unsupported authentication mode update: the authentication mode is already {current}"
        )));
    }
    if rank(&wanted) < rank(current) {
        return Err(faults::invalid_parameter(format!(
            "Unsupported authentication mode update from {current} to {wanted}"
        )));
    }
    Ok(Update {
        kind: "AccessConfigUpdate",
        params: vec![("AuthenticationMode".to_owned(), wanted.clone())],
        change: Change::AuthenticationMode(wanted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authentication_mode_goes_one_way() {
        assert!(mode_update("CONFIG_MAP", "API".to_owned()).is_ok());
        assert!(mode_update("API", "CONFIG_MAP".to_owned()).is_err());
        assert!(mode_update("API", "API".to_owned()).is_err());
        assert!(mode_update("API", "NONE".to_owned()).is_err());
    }

    fn cluster() -> Cluster {
        serde_json::from_value(json!({ "name": "a", "id": "0", "version": "1.36", "role_arn": "r",
            "vpc_id": "vpc-1", "subnet_ids": [], "security_group_ids": [],
            "cluster_security_group_id": null, "endpoint_public_access": true,
            "endpoint_private_access": false, "public_access_cidrs": ["0.0.0.0/0"],
            "service_cidr": "10.100.0.0/16", "authentication_mode": "API",
            "bootstrap_creator_admin": true, "deletion_protection": false, "status": "Active",
            "created_at": "2026-11-23T12:00:00Z", "tags": {}, "client_token": null,
            "interfaces": [], "certificate_authority_pem": null, "host_endpoint": null,
            "issues": [] }))
        .unwrap()
    }

    type Told = Result<(&'static str, Vec<(String, String)>), String>;

    fn told(parts: &Value) -> Told {
        let mut request = json!({ "name": "a" });
        request.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
        let request: UpdateClusterConfigRequest = serde_json::from_value(request).unwrap();
        let made = update(&cluster(), &request);
        made.map(|it| (it.kind, it.params)).map_err(|it| it.message)
    }

    #[test]
    fn what_is_not_there_is_refused_and_what_says_no_to_it_changes_nothing() {
        for (name, wanted, off, kind) in [
            (
                "computeConfig",
                json!({ "enabled": true }),
                json!({ "enabled": false }),
                "AutoModeUpdate",
            ),
            (
                "kubernetesNetworkConfig",
                json!({ "elasticLoadBalancing": { "enabled": true } }),
                json!({ "elasticLoadBalancing": { "enabled": false } }),
                "AutoModeUpdate",
            ),
            (
                "zonalShiftConfig",
                json!({ "enabled": true }),
                json!({ "enabled": false }),
                "ZonalShiftConfigUpdate",
            ),
            (
                "remoteNetworkConfig",
                json!({ "remoteNodeNetworks": [{ "cidrs": ["10.0.0.0/16"] }] }),
                json!({ "remoteNodeNetworks": [] }),
                "RemoteNetworkConfigUpdate",
            ),
            (
                "controlPlaneScalingConfig",
                json!({ "tier": "tier-xl" }),
                json!({ "tier": "standard" }),
                "ControlPlaneScalingConfigUpdate",
            ),
            (
                "logging",
                json!({ "clusterLogging": [{ "types": ["api"], "enabled": true }] }),
                json!({ "clusterLogging": [{ "types": ["api"], "enabled": false }] }),
                "LoggingUpdate",
            ),
        ] {
            let refused = format!("{name} is not supported in this region.");
            assert_eq!(told(&json!({ name: wanted })), Err(refused));
            assert_eq!(told(&json!({ name: off })).map(|it| it.0), Ok(kind), "{name}");
        }
        let nothing = "No changes needed for the cluster config provided.".to_owned();
        assert_eq!(told(&json!({})), Err(nothing));
    }

    #[test]
    fn the_upgrade_policy_is_one_of_two_and_comes_alone() {
        let policy = |it: &str| json!({ "upgradePolicy": { "supportType": it } });
        let params = vec![("UpgradePolicy".to_owned(), r#"{"supportType":"STANDARD"}"#.to_owned())];
        assert_eq!(told(&policy("STANDARD")), Ok(("UpgradePolicyUpdate", params)));
        assert!(told(&policy("NONE")).unwrap_err().contains("[STANDARD, EXTENDED]"));
        let mut both = policy("STANDARD");
        both["deletionProtection"] = json!(true);
        assert_eq!(told(&both), Err("Only one type of update can be allowed.".to_owned()));
        let mut cluster = cluster();
        Change::SupportType("STANDARD".to_owned()).apply(&mut cluster);
        assert_eq!(cluster.support_type.as_deref(), Some("STANDARD"));
    }
}
