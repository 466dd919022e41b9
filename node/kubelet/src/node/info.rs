//! `status.nodeInfo`: what runs here.

use std::fs;

use k8s_openapi::api::core::v1::{NodeSwapStatus, NodeSystemInfo};

use crate::{
    cri::Runtime,
    settings::{Settings, VERSION},
};

pub(super) async fn collect(settings: &Settings, runtime: &Runtime) -> NodeSystemInfo {
    let runtime_version = runtime_version(runtime).await;
    let read = |path: std::path::PathBuf| {
        fs::read_to_string(path).map(|it| it.trim().to_owned()).unwrap_or_default()
    };
    let machine_id = read(settings.etc.join("machine-id"));
    let product = read(settings.sys.join("class/dmi/id/product_uuid"));
    NodeSystemInfo {
        architecture: super::capacity::Machine::detect(settings).architecture.to_owned(),
        boot_id: read(settings.proc.join("sys/kernel/random/boot_id")),
        container_runtime_version: runtime_version.unwrap_or_else(|| "unknown://".to_owned()),
        kernel_version: read(settings.proc.join("sys/kernel/osrelease")),
        kube_proxy_version: String::new(),
        kubelet_version: VERSION.to_owned(),
        system_uuid: if product.is_empty() { machine_id.clone() } else { product },
        machine_id,
        operating_system: "linux".to_owned(),
        os_image: os_image(&read(settings.etc.join("os-release"))),
        swap: swap(&read(settings.proc.join("meminfo"))),
    }
}

/// `None` where it does not answer.
pub(super) async fn runtime_version(runtime: &Runtime) -> Option<String> {
    let version = runtime.version().await.ok()?;
    let number = version.runtime_version.trim_start_matches('v');
    Some(format!("{}://{number}", version.runtime_name))
}

/// How much swap the machine has, if any.
fn swap(meminfo: &str) -> Option<NodeSwapStatus> {
    let total = super::capacity::meminfo_bytes(meminfo, "SwapTotal").filter(|it| *it > 0)?;
    Some(NodeSwapStatus { capacity: Some(total) })
}

fn os_image(release: &str) -> String {
    let line = release.lines().find_map(|it| it.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |it| it.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_os_is_named_as_it_names_itself() {
        let text = "NAME=\"Amazon Linux\"\nPRETTY_NAME=\"Amazon Linux 2023\"\n";
        assert_eq!(os_image(text), "Amazon Linux 2023");
        assert_eq!(os_image(""), "Linux");
    }
}
