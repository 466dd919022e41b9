//! The reliable stream in a data channel, without its connection: what was sent and not acknowledged
//! is sent again, what comes early waits, and what comes twice is heard once. Pure.
//!
//! Source: `agent/session/datachannel` of `amazon-ssm-agent`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use aws_ssm::{
    channel::Acknowledge,
    message::{self, AgentMessage, MessageError},
};
use tokio::time::Instant;

/// When the oldest message is sent again, at first and at most.
const AGAIN: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(1);
/// So many messages wait for their acknowledgement; the program waits with the next.
const WINDOW: usize = 1000;
/// So many wait for an earlier one.
const EARLY: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    next: i64,
    unacknowledged: VecDeque<Sent>,
    expected: i64,
    early: BTreeMap<i64, (u32, Vec<u8>)>,
    is_paused: bool,
}

#[derive(Debug)]
struct Sent {
    sequence: i64,
    bytes: Vec<u8>,
    at: Instant,
    pause: Duration,
}

/// What a message brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// In their order: payload types and payloads.
    pub(crate) inputs: Vec<(u32, Vec<u8>)>,
    /// To be sent at once.
    pub(crate) answers: Vec<Vec<u8>>,
    /// The session is over.
    pub(crate) is_closed: bool,
}

impl Stream {
    /// Whether more may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.unacknowledged.len() < WINDOW
    }

    /// Whether everything has been heard on the other side.
    pub(crate) fn is_heard(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// The next message of the stream; `None` while nobody listens: it is kept for later.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        created: u64,
        payload_type: u32,
        payload: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let message = AgentMessage {
            message_type: message::OUTPUT.to_owned(),
            schema_version: 1,
            created,
            sequence: self.next,
            flags: u64::from(self.next == 0),
            id: entropy::bytes(),
            payload_type,
            payload,
        };
        let bytes = message.encode();
        let sent = Sent { sequence: self.next, bytes: bytes.clone(), at: now, pause: AGAIN };
        self.next += 1;
        self.unacknowledged.push_back(sent);
        (!self.is_paused).then_some(bytes)
    }

    /// Takes one message. While `accepts` is false, input is left for the other side to send again.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        created: u64,
        bytes: &[u8],
        accepts: bool,
    ) -> Result<Heard, MessageError> {
        let message = AgentMessage::decode(bytes)?;
        let mut heard = Heard::default();
        match message.message_type.as_str() {
            message::INPUT if accepts => self.input(message, created, &mut heard),
            message::ACKNOWLEDGE => {
                let known = serde_json::from_slice::<Acknowledge>(&message.payload);
                if let Ok(Acknowledge { sequence_number, .. }) = known {
                    self.unacknowledged.retain(|it| it.sequence != sequence_number);
                }
                self.is_paused = false;
            }
            message::CHANNEL_CLOSED => heard.is_closed = true,
            message::PAUSE_PUBLICATION => self.is_paused = true,
            message::START_PUBLICATION => heard.answers = self.resume(now),
            _ => {}
        }
        Ok(heard)
    }

    fn input(&mut self, message: AgentMessage, created: u64, heard: &mut Heard) {
        self.is_paused = false;
        let is_early = message.sequence > self.expected;
        if is_early && self.early.len() >= EARLY {
            return;
        }
        // Also of what was heard before: its acknowledgement may have been lost.
        heard.answers.push(acknowledgement(&message, created));
        if message.sequence < self.expected {
            return;
        }
        self.early.insert(message.sequence, (message.payload_type, message.payload));
        while let Some(next) = self.early.remove(&self.expected) {
            self.expected += 1;
            heard.inputs.push(next);
        }
    }

    /// Somebody listens, again: all that was not heard, in its order.
    pub(crate) fn resume(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.is_paused = false;
        let again = |it: &mut Sent| {
            (it.at, it.pause) = (now, AGAIN);
            it.bytes.clone()
        };
        self.unacknowledged.iter_mut().map(again).collect()
    }

    /// When the oldest message is due again.
    pub(crate) fn due(&self) -> Option<Instant> {
        let oldest = self.unacknowledged.front().filter(|_| !self.is_paused)?;
        Some(oldest.at + oldest.pause)
    }

    /// The oldest message, if it is due.
    pub(crate) fn again(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.due().filter(|it| *it <= now)?;
        let oldest = self.unacknowledged.front_mut()?;
        (oldest.at, oldest.pause) = (now, (oldest.pause * 2).min(LONGEST));
        Some(oldest.bytes.clone())
    }
}

