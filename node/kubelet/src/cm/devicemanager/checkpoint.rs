//! `kubelet_internal_checkpoint`: which container holds which devices, and what its plugin answered.
//!
//! Upstream: `pkg/kubelet/cm/devicemanager/checkpoint`.

use std::collections::BTreeMap;

use api_kubelet::device_plugin as v1beta1;
use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::state::{Allocation, Held, State};
use crate::cm::checkpoint::{CheckpointError, checksum, spew_list, spew_map};

pub(super) const FILE: &str = "kubelet_internal_checkpoint";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
    checksum: u32,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Data {
    // Go's nil and an empty list differ in the checksum.
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: BTreeMap<String, Option<Vec<String>>>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<i64, Vec<String>>,
    alloc_resp: String,
}

impl Data {
    fn checksum(&self) -> Result<u32, CheckpointError> {
        let mut entries = Vec::new();
        for it in self.pod_device_entries.iter().flatten() {
            let response = STANDARD.decode(&it.alloc_resp).map_err(|_| CheckpointError::Corrupt)?;
            let devices =
                spew_map(&it.device_ids, |node, ids| format!("{node}:{}", spew_list(ids)));
            entries.push(format!(
                "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} DeviceIDs:(checkpoint.DevicesPerNUMA){devices} AllocResp:([]uint8){}}}",
                it.pod_uid,
                it.container_name,
                it.resource_name,
                spew_list(&response)
            ));
        }
        let entries = match self.pod_device_entries {
            None => "<nil>".to_owned(),
            Some(_) => spew_list(&entries),
        };
        let registered = spew_map(&self.registered_devices, |name, ids| {
            let ids = ids.as_ref().map_or_else(|| "<nil>".to_owned(), |it| spew_list(it));
            format!("{name}:{ids}")
        });
        Ok(checksum(&format!(
            "(checkpoint.checkpointData){{PodDeviceEntries:([]checkpoint.PodDevicesEntry){entries} RegisteredDevices:(map[string][]string){registered}}}"
        )))
    }
}

pub(super) fn encode(state: &State) -> String {
    let mut entries = Vec::new();
    for (pod, containers) in &state.held {
        for (container, resources) in containers {
            for (resource, it) in resources {
                entries.push(Entry {
                    pod_uid: pod.clone(),
                    container_name: container.clone(),
                    resource_name: resource.clone(),
                    device_ids: it.devices.clone(),
                    alloc_resp: STANDARD.encode(it.response.encode_to_vec()),
                });
            }
        }
    }
    let registered = state.resources.iter();
    let data = Data {
        pod_device_entries: (!entries.is_empty()).then_some(entries),
        registered_devices: registered
            .map(|(name, it)| (name.clone(), Some(it.healthy().into_iter().collect())))
            .collect(),
    };
    let checksum = data.checksum().unwrap_or(0);
    serde_json::to_string(&Checkpoint { data, checksum }).unwrap_or_default()
}

/// Who held what, and which resources had a plugin.
pub(super) fn decode(text: &str) -> Result<(Held, Vec<String>), CheckpointError> {
    let checkpoint: Checkpoint =
        serde_json::from_str(text).map_err(|_| CheckpointError::Corrupt)?;
    if checkpoint.checksum != checkpoint.data.checksum()? {
        return Err(CheckpointError::Corrupt);
    }
    let mut held = Held::new();
    for it in checkpoint.data.pod_device_entries.into_iter().flatten() {
        let bytes = STANDARD.decode(&it.alloc_resp).map_err(|_| CheckpointError::Corrupt)?;
        let response = v1beta1::ContainerAllocateResponse::decode(bytes.as_slice());
        let response = response.map_err(|_| CheckpointError::Corrupt)?;
        let allocation = Allocation { devices: it.device_ids, response, is_restored: true };
        let containers = held.entry(it.pod_uid).or_default();
        containers.entry(it.container_name).or_default().insert(it.resource_name, allocation);
    }
    Ok((held, checkpoint.data.registered_devices.into_keys().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_holds_the_devices_and_the_plugins_answer() {
        let mut state = State::default();
        let mut response = v1beta1::ContainerAllocateResponse::default();
        response.envs.insert("A".to_owned(), "1".to_owned());
        let devices = BTreeMap::from([(-1, vec!["d0".to_owned()])]);
        let allocation = Allocation { devices, response, is_restored: false };
        let containers = state.held.entry("uid".to_owned()).or_default();
        let own = containers.entry("c".to_owned()).or_default();
        own.insert("example.com/d".to_owned(), allocation.clone());
        state.resources.entry("example.com/d".to_owned()).or_default().generation = 1;
        let text = encode(&state);
        assert!(text.contains(r#""DeviceIDs":{"-1":["d0"]},"AllocResp":"CgYKAUESATE=""#), "{text}");
        let (held, registered) = decode(&text).unwrap();
        let expected = Allocation { is_restored: true, ..allocation };
        assert_eq!(held["uid"]["c"]["example.com/d"], expected);
        assert_eq!(registered, ["example.com/d"]);
        assert!(matches!(decode(&text.replace("d0", "d1")), Err(CheckpointError::Corrupt)));
    }
}
