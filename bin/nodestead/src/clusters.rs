//! Which of the region's clusters a command asks: the one that is named, else the one that `up` made,
//! whose kubeconfig lies in the data directory.

use kube::{Client, config::Kubeconfig};

use crate::{admin::DaemonStatus, failure::Failure, kubernetes, layout::Layout};

/// The name of the cluster that is meant; empty where the region has none.
pub(crate) fn chosen(
    layout: &Layout,
    status: &DaemonStatus,
    wanted: Option<&str>,
) -> Result<String, Failure> {
    let names: Vec<&str> = status.clusters.iter().map(|it| it.name.as_str()).collect();
    let Some(wanted) = wanted else {
        let own = own(layout).filter(|it| names.contains(&it.as_str()));
        return Ok(own.or_else(|| Some(names.first()?.to_string())).unwrap_or_default());
    };
    if names.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    let next = match names.as_slice() {
        [] => "the region has none: see `nodestead status`".to_owned(),
        names => format!("use one of: {}", names.join(", ")),
    };
    Err(Failure::new(format!("there is no cluster `{wanted}`"), next))
}

/// The administrator's client of a cluster of this name; without one, of the one that `up` made.
pub(crate) async fn client(layout: &Layout, name: Option<&str>) -> anyhow::Result<Client> {
    let Some(name) = name.filter(|it| !it.is_empty()) else {
        return kubernetes::client(layout).await;
    };
    // A name is no way to another folder.
    if name.contains('/') || name.starts_with('.') {
        return Err(Failure::usage(format!("`{name}` is no name of a cluster"), NAMES).into());
    }
    let path = layout.clusters().join(name).join("kubeconfig");
    kubernetes::client_of(&path, NAMES).await
}

const NAMES: &str = "`nodestead status` names the region's clusters";

/// The cluster that the data directory's kubeconfig is of.
pub(crate) fn own(layout: &Layout) -> Option<String> {
    let kubeconfig = Kubeconfig::read_from(layout.kubeconfig()).ok()?;
    Some(kubeconfig.clusters.into_iter().next()?.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ClusterStatus;

    fn status(names: &[&str]) -> DaemonStatus {
        let cluster = |name: &&str| ClusterStatus {
            name: (*name).to_owned(),
            status: "ACTIVE".to_owned(),
            endpoint: String::new(),
        };
        DaemonStatus {
            pid: 1,
            region: "us-east-1".to_owned(),
            account: "111122223333".to_owned(),
            aws_endpoint: "http://127.0.0.1:4566".to_owned(),
            clusters: names.iter().map(cluster).collect(),
            instances: Vec::new(),
            load_balancers: Vec::new(),
            limits: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_named_cluster_is_asked_and_else_the_one_that_up_made() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let both = status(&["alpha", "stead"]);
        assert_eq!(chosen(&layout, &both, None).unwrap(), "alpha", "none was made by `up`");
        let own = "apiVersion: v1\nkind: Config\nclusters:\n- name: stead\n  cluster: {server: 'https://127.0.0.1:1'}\n";
        std::fs::write(layout.kubeconfig(), own).unwrap();
        assert_eq!(chosen(&layout, &both, None).unwrap(), "stead");
        assert_eq!(chosen(&layout, &both, Some("alpha")).unwrap(), "alpha");
        assert_eq!(chosen(&layout, &status(&[]), None).unwrap(), "");
        let refused = format!("{:?}", chosen(&layout, &both, Some("beta")).unwrap_err());
        assert!(refused.contains("`beta`") && refused.contains("alpha, stead"), "{refused}");
        for wrong in ["../stead", "beta"] {
            assert!(client(&layout, Some(wrong)).await.is_err(), "{wrong}");
        }
    }
}
