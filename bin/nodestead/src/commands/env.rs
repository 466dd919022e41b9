//! `nodestead env`: shell exports for unmodified clients.

use crate::{admin::Admin, cli, layout::Layout};

pub(crate) async fn run(args: cli::Env) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let status: crate::admin::DaemonStatus =
        Admin::new(layout.admin_socket()).get("/v1/status").await?;
    for (name, value) in exports(&layout, &status.aws_endpoint, &status.region) {
        println!("export {name}={}", quoted(&value));
    }
    Ok(())
}

/// What clients need to know, in the order in which it is printed.
pub(crate) fn exports(
    layout: &Layout,
    endpoint: &str,
    region: &str,
) -> Vec<(&'static str, String)> {
    vec![
        // Other commands of `nodestead` mean the same region.
        ("NODESTEAD_DATA_DIR", layout.root().display().to_string()),
        ("KUBECONFIG", layout.kubeconfig().display().to_string()),
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
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
