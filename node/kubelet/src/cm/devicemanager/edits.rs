//! What devices add to the configuration of a container.
//!
//! Of two that set the same thing, the first wins; what the pod itself says comes before both.
//!
//! Upstream: `deviceRunContainerOptions` in `pkg/kubelet/cm/devicemanager/pod_devices.go`.

use api_cri::v1;
use api_kubelet::device_plugin::ContainerAllocateResponse;

pub(super) fn apply<'a>(
    config: &mut v1::ContainerConfig,
    responses: impl Iterator<Item = &'a ContainerAllocateResponse>,
) {
    let (mut envs, mut mounts) = (Vec::<v1::KeyValue>::new(), Vec::<v1::Mount>::new());
    for response in responses {
        for (key, value) in &response.envs {
            if envs.iter().all(|it| it.key != *key) {
                envs.push(v1::KeyValue { key: key.clone(), value: value.clone() });
            }
        }
        for it in &response.mounts {
            if mounts.iter().all(|known| known.container_path != it.container_path) {
                mounts.push(v1::Mount {
                    container_path: it.container_path.clone(),
                    host_path: it.host_path.clone(),
                    readonly: it.read_only,
                    ..v1::Mount::default()
                });
            }
        }
        for it in &response.devices {
            if config.devices.iter().all(|known| known.container_path != it.container_path) {
                config.devices.push(v1::Device {
                    container_path: it.container_path.clone(),
                    host_path: it.host_path.clone(),
                    permissions: it.permissions.clone(),
                });
            }
        }
        for (key, value) in &response.annotations {
            config.annotations.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for it in &response.cdi_devices {
            if config.cdi_devices.iter().all(|known| known.name != it.name) {
                config.cdi_devices.push(v1::CdiDevice { name: it.name.clone() });
            }
        }
    }
    // The runtime takes the last of a name.
    envs.append(&mut config.envs);
    config.envs = envs;
    mounts.append(&mut config.mounts);
    config.mounts = mounts;
}

#[cfg(test)]
mod tests {
    use api_kubelet::device_plugin::{CdiDevice, DeviceSpec, Mount};

    use super::*;

    #[test]
    fn devices_mounts_and_variables_are_added_once_and_the_pods_own_come_last() {
        let mut config = v1::ContainerConfig::default();
        config.envs.push(v1::KeyValue { key: "A".to_owned(), value: "own".to_owned() });
        let text = str::to_owned;
        let response = ContainerAllocateResponse {
            envs: [("A".to_owned(), "plugin".to_owned())].into(),
            mounts: vec![Mount {
                container_path: text("/lib"),
                host_path: text("/opt/lib"),
                read_only: true,
            }],
            devices: vec![DeviceSpec {
                container_path: text("/dev/d0"),
                host_path: text("/dev/null"),
                permissions: text("rw"),
            }],
            annotations: [("k".to_owned(), "v".to_owned())].into(),
            cdi_devices: vec![CdiDevice { name: text("example.com/d=0") }],
        };
        apply(&mut config, [&response, &response].into_iter());
        let envs: Vec<_> = config.envs.iter().map(|it| it.value.as_str()).collect();
        assert_eq!(envs, ["plugin", "own"]);
        assert_eq!(
            (config.mounts.len(), config.devices.len(), config.cdi_devices.len()),
            (1, 1, 1)
        );
        assert!(config.mounts[0].readonly);
        assert_eq!(config.annotations["k"], "v");
    }
}
