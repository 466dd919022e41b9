//! The binary message of the message gateway's channels.
//!
//! | header length | type | schema | created | sequence | flags | id | digest | payload type |
//! payload length | payload |, all numbers in big-endian order. The header's length does not count
//! the payload length. The id's two halves are exchanged.

use sha2::{Digest, Sha256};

pub const INPUT: &str = "input_stream_data";
pub const OUTPUT: &str = "output_stream_data";
pub const ACKNOWLEDGE: &str = "acknowledge";
pub const CHANNEL_CLOSED: &str = "channel_closed";
pub const START_PUBLICATION: &str = "start_publication";
pub const PAUSE_PUBLICATION: &str = "pause_publication";
pub const INTERACTIVE_SHELL: &str = "interactive_shell";
pub const TASK_COMPLETE: &str = "agent_task_complete";
pub const JOB: &str = "agent_job";
pub const JOB_REPLY: &str = "agent_job_reply";

/// What the payload of a message of a stream is.
pub mod payload {
    pub const OUTPUT: u32 = 1;
    pub const ERROR: u32 = 2;
    pub const SIZE: u32 = 3;
    pub const HANDSHAKE_REQUEST: u32 = 5;
    pub const HANDSHAKE_RESPONSE: u32 = 6;
    pub const HANDSHAKE_COMPLETE: u32 = 7;
    pub const FLAG: u32 = 10;
    pub const STDERR: u32 = 11;
    pub const EXIT_CODE: u32 = 12;
}

/// Payloads of the type [`payload::FLAG`], as four bytes.
pub mod flag {
    pub const DISCONNECT_TO_PORT: u32 = 1;
    pub const TERMINATE_SESSION: u32 = 2;
    pub const CONNECT_TO_PORT_ERROR: u32 = 3;
}

/// Where the fields are.
const TYPE: std::ops::Range<usize> = 4..36;
const SCHEMA: usize = 36;
const CREATED: usize = 40;
const SEQUENCE: usize = 48;
const FLAGS: usize = 56;
const ID: std::ops::Range<usize> = 64..80;
const DIGEST: std::ops::Range<usize> = 80..112;
const PAYLOAD_TYPE: usize = 112;
const PAYLOAD_LENGTH: usize = 116;
const PAYLOAD: usize = 120;
/// All before the payload's length.
const HEADER: u32 = 116;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentMessage {
    pub message_type: String,
    pub schema_version: u32,
    /// Milliseconds since 1970.
    pub created: u64,
    pub sequence: i64,
    /// Bit 0: the first of its stream; bit 1: the last.
    pub flags: u64,
    pub id: [u8; 16],
    pub payload_type: u32,
    pub payload: Vec<u8>,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the message is shorter than its header")]
    Short,
    #[error("the header has another length than it says")]
    Header,
    #[error("the message has no type")]
    Type,
    #[error("the payload has another length than the header says")]
    Length,
    #[error("the payload is not the one whose digest the header has")]
    Digest,
}

impl AgentMessage {
    /// As bytes for the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; PAYLOAD];
        out[..4].copy_from_slice(&HEADER.to_be_bytes());
        out[TYPE].fill(b' ');
        let name = self.message_type.as_bytes();
        let length = name.len().min(TYPE.len());
        out[TYPE.start..TYPE.start + length].copy_from_slice(&name[..length]);
        out[SCHEMA..CREATED].copy_from_slice(&self.schema_version.to_be_bytes());
        out[CREATED..SEQUENCE].copy_from_slice(&self.created.to_be_bytes());
        out[SEQUENCE..FLAGS].copy_from_slice(&self.sequence.to_be_bytes());
        out[FLAGS..ID.start].copy_from_slice(&self.flags.to_be_bytes());
        out[ID].copy_from_slice(&exchanged(self.id));
        out[DIGEST].copy_from_slice(&Sha256::digest(&self.payload));
        out[PAYLOAD_TYPE..PAYLOAD_LENGTH].copy_from_slice(&self.payload_type.to_be_bytes());
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        out[PAYLOAD_LENGTH..PAYLOAD].copy_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }

    /// Reads one message, whole and as its header says.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() < PAYLOAD {
            return Err(MessageError::Short);
        }
        if number(bytes, 0) != HEADER {
            return Err(MessageError::Header);
        }
        let name = String::from_utf8_lossy(&bytes[TYPE]);
        let name = name.trim_matches(|it: char| it == '\0' || it.is_whitespace());
        if name.is_empty() {
            return Err(MessageError::Type);
        }
        let payload = &bytes[PAYLOAD..];
        if number(bytes, PAYLOAD_LENGTH) as usize != payload.len() {
            return Err(MessageError::Length);
        }
        // Messages without a payload may come without a digest.
        if !payload.is_empty() && bytes[DIGEST] != *Sha256::digest(payload) {
            return Err(MessageError::Digest);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[ID]);
        Ok(Self {
            message_type: name.to_owned(),
            schema_version: number(bytes, SCHEMA),
            created: long(bytes, CREATED),
            sequence: long(bytes, SEQUENCE).cast_signed(),
            flags: long(bytes, FLAGS),
            id: exchanged(id),
            payload_type: number(bytes, PAYLOAD_TYPE),
            payload: payload.to_vec(),
        })
    }

    /// The id as text, as acknowledgements name it.
    pub fn id_text(&self) -> String {
        let mut text = String::with_capacity(36);
        for (index, byte) in self.id.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

fn exchanged(id: [u8; 16]) -> [u8; 16] {
    let mut out = id;
    out.rotate_left(8);
    out
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |all, it| (all << 8) | u32::from(*it))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    (u64::from(number(bytes, at)) << 32) | u64::from(number(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> AgentMessage {
        AgentMessage {
            message_type: INPUT.to_owned(),
            schema_version: 1,
            created: 1_700_000_000_123,
            sequence: 7,
            flags: 1,
            id: *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
            payload_type: payload::OUTPUT,
            payload: b"ls\r".to_vec(),
        }
    }

    #[test]
    fn a_message_has_its_fields_where_the_plug_in_looks_for_them() {
        let bytes = message().encode();
        assert_eq!(bytes.len(), 123);
        assert_eq!(bytes[..4], [0, 0, 0, 116]);
        assert_eq!(&bytes[4..36], b"input_stream_data               ");
        assert_eq!(bytes[36..40], [0, 0, 0, 1]);
        assert_eq!(bytes[48..56], [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(bytes[64..80], [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(bytes[112..120], [0, 0, 0, 1, 0, 0, 0, 3]);
        assert_eq!(AgentMessage::decode(&bytes), Ok(message()));
        assert_eq!(message().id_text(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn what_is_not_as_its_header_says_is_no_message() {
        let whole = message().encode();
        for length in 0..120 {
            assert_eq!(AgentMessage::decode(&whole[..length]), Err(MessageError::Short));
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = whole.clone();
            bytes[at] = to;
            AgentMessage::decode(&bytes).unwrap_err()
        };
        assert_eq!(changed(0, 0xff), MessageError::Header);
        assert_eq!(changed(119, 2), MessageError::Length);
        assert_eq!(changed(116, 0xff), MessageError::Length);
        assert_eq!(changed(122, b'x'), MessageError::Digest);
        let mut nameless = whole.clone();
        nameless[4..36].fill(0);
        assert_eq!(AgentMessage::decode(&nameless), Err(MessageError::Type));
        assert_eq!(AgentMessage::decode(&[whole, vec![0]].concat()), Err(MessageError::Length));
    }
}
