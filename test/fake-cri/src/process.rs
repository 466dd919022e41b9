//! The life of a container's process: it starts, it ends, and both are told.

use std::time::Duration;

use api_cri::{containerd, v1};
use prost::Message;
use tonic::Status;

use crate::{FakeCri, runtime::missing};

impl FakeCri {
    pub(crate) fn nanos(&self) -> i64 {
        i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(i64::MAX)
    }

    pub(crate) fn name_of(&self, id: &str) -> String {
        let state = self.state.lock();
        let container = state.containers.get(id).map(|it| it.name().to_owned());
        container
            .or_else(|| state.sandboxes.get(id).map(|it| it.name().to_owned()))
            .unwrap_or_default()
    }

    pub(crate) fn tell(&self, topic: &str, id: &str, value: Vec<u8>) {
        let event = containerd::Any { type_url: String::new(), value };
        // Nobody need listen.
        drop(self.events.send(containerd::Envelope {
            timestamp: None,
            namespace: "k8s.io".to_owned(),
            topic: topic.to_owned(),
            event: Some(event),
        }));
        debug_assert!(!id.is_empty(), "every event is about a container");
    }

    /// A container's process has ended.
    pub(crate) fn finish(&self, id: &str, code: i32, reason: &str) {
        let lag = self.state.lock().exit_lag;
        if lag.is_zero() {
            let at = self.nanos();
            if self.note_end(id, code, reason, at) {
                self.tell_exit(id, code, at);
            }
            return;
        }
        if !self.state.lock().ending.insert(id.to_owned()) {
            return;
        }
        let at = self.nanos();
        self.tell_exit(id, code, at);
        let (this, id, reason) = (self.clone(), id.to_owned(), reason.to_owned());
        // As containerd does: it takes the task away, tells of that, and writes its own state down.
        let later = async move {
            tokio::time::sleep(lag).await;
            let deleted = containerd::TaskEvent { container_id: id.clone() };
            this.tell("/tasks/delete", &id, deleted.encode_to_vec());
            tokio::time::sleep(Duration::from_millis(2)).await;
            this.note_end(&id, code, &reason, at);
        };
        drop(self.scope.spawn("exit", later));
    }

    /// Says whether it was running.
    fn note_end(&self, id: &str, code: i32, reason: &str, at: i64) -> bool {
        let mut state = self.state.lock();
        let Some(container) = state.containers.get_mut(id) else { return false };
        if container.state != v1::ContainerState::ContainerRunning {
            return false;
        }
        container.state = v1::ContainerState::ContainerExited;
        container.code = code;
        container.reason = reason.to_owned();
        container.finished_at = at;
        true
    }

    fn tell_exit(&self, id: &str, code: i32, at: i64) {
        const SECOND: i64 = 1_000_000_000;
        let nanos = i32::try_from(at.rem_euclid(SECOND)).unwrap_or(0);
        let exit = containerd::TaskExit {
            container_id: id.to_owned(),
            id: id.to_owned(),
            exit_status: code.unsigned_abs(),
            exited_at: Some(containerd::Timestamp { seconds: at.div_euclid(SECOND), nanos }),
            ..Default::default()
        };
        self.tell("/tasks/exit", id, exit.encode_to_vec());
    }

    pub(crate) async fn end(&self, id: &str, grace: Duration) {
        let name = self.name_of(id);
        let script = self.state.lock().scripts.get(&name).cloned().unwrap_or_default();
        if self.state.lock().running(&name).is_none() {
            return;
        }
        if script.stop_takes > grace {
            tokio::time::sleep(grace).await;
            self.finish(id, 137, "Error");
        } else {
            tokio::time::sleep(script.stop_takes).await;
            self.finish(id, 143, "Error");
        }
    }

    pub(crate) fn container_status_of(&self, id: &str) -> Result<v1::ContainerStatus, Status> {
        let state = self.state.lock();
        let it = state.containers.get(id).ok_or_else(|| missing("container", id))?;
        let image_ref = it.config.image.clone().map(|it| it.image).unwrap_or_default();
        let tag = state.image(&image_ref).and_then(|it| it.repo_tags.first());
        let image = tag.cloned().unwrap_or_else(|| image_ref.clone());
        let told = state.features.filter(|it| it.supplemental_groups_policy);
        let context = it.config.linux.as_ref().and_then(|it| it.security_context.as_ref());
        let user = told.and(context).map(|it| v1::LinuxContainerUser {
            uid: it.run_as_user.map_or(0, |it| it.value),
            gid: it.run_as_group.map_or(0, |it| it.value),
            supplemental_groups: it.supplemental_groups.clone(),
        });
        Ok(v1::ContainerStatus {
            id: id.to_owned(),
            mounts: it.config.mounts.clone(),
            user: user.map(|it| v1::ContainerUser { linux: Some(it) }),
            metadata: it.config.metadata.clone(),
            state: it.state as i32,
            created_at: it.created_at,
            started_at: it.started_at,
            finished_at: it.finished_at,
            exit_code: it.code,
            image: Some(v1::ImageSpec { image, ..Default::default() }),
            image_ref,
            reason: it.reason.clone(),
            labels: it.config.labels.clone(),
            annotations: it.config.annotations.clone(),
            log_path: format!("{}/{}", it.log_directory, it.config.log_path),
            ..Default::default()
        })
    }
}
