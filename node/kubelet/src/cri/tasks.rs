//! Signals to the process of a container, through containerd's own service: CRI of containerd 1.6 can
//! only send what the image names. Other runtimes answer `Unimplemented`.

use std::time::Duration;

use api_cri::tasks;

use super::{CriError, Runtime, snapshots::in_namespace};

impl Runtime {
    /// Sends a signal to the first process of a container.
    pub(crate) async fn signal(&self, id: &str, signal: u32) -> Result<(), CriError> {
        let request = tasks::KillRequest {
            container_id: id.to_owned(),
            signal,
            ..tasks::KillRequest::default()
        };
        let mut client = self.tasks.clone();
        self.call("Kill", self.limit, client.kill(in_namespace(request))).await?;
        Ok(())
    }

    /// Waits until the first process of a container has ended, at most `limit`.
    pub(crate) async fn wait_exit(&self, id: &str, limit: Duration) -> Result<(), CriError> {
        let request = tasks::WaitRequest { container_id: id.to_owned(), exec_id: String::new() };
        let mut client = self.tasks.clone();
        self.call("Wait", limit, client.wait(in_namespace(request))).await?;
        Ok(())
    }
}
