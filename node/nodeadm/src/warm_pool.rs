//! Instances of a warm pool: all is made ready, and they become no nodes until they are wanted.
//!
//! Source: EKS user guide, "Decrease latency for applications with long boot times using warm pools with
//! managed node groups" (instances join when they enter service); Auto Scaling user guide, "Retrieve the
//! target lifecycle state through instance metadata".

use std::time::Duration;

use api_imds::{FetchError, ImdsClient, paths::TARGET_LIFECYCLE_STATE};
use tokio::time::sleep;
use tracing::info;

/// What is waited for is somebody who wants a node.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns once the instance is no instance of a warm pool.
pub(crate) async fn leave(imds: &ImdsClient) -> Result<(), FetchError> {
    let mut has_waited = false;
    loop {
        let state = imds.text(TARGET_LIFECYCLE_STATE).await?;
        if is_free(state.as_deref(), has_waited) {
            return Ok(());
        }
        if !has_waited {
            info!(state, "this instance waits in a warm pool");
        }
        has_waited = true;
        sleep(PAUSE).await;
    }
}

/// Whether the instance may become a node. One that goes from the pool never does; one that goes and has
/// been a node still has pods to end.
fn is_free(state: Option<&str>, was_pooled: bool) -> bool {
    match state.map(str::trim) {
        None | Some("InService" | "Standby") => true,
        Some(state) => !was_pooled && !state.starts_with("Warmed:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_of_a_warm_pool_waits_until_it_is_to_enter_service() {
        for pooled in ["Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated"] {
            assert!(!is_free(Some(pooled), false), "{pooled}");
        }
        assert!(is_free(Some("InService"), true));
        assert!(is_free(None, false), "of no group");
        assert!(!is_free(Some("Terminated"), true), "it goes from the pool");
        assert!(is_free(Some("Terminated\n"), false), "a node that reboots ends its pods");
    }
}
