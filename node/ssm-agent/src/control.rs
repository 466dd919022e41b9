//! The control channel: what the instance is told to do, and what has become of it.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use aws_ssm::{
    channel::{ChannelClosed, CommandJob, JobReply, SessionTask, Task, TaskComplete},
    instance::UpdateInstanceInformationRequest,
    message::{self, AgentMessage},
};
use clock::Clock;
use lifecycle::Scope;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tracing::{debug, info, warn};

use crate::{
    gateway::{Channel, ChannelError, Gateway},
    port::{self, Destination},
    program::Program,
    script,
    session::{self, Ending},
    terminal,
    user::User,
};

/// How often the gateway hears that the instance is well.
const TELL: Duration = Duration::from_secs(300);
/// The pauses between attempts: a role that was given rights once may get them again, a region comes
/// back sooner.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_REFUSED: Duration = Duration::from_secs(300);
/// At once on one instance.
const MOST_SESSIONS: usize = 100;
const QUEUE: usize = 256;

/// The agent of one instance.
pub(crate) struct Agent {
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) clock: Clock,
    pub(crate) scope: Scope,
    pub(crate) instance: String,
    pub(crate) facts: UpdateInstanceInformationRequest,
    pub(crate) root: PathBuf,
    sessions: Mutex<HashMap<String, Scope>>,
    /// What is to be said, also when the channel is not open now.
    report: mpsc::Sender<Vec<u8>>,
}

pub(crate) type Reports = mpsc::Receiver<Vec<u8>>;

impl Agent {
    pub(crate) fn new(
        gateway: Arc<dyn Gateway>,
        clock: Clock,
        scope: Scope,
        facts: UpdateInstanceInformationRequest,
        root: PathBuf,
    ) -> (Arc<Self>, Reports) {
        let (report, reports) = mpsc::channel(QUEUE);
        let (instance, sessions) = (facts.instance_id.clone(), Mutex::default());
        let agent = Self { gateway, clock, scope, instance, facts, root, sessions, report };
        (Arc::new(agent), reports)
    }

    /// Keeps the channel open. Ends where none could be opened yet and the instance's role may not:
    /// there is nothing to do here, and whoever starts the agent again asks again.
    pub(crate) async fn run(self: Arc<Self>, mut reports: Reports) {
        let (mut pause, mut was_open) = (FIRST_PAUSE, false);
        loop {
            let most = match self.open().await {
                Ok(channel) => {
                    info!(instance = self.instance, "the control channel is open");
                    (pause, was_open) = (FIRST_PAUSE, true);
                    self.serve(channel, &mut reports).await;
                    LONGEST_PAUSE
                }
                Err(error) if error.is_refusal() && !was_open => {
                    let error = telemetry::chain(&error);
                    return info!(%error, "the instance's role has no rights for an agent");
                }
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "no control channel");
                    if error.is_refusal() { LONGEST_REFUSED } else { LONGEST_PAUSE }
                }
            };
            tokio::time::sleep(pause.min(most)).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn open(&self) -> Result<Channel, ChannelError> {
        self.gateway.tell(self.facts.clone()).await?;
        self.gateway.control(&self.instance).await
    }

