//! `dra_manager_state`: the claims that may be prepared on this node, in upstream's format.
//!
//! Upstream: `pkg/kubelet/cm/dra/state/checkpoint.go`. The content is a string with a CRC-32 beside it.

use serde::{Deserialize, Serialize};

use super::{Claims, claim::ClaimInfo};
use crate::cm::checkpoint::CheckpointError;

pub(super) const FILE: &str = "dra_manager_state";
const KIND: &str = "DRACheckpoint";
const API_VERSION: &str = "checkpoint.dra.kubelet.k8s.io/v1";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: String,
    checksum: u32,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Data {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: String,
    #[serde(rename = "ClaimInfoStateList")]
    claims: Option<Vec<ClaimInfo>>,
}

pub(super) fn encode(claims: &Claims) -> String {
    let list: Vec<_> = claims.values().cloned().collect();
    let (kind, api_version) = (KIND.to_owned(), API_VERSION.to_owned());
    let data = Data { kind, api_version, claims: (!list.is_empty()).then_some(list) };
    let data = serde_json::to_string(&data).unwrap_or_default();
    let checksum = crc32(data.as_bytes());
    serde_json::to_string(&Checkpoint { data, checksum }).unwrap_or_default()
}

pub(super) fn decode(text: &str) -> Result<Claims, CheckpointError> {
    let corrupt = |_| CheckpointError::Corrupt;
    let checkpoint: Checkpoint = serde_json::from_str(text).map_err(corrupt)?;
    if checkpoint.checksum != crc32(checkpoint.data.as_bytes()) {
        return Err(CheckpointError::Corrupt);
    }
    let data: Data = serde_json::from_str(&checkpoint.data).map_err(corrupt)?;
    Ok(data.claims.into_iter().flatten().map(|it| (it.key(), it)).collect())
}

/// CRC-32 of IEEE 802.3, as of gzip.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As upstream's kubelet writes it.
    const TEXT: &str = r#"{"Data":"{\"kind\":\"DRACheckpoint\",\"apiVersion\":\"checkpoint.dra.kubelet.k8s.io/v1\",\"ClaimInfoStateList\":[{\"ClaimUID\":\"067798be-454e-4be4-9047-1aa06aea63f7\",\"ClaimName\":\"example\",\"Namespace\":\"default\",\"PodUIDs\":{\"139cdb46-f989-4f17-9561-ca10cfb509a6\":{}},\"DriverState\":{\"test-driver.cdi.k8s.io\":{\"Devices\":[{\"PoolName\":\"worker-1\",\"DeviceName\":\"dev-1\",\"RequestNames\":[\"test request\"],\"CDIDeviceIDs\":[\"example.com/example=cdi-example\"]}]}}}]}","Checksum":1656016162}"#;

    #[test]
    fn what_upstream_wrote_is_read_and_written_again() {
        let claims = decode(TEXT).unwrap();
        let claim = &claims[&("default".to_owned(), "example".to_owned())];
        let device = &claim.driver_state["test-driver.cdi.k8s.io"].devices()[0];
        assert_eq!(device.cdi(), ["example.com/example=cdi-example"]);
        assert!(claim.pod_uids.contains_key("139cdb46-f989-4f17-9561-ca10cfb509a6"));
        assert_eq!(encode(&claims), TEXT);
        let other = TEXT.replace("dev-1", "dev-2");
        assert!(matches!(decode(&other), Err(CheckpointError::Corrupt)));
    }
}
