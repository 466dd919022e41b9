//! containerd's configuration (version 2, containerd 1.6 and 1.7), and its view of registries.

use toml::Table;

use crate::{Facts, files::PlannedFile, merge::merge_toml};

/// Parts the TOML of several `NodeConfig` documents: each is a document of its own.
pub(crate) const SEPARATOR: &str = "\n# nodeadm: next document\n";

/// The account of the images that EKS provides.
const EKS_ACCOUNT: &str = "602401143452";

const REGION_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The user's TOML cannot be merged.
#[derive(Debug, thiserror::Error)]
#[error("`spec.containerd.config` is not TOML: {message}")]
pub struct ContainerdConfigError {
    pub message: String,
}

/// What a sandbox runs. It comes with the AMI: containerd pulls it without credentials.
pub(crate) fn sandbox_image(facts: &Facts) -> String {
    let Facts { region, domain, .. } = facts;
    format!("{EKS_ACCOUNT}.dkr.ecr.{region}.{domain}/eks/pause:3.10")
}

/// All of containerd's files.
pub(crate) fn files(facts: &Facts, user: &str) -> Result<Vec<PlannedFile>, ContainerdConfigError> {
    Ok(vec![
        PlannedFile::new("/etc/containerd/config.toml", config(facts, user)?),
        PlannedFile::new("/etc/containerd/certs.d/_default/hosts.toml", mirror(facts)),
    ])
}

/// Registries of ECR: their folders' names and their files.
pub(crate) fn registries(facts: &Facts) -> Vec<(String, String)> {
    let Facts { region, domain, account, .. } = facts;
    let mut accounts = vec![EKS_ACCOUNT, account];
    accounts.dedup();
    accounts
        .into_iter()
        .filter(|account| !account.is_empty())
        .map(|account| {
            let host = format!("{account}.dkr.ecr.{region}.{domain}");
            let text = format!(
                "server = \"https://{host}\"\n\n[host.\"https://{host}\"]\n  capabilities = \
                 [\"pull\", \"resolve\"]\n  ca = \"{REGION_CA}\"\n"
            );
            (format!("/etc/containerd/certs.d/{host}/hosts.toml"), text)
        })
        .collect()
}

/// Every other registry is asked for at the region's mirror first, which knows what was loaded into
/// it under the images' own names.
fn mirror(facts: &Facts) -> String {
    let host = format!("mirror.registry.{}.{}", facts.region, facts.domain);
    format!(
        "[host.\"https://{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"{REGION_CA}\"\n"
    )
}

fn config(facts: &Facts, user: &str) -> Result<String, ContainerdConfigError> {
    let failed = |message: String| ContainerdConfigError { message };
    let mut table: Table = toml::from_str(&base(facts)).map_err(|it| failed(it.to_string()))?;
    if facts.has_crun {
        let crun = toml::from_str(CRUN).map_err(|it| failed(it.to_string()))?;
        merge_toml(&mut table, crun);
    }
    for document in user.split(SEPARATOR).filter(|it| !it.trim().is_empty()) {
        let over = toml::from_str(document).map_err(|it| failed(it.to_string()))?;
        merge_toml(&mut table, over);
    }
    toml::to_string(&table).map_err(|it| failed(it.to_string()))
}

/// A second runtime for those who ask for it, by a RuntimeClass whose handler is `crun` or by
/// `default_runtime_name`.
const CRUN: &str = r#"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
BinaryName = "/usr/bin/crun"
SystemdCgroup = false
"#;

/// The plug-ins that are switched off only cost time at each start: snapshotters that nobody here
/// uses, the downloader of optional programs, the tracing of requests.
fn base(facts: &Facts) -> String {
    let restrict = !facts.has_sys_resource;
    let no_apparmor = !facts.has_apparmor;
    let sandbox = sandbox_image(facts);
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox}"
restrict_oom_score_adj = {restrict}
disable_apparmor = {no_apparmor}
max_concurrent_downloads = 10

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
discard_unpacked_layers = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::facts;

    fn cri(text: &str) -> Table {
        let table: Table = toml::from_str(text).unwrap();
        table["plugins"]["io.containerd.grpc.v1.cri"].as_table().unwrap().clone()
    }

    #[test]
    fn without_the_capability_oom_scores_are_restricted() {
        let limited = cri(&config(&facts(), "").unwrap());
        assert_eq!(limited["restrict_oom_score_adj"].as_bool(), Some(true));
        assert_eq!(limited["disable_apparmor"].as_bool(), Some(true));
        let able = Facts { has_sys_resource: true, has_apparmor: true, ..facts() };
        let able = cri(&config(&able, "").unwrap());
        assert_eq!(able["restrict_oom_score_adj"].as_bool(), Some(false));
        assert_eq!(able["disable_apparmor"].as_bool(), Some(false));
    }

    #[test]
    fn the_users_tables_are_laid_over_ours_in_order() {
        let one =
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndiscard_unpacked_layers = false\n";
        let other =
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n";
        let merged = cri(&config(&facts(), &format!("{one}{SEPARATOR}{other}")).unwrap());
        let containerd = &merged["containerd"];
        assert_eq!(containerd["discard_unpacked_layers"].as_bool(), Some(false));
        assert_eq!(containerd["snapshotter"].as_str(), Some("native"));
        assert_eq!(containerd["default_runtime_name"].as_str(), Some("runc"));
        assert!(config(&facts(), "a = ").is_err());
    }

    #[test]
    fn crun_is_offered_where_it_is_and_runc_stays_the_default() {
        let with = Facts { has_crun: true, ..facts() };
        let containerd = cri(&config(&with, "").unwrap())["containerd"].clone();
        assert_eq!(containerd["default_runtime_name"].as_str(), Some("runc"));
        let options = &containerd["runtimes"]["crun"]["options"];
        assert_eq!(options["BinaryName"].as_str(), Some("/usr/bin/crun"));
        let without = cri(&config(&facts(), "").unwrap())["containerd"].clone();
        assert!(without["runtimes"].get("crun").is_none());
    }

    #[test]
    fn the_regions_registries_are_trusted_and_others_mirrored() {
        let hosts = registries(&facts());
        assert_eq!(hosts.len(), 2);
        assert!(hosts[0].0.contains("602401143452.dkr.ecr.us-east-1.amazonaws.com"));
        let parsed: Table = toml::from_str(&hosts[1].1).unwrap();
        assert!(parsed["server"].as_str().unwrap().contains("111122223333"));
        let mirror: Table = toml::from_str(&mirror(&facts())).unwrap();
        assert!(mirror["host"].get("https://mirror.registry.us-east-1.amazonaws.com").is_some());
    }
}