    async fn serve(self: &Arc<Self>, mut channel: Channel, reports: &mut Reports) {
        let mut tell = tokio::time::interval_at(tokio::time::Instant::now() + TELL, TELL);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                bytes = channel.from.recv() => match bytes {
                    Some(bytes) => self.obey(&bytes),
                    None => return,
                },
                report = reports.recv() => {
                    let Some(report) = report else { return };
                    if channel.to.send(report).await.is_err() {
                        return;
                    }
                }
                _ = tell.tick() => {
                    if let Err(error) = self.gateway.tell(self.facts.clone()).await {
                        warn!(error = %telemetry::chain(&error), "the instance's state was not told");
                    }
                }
            }
        }
    }

    fn obey(self: &Arc<Self>, bytes: &[u8]) {
        let message = match AgentMessage::decode(bytes) {
            Ok(message) => message,
            Err(error) => return debug!(%error, "a message is left out"),
        };
        let task = || serde_json::from_slice::<Task>(&message.payload).ok();
        match message.message_type.as_str() {
            message::INTERACTIVE_SHELL => {
                let session = task().and_then(|it| serde_json::from_str(&it.content).ok());
                if let Some(session) = session {
                    self.begin(session);
                }
            }
            message::JOB => {
                let job = task().and_then(|it| serde_json::from_str(&it.content).ok());
                if let Some(job) = job {
                    self.run_command(job);
                }
            }
            message::CHANNEL_CLOSED => {
                let closed = serde_json::from_slice::<ChannelClosed>(&message.payload);
                if let Ok(closed) = closed
                    && let Some(scope) = self.sessions.lock().remove(&closed.session_id)
                {
                    scope.cancel();
                }
            }
            other => debug!(kind = other, "a message that is not known"),
        }
    }

    /// A session, in a scope of its own: what is cancelled is gone with all that it has started.
    fn begin(self: &Arc<Self>, task: SessionTask) {
        let id = task.session_id.clone();
        let scope = self.scope.child();
        {
            let mut sessions = self.sessions.lock();
            if sessions.contains_key(&id) {
                return;
            }
            if sessions.len() >= MOST_SESSIONS {
                drop(sessions);
                return self.complete(&id, "The instance has too many sessions.".to_owned());
            }
            sessions.insert(id, scope.clone());
        }
        let (agent, programs) = (self.clone(), scope.clone());
        let work = async move {
            let id = task.session_id.clone();
            info!(session = id, kind = task.document_content.session_type, "a session begins");
            let (gateway, clock) = (agent.gateway.clone(), agent.clock);
            let start = async |task: &SessionTask| agent.start(&programs, task).await;
            let ending = session::run(gateway, clock, &task, start).await;
            info!(session = id, ?ending, "a session has ended");
            agent.sessions.lock().remove(&id);
            if let Ending::Complete(output) = ending {
                agent.complete(&id, output);
            }
            programs.cancel();
        };
        drop(scope.spawn("session", work));
    }

    async fn start(&self, scope: &Scope, task: &SessionTask) -> Result<Program, String> {
        let content = &task.document_content;
        let property = |name: &str| content.properties[name].as_str();
        let failed = |error: std::io::Error| format!("Unable to start the session: {error}");
        let commands = content.properties["linux"]["commands"].as_str().unwrap_or_default();
        match content.session_type.as_str() {
            "Port" => {
                let port = property("portNumber").and_then(|it| it.parse().ok());
                let to = Destination {
                    host: property("host").unwrap_or("localhost").to_owned(),
                    port: port.ok_or("The port is not a number.")?,
                    is_forwarding: property("type") == Some("LocalPortForwarding"),
                };
                port::start(scope, to).await.map_err(|error| {
                    warn!(%error, "a port does not answer");
                    "Connection to destination port failed, check SSM Agent logs.".to_owned()
                })
            }
            "Standard_Stream" => {
                let user = User::ensure(&self.root).map_err(failed)?;
                terminal::start(scope, &user, &["/bin/sh"]).map_err(failed)
            }
            // Deviation: also without interaction the command has a terminal.
            "InteractiveCommands" | "NonInteractiveCommands" => {
                let user = User::ensure(&self.root).map_err(failed)?;
                terminal::start(scope, &user, &["/bin/sh", "-c", commands]).map_err(failed)
            }
            other => Err(format!("Session type {other} is not supported.")),
        }
    }

    fn complete(&self, session: &str, output: String) {
        let complete = TaskComplete {
            schema_version: 1,
            task_id: session.to_owned(),
            topic: "aws.ssm.sessionManager".to_owned(),
            final_task_status: "Success".to_owned(),
            instance_id: self.instance.clone(),
            output,
        };
        self.say(message::TASK_COMPLETE, &complete);
    }

    fn run_command(self: &Arc<Self>, job: CommandJob) {
        let agent = self.clone();
        drop(self.scope.spawn("command", async move {
            let folder = agent.root.join("var/lib/amazon/ssm/commands");
            let result = script::run(&folder, &job).await;
            let reply = JobReply {
                schema_version: 1,
                job_id: job.command_id.clone(),
                topic: "aws.ssm.sendCommand".to_owned(),
                content: serde_json::to_string(&result).unwrap_or_default(),
            };
            agent.say(message::JOB_REPLY, &reply);
        }));
    }

    fn say(&self, kind: &str, content: &impl Serialize) {
        let message = AgentMessage {
            message_type: kind.to_owned(),
            schema_version: 1,
            created: self.clock.now().as_millisecond().unsigned_abs(),
            id: entropy::bytes(),
            payload: serde_json::to_vec(content).unwrap_or_default(),
            ..AgentMessage::default()
        };
        if self.report.try_send(message.encode()).is_err() {
            warn!(kind, "too much waits to be told");
        }
    }
}

#[cfg(test)]
mod tests;
