//! A driver comes and goes: it is asked who this node is to it, and the node tells the cluster.
//!
//! Upstream: `RegistrationHandler` in `pkg/volume/csi/csi_plugin.go`.

use std::sync::Arc;

use futures::future::BoxFuture;
use tracing::{info, warn};

use super::{Csi, client::Driver};
use crate::plugins::Handler;

impl Handler for Csi {
    fn kind(&self) -> &'static str {
        "CSIPlugin"
    }

    fn register<'a>(
        &'a self,
        name: &'a str,
        endpoint: &'a str,
        versions: &'a [String],
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            check_versions(name, endpoint, versions)?;
            let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
            let channel = api_cri::connect(path).map_err(|it| it.to_string())?;
            let driver = Driver::new(name, path.into(), channel, self.metrics.clone());
            let node = driver
                .info()
                .await
                .map_err(|error| format!("error during CSI NodeGetInfo() call: {error}"))?;
            self.drivers.lock().insert(name.to_owned(), driver);
            if let Err(error) = self.add_to_node(name, &node).await {
                self.drivers.lock().remove(name);
                return Err(format!("error updating CSI node info in the cluster: {error}"));
            }
            info!(driver = name, endpoint, "a CSI driver has registered itself");
            // What an earlier kubelet left staged may be taken away now.
            self.unused.notify_one();
            self.registered.notify_one();
            self.changes.send_replace(());
            Ok(())
        })
    }

    fn unregister<'a>(&'a self, name: &'a str, endpoint: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
            {
                let mut drivers = self.drivers.lock();
                // A newer instance of the driver may have taken the place.
                match drivers.get(name) {
                    Some(it) if it.endpoint.as_os_str() == path => drop(drivers.remove(name)),
                    _ => return,
                }
            }
            info!(driver = name, "a CSI driver has gone");
            if let Err(error) = self.remove_from_node(name).await {
                warn!(driver = name, error, "the node still names a CSI driver that has gone");
            }
        })
    }
}

/// A driver has to speak version 1 of the protocol.
fn check_versions(name: &str, endpoint: &str, versions: &[String]) -> Result<(), String> {
    if versions.is_empty() {
        let text = "Err: supported versions is empty";
        return Err(format!("{text} for CSI driver {name} at {endpoint}"));
    }
    let is_first = |it: &String| it.trim_start_matches('v').split('.').next() == Some("1");
    if versions.iter().any(is_first) {
        return Ok(());
    }
    Err(format!(
        "validation failed for CSI Driver {name} at endpoint {endpoint}: none of the CSI versions reported by this driver are supported"
    ))
}

/// So that one registry can hold it.
pub(crate) fn handler(csi: &Arc<Csi>) -> Arc<dyn Handler> {
    csi.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_one_is_spoken() {
        let ask = |versions: &[&str]| {
            let versions: Vec<_> = versions.iter().map(|it| (*it).to_owned()).collect();
            check_versions("d", "/s", &versions)
        };
        assert!(ask(&["1.0.0"]).is_ok());
        assert!(ask(&["0.3.0", "v1.5.0"]).is_ok());
        assert!(ask(&["0.3.0"]).unwrap_err().contains("none of the CSI versions"));
        assert!(ask(&[]).is_err());
    }
}
