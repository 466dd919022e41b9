//! Exits that containerd has told of and does not know itself yet.
//!
//! containerd tells how and when a process ended as soon as it has. Then it takes away what the process
//! was held in and reads what it printed to the end, and only after that it writes its own state down,
//! 60 ms later or seconds, with the same code and the same time. Meanwhile the pod's status says what
//! was told. What follows from an exit (a restart, the next container, the end of the pod) waits for
//! the runtime.
//!
//! Left to the runtime altogether are exits whose status the event does not hold: of a container that
//! may have been killed for its memory, and of one whose message is the end of its log, which may not
//! be written yet.
//!
//! Deviation: the status tells of an exit some tens of milliseconds before the runtime's own state does;
//! upstream's never does. Who asks for the log of such a container waits for the rest of it.
//!
//! **Invariant:** an exit that the runtime does not confirm is forgotten: its word counts.

use std::{borrow::Cow, time::Duration};

use api_cri::containerd::TaskExit;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::{
    labels,
    observed::{RuntimeContainer, RuntimePod, State},
    pod::PodExt,
    stats::group::Group,
};

/// For so long an exit is believed without the runtime's word. Much that was printed can take it long.
const LIMIT: Duration = Duration::from_secs(60);
/// Of a process that was killed, by the kernel perhaps.
const KILLED: i32 = 128 + 9;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EarlyExit {
    id: String,
    code: i32,
    finished: Timestamp,
    heard: Instant,
}

/// Those of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EarlyExits(Vec<EarlyExit>);

impl EarlyExit {
    /// What an event tells of a container that was last seen running; `None` where that is not all
    /// that its status will say.
    pub(crate) fn of(
        event: &TaskExit,
        pod: &Pod,
        observed: &RuntimePod,
        group: &Group<'_>,
    ) -> Option<Self> {
        let container = observed.containers.iter().find(|it| it.id == event.container_id)?;
        let (_, spec) = pod.find_container(&container.name)?;
        let code = i32::try_from(event.exit_status).ok()?;
        if code != 0 && labels::message_policy(&spec) == "FallbackToLogsOnError" {
            return None;
        }
        let may_be_memory = match group.oom_kills() {
            None => code == KILLED,
            Some(count) => count > 0,
        };
        let at = event.exited_at.as_ref().filter(|_| !may_be_memory)?;
        let finished = Timestamp::new(at.seconds, at.nanos).ok()?;
        Some(Self { id: container.id.clone(), code, finished, heard: Instant::now() })
    }
}

impl EarlyExits {
    pub(crate) fn add(&mut self, exit: EarlyExit) {
        self.0.push(exit);
    }

    /// Forgets what the runtime knows by now, and what it did not confirm in time.
    pub(crate) fn settle(&mut self, observed: &RuntimePod) {
        self.0.retain(|it| {
            let container = observed.containers.iter().find(|known| known.id == it.id);
            it.heard.elapsed() < LIMIT && container.is_some_and(RuntimeContainer::is_running)
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.0.iter().any(|it| it.id == id)
    }

    /// When the first of them is no longer believed.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.0.iter().map(|it| it.heard + LIMIT).min()
    }

    /// The pod as it is, of which the runtime tells in a moment.
    pub(crate) fn applied_to<'a>(&self, observed: &'a RuntimePod) -> Cow<'a, RuntimePod> {
        if self.0.is_empty() {
            return Cow::Borrowed(observed);
        }
        let mut pod = observed.clone();
        for container in &mut pod.containers {
            let exit = self.0.iter().find(|it| it.id == container.id);
            if let (Some(exit), State::Running { started }) = (exit, &container.state) {
                container.state = State::Exited {
                    started: *started,
                    finished: exit.finished,
                    code: exit.code,
                    // As the runtime words it where nobody gave a reason.
                    reason: if exit.code == 0 { "Completed" } else { "Error" }.to_owned(),
                    message: String::new(),
                };
            }
        }
        Cow::Owned(pod)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use api_cri::{containerd, v1};
    use serde_json::json;

    use super::*;
    use crate::{
        cgroups::Hierarchy,
        observed::{container_from, sorted},
    };

    fn observed() -> RuntimePod {
        let status = v1::ContainerStatus {
            id: "1".to_owned(),
            labels: [(labels::CONTAINER_NAME.to_owned(), "c".to_owned())].into(),
            state: v1::ContainerState::ContainerRunning as i32,
            ..Default::default()
        };
        sorted(Vec::new(), vec![container_from(status, String::new())])
    }

    fn pod(policy: &str) -> Pod {
        let container = json!({ "name": "c", "terminationMessagePolicy": policy });
        serde_json::from_value(json!({ "spec": { "containers": [container] } })).unwrap()
    }

    fn event(code: u32) -> TaskExit {
        TaskExit {
            container_id: "1".to_owned(),
            exit_status: code,
            exited_at: Some(containerd::Timestamp { seconds: 7, nanos: 5 }),
            ..TaskExit::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_exit_that_memory_or_a_log_may_explain_is_left_to_the_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::V2 { root: folder.path().to_owned() };
        let group = Group::new(&hierarchy, Path::new("g"));
        let ask =
            |code, policy: &str| EarlyExit::of(&event(code), &pod(policy), &observed(), &group);
        assert!(ask(1, "File").is_some() && ask(0, "FallbackToLogsOnError").is_some());
        assert!(ask(1, "FallbackToLogsOnError").is_none());
        assert!(ask(137, "File").is_none(), "nobody can say any more who killed it");
        fs::create_dir(folder.path().join("g")).unwrap();
        let events = folder.path().join("g/memory.events");
        fs::write(&events, "oom 0\noom_kill 0\n").unwrap();
        assert!(ask(137, "File").is_some());
        fs::write(&events, "oom 1\noom_kill 1\n").unwrap();
        assert!(ask(137, "File").is_none() && ask(0, "File").is_none());
        let other = TaskExit { container_id: "2".to_owned(), ..event(0) };
        assert!(EarlyExit::of(&other, &pod("File"), &observed(), &group).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_exit_is_told_until_the_runtime_knows_it_or_does_not_confirm_it() {
        let (running, unused) = (observed(), Hierarchy::Unused);
        let group = Group::new(&unused, Path::new(""));
        let exit = EarlyExit::of(&event(3), &pod("File"), &running, &group).unwrap();
        let mut exits = EarlyExits::default();
        exits.add(exit.clone());
        let ahead = exits.applied_to(&running);
        let State::Exited { finished, code, ref reason, .. } = ahead.containers[0].state else {
            panic!("it runs");
        };
        assert_eq!((finished.as_nanosecond(), code, reason.as_str()), (7_000_000_005, 3, "Error"));
        exits.settle(&running);
        assert!(exits.contains("1"));
        exits.settle(&ahead);
        assert!(exits.is_empty(), "the runtime knows");
        exits.add(exit);
        tokio::time::advance(LIMIT).await;
        exits.settle(&running);
        assert!(exits.is_empty(), "the runtime says that it runs");
    }
}
