//! What a message on one channel means for the others.

use aws_ssm::{
    channel::{JobReply, TaskComplete},
    message::{self, AgentMessage, MessageError, payload},
};

use super::{Channel, Opened};
use crate::Ssm;

impl Ssm {
    /// A connection was opened: the other side may send.
    pub(crate) fn opened(&self, opened: &Opened) {
        let Channel::Client(session) = &opened.channel else {
            if let Channel::Agent(session) = &opened.channel {
                self.agent_is_there(session, true);
                if !self.hub().is_open(&Channel::Client(session.clone())) {
                    self.hub().tell(&opened.channel, self.notice(message::PAUSE_PUBLICATION));
                }
            }
            return;
        };
        self.client_is_there(session, true);
        let agent = Channel::Agent(session.clone());
        self.hub().tell(&agent, self.notice(message::START_PUBLICATION));
    }

    /// A connection has ended: nobody hears the other side for now.
    pub(crate) fn closed(&self, channel: &Channel, number: u64) {
        if !self.hub().close(channel, number) {
            return;
        }
        match channel {
            Channel::Client(session) => {
                self.client_is_there(session, false);
                let agent = Channel::Agent(session.clone());
                self.hub().tell(&agent, self.notice(message::PAUSE_PUBLICATION));
            }
            Channel::Agent(session) => self.agent_is_there(session, false),
            Channel::Control(_) => {}
        }
    }

    /// Carries one message. What this end may not say, or what nobody hears, goes no further.
    pub(crate) async fn carry(&self, from: &Channel, bytes: Vec<u8>) -> Result<(), MessageError> {
        let message = AgentMessage::decode(&bytes)?;
        let kind = message.message_type.as_str();
        let to = match (from, kind) {
            (Channel::Client(session), message::INPUT | message::ACKNOWLEDGE) => {
                Channel::Agent(session.clone())
            }
            (Channel::Agent(session), message::OUTPUT | message::ACKNOWLEDGE) => {
                Channel::Client(session.clone())
            }
            (Channel::Control(instance), message::TASK_COMPLETE) => {
                self.session_is_complete(instance, &message.payload);
                return Ok(());
            }
            (Channel::Control(instance), message::JOB_REPLY) => {
                if let Ok(reply) = serde_json::from_slice::<JobReply>(&message.payload) {
                    self.command_is_answered(instance, &reply);
                }
                return Ok(());
            }
            _ => {
                tracing::debug!(?from, kind, "a message that this end may not send");
                return Ok(());
            }
        };
        if message.payload_type == payload::OUTPUT && kind != message::ACKNOWLEDGE {
            let (Channel::Client(session) | Channel::Agent(session)) = &to else { return Ok(()) };
            self.was_active(session);
        }
        if let Some(outbox) = self.hub().outbox(&to) {
            // Whoever is slow holds up the other end, and nobody else.
            outbox.send(bytes).await.ok();
        }
        Ok(())
    }

    /// The agent says that nothing runs for a session any more.
    fn session_is_complete(&self, instance: &str, payload: &[u8]) {
        let Ok(complete) = serde_json::from_slice::<TaskComplete>(payload) else { return };
        let is_own = |it: &crate::sessions::Session| it.target == instance;
        if self.active(&complete.task_id).is_ok_and(|it| is_own(&it)) {
            self.end(&complete.task_id, &complete.output);
        }
    }

    /// A message without a payload.
    pub(crate) fn notice(&self, kind: &str) -> Vec<u8> {
        self.message(kind, Vec::new()).encode()
    }

    pub(crate) fn message(&self, kind: &str, payload: Vec<u8>) -> AgentMessage {
        AgentMessage {
            message_type: kind.to_owned(),
            schema_version: 1,
            created: self.now().as_millisecond().unsigned_abs(),
            id: entropy::bytes(),
            payload,
            ..AgentMessage::default()
        }
    }
}
