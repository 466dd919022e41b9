//! What is known of one claim: who uses it, and which devices each of its drivers has made ready.
//!
//! Upstream: `claiminfo.go`, `state/state.go`.

use std::collections::BTreeMap;

use api_kubelet::dra;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde::{Deserialize, Serialize};

use super::{DraError, Key};

/// The members are those of the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ClaimInfo {
    #[serde(rename = "ClaimUID")]
    pub claim_uid: String,
    pub claim_name: String,
    pub namespace: String,
    /// A Go set: each value is an empty object.
    #[serde(rename = "PodUIDs")]
    pub pod_uids: BTreeMap<String, Empty>,
    pub driver_state: BTreeMap<String, DriverState>,
    /// Whether all drivers have answered, to this run of the kubelet.
    #[serde(skip)]
    pub is_prepared: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Empty {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DriverState {
    /// `null` for a driver that has none.
    pub devices: Option<Vec<Device>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Device {
    pub pool_name: String,
    pub device_name: String,
    #[serde(rename = "ShareID", skip_serializing_if = "Option::is_none")]
    pub share_id: Option<String>,
    /// None stands for all.
    pub request_names: Option<Vec<String>>,
    #[serde(rename = "CDIDeviceIDs")]
    pub cdi_device_ids: Option<Vec<String>>,
}

impl From<dra::Device> for Device {
    fn from(it: dra::Device) -> Self {
        let list = |it: Vec<String>| (!it.is_empty()).then_some(it);
        Self {
            pool_name: it.pool_name,
            device_name: it.device_name,
            share_id: it.share_id,
            request_names: list(it.request_names),
            cdi_device_ids: list(it.cdi_device_ids),
        }
    }
}

impl Device {
    /// Whether it serves a request of its claim; the empty one is the claim as a whole. Of a request
    /// with alternatives (`request/alternative`), drivers are told the first part.
    pub(super) fn serves(&self, request: &str) -> bool {
        let base = request.split('/').next().unwrap_or_default();
        let names = self.request_names.as_deref().unwrap_or_default();
        base.is_empty() || names.is_empty() || names.iter().any(|it| it == base)
    }

    pub(super) fn cdi(&self) -> &[String] {
        self.cdi_device_ids.as_deref().unwrap_or_default()
    }
}

impl DriverState {
    pub(super) fn devices(&self) -> &[Device] {
        self.devices.as_deref().unwrap_or_default()
    }
}

impl ClaimInfo {
    /// Of a claim that nobody uses yet.
    pub(super) fn of(claim: &ResourceClaim) -> Result<Self, DraError> {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let allocation = claim.status.as_ref().and_then(|it| it.allocation.as_ref());
        let Some(allocation) = allocation else { return Err(DraError::NotAllocated { name }) };
        let results = allocation.devices.iter().flat_map(|it| it.results.iter().flatten());
        Ok(Self {
            claim_uid: claim.metadata.uid.clone().unwrap_or_default(),
            claim_name: name,
            namespace: claim.metadata.namespace.clone().unwrap_or_default(),
            driver_state: results.map(|it| (it.driver.clone(), DriverState::default())).collect(),
            ..Self::default()
        })
    }

    pub(super) fn key(&self) -> Key {
        (self.namespace.clone(), self.claim_name.clone())
    }

    /// As drivers are asked for it.
    pub(super) fn request(&self) -> dra::Claim {
        dra::Claim {
            namespace: self.namespace.clone(),
            uid: self.claim_uid.clone(),
            name: self.claim_name.clone(),
        }
    }

    /// The devices with their drivers that serve a request.
    pub(super) fn serving<'a>(
        &'a self,
        request: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Device)> {
        let all = self.driver_state.iter();
        let all = all.flat_map(|(driver, it)| it.devices().iter().map(move |it| (driver, it)));
        all.filter(move |(_, it)| it.serves(request))
    }
}
