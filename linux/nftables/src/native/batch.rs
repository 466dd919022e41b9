//! Netlink messages of nf_tables as bytes: one batch is one transaction of the kernel.
//!
//! Source: Linux `include/uapi/linux/netfilter/nfnetlink.h`. Numbers in attributes are in network
//! order.

/// `NFNL_MSG_BATCH_BEGIN` and `…_END`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u8 = 10;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;
/// Set on attributes that hold attributes.
const NESTED: u16 = 0x8000;
/// An attribute's length is 16 bits wide; what is longer goes into another message.
pub(super) const MAX_NEST: usize = 60_000;

/// Messages under construction. Each carries the number of the command that it is of, which an
/// error names.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    family: u8,
    /// Where the last message begins.
    last: usize,
}

/// Where a nested attribute began; see [`Batch::nest`].
#[derive(Debug)]
#[must_use = "a nest has to be ended"]
pub(super) struct Nest(usize);

impl Batch {
    /// `family` is the protocol's number (`NFPROTO_…`).
    pub(super) fn new(family: u8) -> Self {
        let mut batch = Self { bytes: Vec::with_capacity(4096), family, last: 0 };
        batch.header(BATCH_BEGIN, 0, 0, 0, u16::from(SUBSYSTEM));
        batch
    }

    /// Begins a message of `kind` (`NFT_MSG_…`) for command number `command`.
    pub(super) fn message(&mut self, kind: u8, flags: u16, command: usize) {
        self.end_message();
        let sequence = u32::try_from(command + 1).expect("no transaction has 4 billion commands");
        let kind = u16::from(SUBSYSTEM) << 8 | u16::from(kind);
        self.header(kind, flags, sequence, self.family, 0);
    }

    /// The finished batch. The kernel acknowledges its last message once all is done.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_message();
        let flags = self.last + 6;
        let old = u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]);
        self.bytes[flags..flags + 2].copy_from_slice(&(old | NLM_F_ACK).to_ne_bytes());
        self.header(BATCH_END, 0, 0, 0, u16::from(SUBSYSTEM));
        self.end_message();
        self.bytes
    }

    fn header(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    fn end_message(&mut self) {
        let len = u32::try_from(self.bytes.len() - self.last).expect("no message is 4 GiB long");
        self.bytes[self.last..self.last + 4].copy_from_slice(&len.to_ne_bytes());
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(4 + value.len()).expect("no attribute of ours is 64 KiB long");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize((self.bytes.len() + 3) & !3, 0);
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(super) fn string(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// Begins an attribute that holds what is appended until [`Self::end`].
    pub(super) fn nest(&mut self, kind: u16) -> Nest {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        Nest(start)
    }

    /// How much a nest holds already.
    pub(super) fn len_of(&self, nest: &Nest) -> usize {
        self.bytes.len() - nest.0
    }

    pub(super) fn end(&mut self, nest: Nest) {
        let len = u16::try_from(self.len_of(&nest)).expect("a nest ends before it is 64 KiB long");
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }
}
