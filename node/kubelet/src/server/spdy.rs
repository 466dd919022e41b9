//! The client's side of SPDY/3.1, as far as a container runtime's streaming server needs it.
//!
//! We open streams with a few headers and exchange data. The server's headers say nothing that we
//! need, so they are not decompressed; ours are sent as stored blocks of one zlib stream, which any
//! inflater reads. Flow control does not exist here: Kubernetes' SPDY servers ignore windows.
//!
//! **Invariant:** a malformed frame ends the connection; no length is trusted beyond 24 bits.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
pub(super) const FIN: u8 = 1;
const HEAD: usize = 8;
const MAX_LENGTH: usize = 0x00ff_ffff;
/// The largest stored block.
const MAX_BLOCK: usize = 0xffff;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data {
        stream: u32,
        data: Bytes,
        is_last: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Nothing that concerns us.
    Other,
}

/// Writes frames. The header compression is one stream for the whole connection.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    has_begun: bool,
}

impl Encoder {
    /// Opens stream `id` (odd, rising).
    pub(super) fn open(&mut self, id: u32, headers: &[(&str, &str)], out: &mut BytesMut) {
        let mut block = BytesMut::new();
        block.put_u32(length(headers.len()));
        for (name, value) in headers {
            for text in [name, value] {
                block.put_u32(length(text.len()));
                block.extend_from_slice(text.as_bytes());
            }
        }
        let mut stored = BytesMut::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            // A zlib stream without a preset dictionary.
            stored.extend_from_slice(&[0x78, 0x01]);
        }
        for part in block.chunks(MAX_BLOCK) {
            let size = u16::try_from(part.len()).unwrap_or(u16::MAX);
            stored.put_u8(0);
            stored.put_u16_le(size);
            stored.put_u16_le(!size);
            stored.extend_from_slice(part);
        }
        // An empty block is what makes an inflater hand out what it has (`Z_SYNC_FLUSH`).
        stored.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        control(SYN_STREAM, 10 + stored.len(), out);
        out.put_u32(id);
        out.put_u32(0);
        out.put_u16(0);
        out.extend_from_slice(&stored);
    }

    pub(super) fn data(&self, stream: u32, data: &[u8], is_last: bool, out: &mut BytesMut) {
        let mut parts = data.chunks(MAX_LENGTH).peekable();
        if parts.peek().is_none() {
            head(stream, is_last, 0, out);
        }
        while let Some(part) = parts.next() {
            head(stream, is_last && parts.peek().is_none(), part.len(), out);
            out.extend_from_slice(part);
        }
    }

    pub(super) fn ping(&self, id: u32, out: &mut BytesMut) {
        control(PING, 4, out);
        out.put_u32(id);
    }
}

fn length(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn control(kind: u16, size: usize, out: &mut BytesMut) {
    out.put_u16(VERSION);
    out.put_u16(kind);
    out.put_u32(length(size));
}

fn head(stream: u32, is_last: bool, size: usize, out: &mut BytesMut) {
    out.put_u32(stream & 0x7fff_ffff);
    let flags = u32::from(if is_last { FIN } else { 0 });
    out.put_u32(flags << 24 | length(size));
}

/// Takes the next whole frame out of what was received.
pub(super) fn decode(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    if buffer.len() < HEAD {
        return Ok(None);
    }
    let first = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
    let second = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
    let size = usize::try_from(second & 0x00ff_ffff).unwrap_or(MAX_LENGTH);
    if buffer.len() < HEAD + size {
        return Ok(None);
    }
    let flags = u8::try_from(second >> 24).unwrap_or(0);
    buffer.advance(HEAD);
    let mut payload = buffer.split_to(size).freeze();
    if first & 0x8000_0000 == 0 {
        let is_last = flags & FIN != 0;
        return Ok(Some(Frame::Data { stream: first, data: payload, is_last }));
    }
    let kind = u16::try_from(first & 0xffff).unwrap_or(0);
    let mut number = || {
        if payload.len() < 4 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a SPDY frame is too short"));
        }
        Ok(payload.get_u32() & 0x7fff_ffff)
    };
    Ok(Some(match kind {
        RST_STREAM => Frame::Reset { stream: number()? },
        PING => Frame::Ping { id: number()? },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_comes_back_as_it_was_sent_whatever_the_pieces() {
        let encoder = Encoder::default();
        let mut wire = BytesMut::new();
        encoder.data(1, b"hello", false, &mut wire);
        encoder.data(1, b"", true, &mut wire);
        encoder.ping(7, &mut wire);
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            while let Some(frame) = decode(&mut buffer).unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(
            frames,
            [
                Frame::Data { stream: 1, data: Bytes::from("hello"), is_last: false },
                Frame::Data { stream: 1, data: Bytes::new(), is_last: true },
                Frame::Ping { id: 7 },
            ]
        );
    }

    #[test]
    fn a_streams_headers_are_stored_blocks_of_one_zlib_stream() {
        let mut encoder = Encoder::default();
        let (mut first, mut second) = (BytesMut::new(), BytesMut::new());
        encoder.open(1, &[("streamtype", "stdin")], &mut first);
        encoder.open(3, &[("streamtype", "stdout")], &mut second);
        let block = 4 + 4 + "streamtype".len() + 4 + "stdin".len();
        assert_eq!(first.len(), HEAD + 10 + 2 + 5 + block + 5);
        assert!(first.ends_with(&[0, 0, 0, 0xff, 0xff]));
        assert_eq!(&first[HEAD + 10..HEAD + 12], [0x78, 0x01]);
        assert_eq!(second[HEAD + 10], 0, "no second zlib header");
    }

    #[test]
    fn a_short_control_frame_is_an_error() {
        let mut buffer = BytesMut::from(&[0x80, 3, 0, 3, 0, 0, 0, 1, 9][..]);
        assert!(decode(&mut buffer).is_err());
    }
}
