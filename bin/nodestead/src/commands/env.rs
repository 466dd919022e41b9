//! `nodestead env`: shell exports for unmodified clients, with the root user's access key.

use region_iam::RootKey;

use crate::{admin::Admin, cli, layout::Layout, root_key};

/// What a user's shell may carry that clients would take for, or beside, the exported key.
const IN_THE_WAY: &[&str] = &["AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"];

pub(crate) async fn run(args: cli::Env) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let status: crate::admin::DaemonStatus =
        Admin::new(layout.admin_socket()).get("/v1/status").await?;
    let key = root_key::of(&layout)?;
    for (name, value) in exports(&layout, &status.aws_endpoint, &status.region, key) {
        println!("export {name}={}", quoted(&value));
    }
    println!("unset {}", IN_THE_WAY.join(" "));
    Ok(())
}

/// What clients need to know, in the order in which it is printed.
pub(crate) fn exports(
    layout: &Layout,
    endpoint: &str,
    region: &str,
    key: RootKey,
) -> Vec<(&'static str, String)> {
    vec![
        // Other commands of `nodestead` mean the same region.
        ("NODESTEAD_DATA_DIR", layout.root().display().to_string()),
        ("KUBECONFIG", layout.kubeconfig().display().to_string()),
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("AWS_ACCESS_KEY_ID", key.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", key.secret_access_key),
    ]
}

/// Quoted for a POSIX shell, where it must be.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    if value.chars().all(is_plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted("/var/lib/nodestead/kubeconfig"), "/var/lib/nodestead/kubeconfig");
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
    }
}
