//! containerd's own service for the processes of containers: signals, and waiting for an end.

use api_cri::{
    tasks::{Empty, KillRequest, WaitRequest, WaitResponse, tasks_server::Tasks},
    v1,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{FakeCri, runtime::missing};

impl FakeCri {
    fn exit_of(&self, id: &str) -> Result<Option<i32>, Status> {
        let state = self.state.lock();
        let it = state.containers.get(id).ok_or_else(|| missing("task", id))?;
        Ok((it.state == v1::ContainerState::ContainerExited).then_some(it.code))
    }
}

#[async_trait]
impl Tasks for FakeCri {
    /// Noted as `NAME:SIGNAL`. The process takes as long to end as its script says.
    async fn kill(&self, request: Request<KillRequest>) -> Result<Response<Empty>, Status> {
        let KillRequest { container_id, signal, .. } = request.into_inner();
        let name = self.name_of(&container_id);
        self.enter("Kill", &format!("{name}:{signal}"))?;
        if self.exit_of(&container_id)?.is_some() {
            return Err(Status::not_found("process already finished: not found"));
        }
        let script = self.state.lock().scripts.get(&name).cloned().unwrap_or_default();
        let this = self.clone();
        let end = async move {
            tokio::time::sleep(script.stop_takes).await;
            this.finish(&container_id, 128 + i32::try_from(signal).unwrap_or(0), "Error");
        };
        drop(self.scope.spawn("signal", end));
        Ok(Response::new(Empty {}))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let id = request.into_inner().container_id;
        let mut events = self.events.subscribe();
        loop {
            if let Some(code) = self.exit_of(&id)? {
                return Ok(Response::new(WaitResponse { exit_status: code.unsigned_abs() }));
            }
            drop(events.recv().await);
        }
    }
}