fn acknowledgement(message: &AgentMessage, created: u64) -> Vec<u8> {
    let content = Acknowledge {
        message_type: message.message_type.clone(),
        message_id: message.id_text(),
        sequence_number: message.sequence,
        is_sequential_message: true,
    };
    AgentMessage {
        message_type: message::ACKNOWLEDGE.to_owned(),
        schema_version: 1,
        created,
        flags: 3,
        id: entropy::bytes(),
        payload: serde_json::to_vec(&content).unwrap_or_default(),
        ..AgentMessage::default()
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use aws_ssm::message::payload;

    use super::*;

    fn input(sequence: i64, text: &str) -> Vec<u8> {
        AgentMessage {
            message_type: message::INPUT.to_owned(),
            created: 1,
            sequence,
            payload_type: payload::OUTPUT,
            payload: text.as_bytes().to_vec(),
            ..AgentMessage::default()
        }
        .encode()
    }

    fn of_kind(kind: &str) -> Vec<u8> {
        AgentMessage { message_type: kind.to_owned(), created: 1, ..AgentMessage::default() }
            .encode()
    }

    fn texts(heard: &Heard) -> Vec<&str> {
        heard.inputs.iter().map(|(_, it)| std::str::from_utf8(it).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_early_waits_and_what_comes_twice_is_heard_once() {
        let (mut stream, now) = (Stream::default(), Instant::now());
        let mut hear = |sequence, text| stream.hear(now, 1, &input(sequence, text), true).unwrap();
        assert!(texts(&hear(2, "c")).is_empty());
        assert_eq!(texts(&hear(0, "a")), ["a"]);
        assert_eq!(texts(&hear(1, "b")), ["b", "c"]);
        let twice = hear(1, "b");
        assert!(texts(&twice).is_empty());
        assert_eq!(twice.answers.len(), 1, "the acknowledgement may have been lost");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_acknowledges_is_sent_again_until_somebody_does() {
        let (mut stream, now) = (Stream::default(), Instant::now());
        let first = stream.send(now, 1, payload::OUTPUT, b"x".to_vec()).unwrap();
        assert_eq!(stream.again(now), None);
        let later = now + Duration::from_millis(200);
        assert_eq!(stream.again(later), Some(first.clone()));
        assert_eq!(stream.again(later + Duration::from_millis(300)), None, "the pauses grow");
        assert_eq!(stream.again(later + Duration::from_millis(400)), Some(first.clone()));
        let acknowledgement = acknowledgement(&AgentMessage::decode(&first).unwrap(), 1);
        stream.hear(later, 1, &acknowledgement, true).unwrap();
        assert!(stream.is_heard());
        assert_eq!(stream.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_listens_it_is_kept_and_then_all_is_sent() {
        let (mut stream, now) = (Stream::default(), Instant::now());
        stream.hear(now, 1, &of_kind(message::PAUSE_PUBLICATION), true).unwrap();
        for _ in 0..3 {
            assert_eq!(stream.send(now, 1, payload::OUTPUT, b"x".to_vec()), None);
        }
        assert_eq!(stream.due(), None);
        let heard = stream.hear(now, 1, &of_kind(message::START_PUBLICATION), true).unwrap();
        assert_eq!(heard.answers.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_takes_nothing_leaves_input_to_be_sent_again() {
        let (mut stream, now) = (Stream::default(), Instant::now());
        let heard = stream.hear(now, 1, &input(0, "a"), false).unwrap();
        assert_eq!(heard, Heard::default(), "nothing is acknowledged");
        assert_eq!(texts(&stream.hear(now, 1, &input(0, "a"), true).unwrap()), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_acknowledges_is_not_held_without_bound() {
        let (mut stream, now) = (Stream::default(), Instant::now());
        while stream.has_room() {
            stream.send(now, 1, payload::OUTPUT, vec![0; 1024]);
        }
        assert_eq!(stream.unacknowledged.len(), WINDOW);
        for sequence in 1..3000 {
            stream.hear(now, 1, &input(sequence, "x"), true).unwrap();
        }
        assert_eq!(stream.early.len(), EARLY);
        assert!(stream.hear(now, 1, b"rubbish", true).is_err());
    }
}
