//! Traffic control: how fast a link may send.
//!
//! A token bucket on a link limits what it sends. What it receives is redirected to a link of kind
//! `ifb`, whose own token bucket then limits it.
//!
//! Source: Linux `include/uapi/linux/pkt_sched.h`, `pkt_cls.h`, `tc_act/tc_mirred.h`.

use nix::errno::Errno;

use crate::{
    Netlink, RequestError,
    codec::{Request, attributes, string_of, u32_at},
    socket::{CHANGE, DUMP, NLM_F_CREATE, NLM_F_REPLACE},
};

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const ETHERNET: u8 = 1;
const ALL_PROTOCOLS: u16 = 0x0003;
const TC_U32_TERMINAL: u8 = 1;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;
const TCMSG_LEN: usize = 20;

/// How much may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes in a second.
    pub rate: u64,
    /// Bytes at once.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

impl Netlink {
    /// Limits what a link sends, in the place of an earlier limit.
    pub fn limit_link(&self, index: u32, bucket: TokenBucket) -> Result<(), RequestError> {
        let flags = CHANGE | NLM_F_CREATE | NLM_F_REPLACE;
        let mut request = Request::new(RTM_NEWQDISC, flags, &tcmsg(index, 0x0001_0000, ROOT, 0));
        request.string(TCA_KIND, "tbf");
        let options = request.nest(TCA_OPTIONS);
        let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
        let mut parameters = [0; 36];
        parameters[1] = ETHERNET;
        parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
        parameters[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
        request.attribute(TCA_TBF_PARMS, &parameters);
        request.u32(TCA_TBF_BURST, bucket.burst);
        if rate == u32::MAX {
            request.attribute(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
        request.end(options);
        self.change(&format!("limit link {index}"), request)
    }

    /// Hands all that a link receives to another one, which sends it back into the stack.
    pub fn redirect_received(&self, index: u32, to: u32) -> Result<(), RequestError> {
        let fixed = tcmsg(index, INGRESS_HANDLE, INGRESS, 0);
        let mut request = Request::new(RTM_NEWQDISC, CHANGE | NLM_F_CREATE, &fixed);
        request.string(TCA_KIND, "ingress");
        match self.change(&format!("take what link {index} receives"), request) {
            Err(error) if error.source != Errno::EEXIST => return Err(error),
            _ => {}
        }
        let priority_and_protocol = (1 << 16) | u32::from(ALL_PROTOCOLS.to_be());
        let fixed = tcmsg(index, 0, INGRESS_HANDLE, priority_and_protocol);
        let mut request = Request::new(RTM_NEWTFILTER, CHANGE | NLM_F_CREATE, &fixed);
        request.string(TCA_KIND, "u32");
        let options = request.nest(TCA_OPTIONS);
        // One key that masks everything out: every packet.
        let mut selector = [0; 32];
        selector[0] = TC_U32_TERMINAL;
        selector[2] = 1;
        request.attribute(TCA_U32_SEL, &selector);
        let actions = request.nest(TCA_U32_ACT);
        let first = request.nest(1);
        request.string(TCA_ACT_KIND, "mirred");
        let action = request.nest(TCA_ACT_OPTIONS);
        let mut parameters = [0; 28];
        parameters[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
        parameters[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
        parameters[24..28].copy_from_slice(&to.to_ne_bytes());
        request.attribute(TCA_MIRRED_PARMS, &parameters);
        request.end(action);
        request.end(first);
        request.end(actions);
        request.end(options);
        self.change(&format!("redirect what link {index} receives to {to}"), request)
    }

    /// The kinds of what schedules a link's packets: `tbf`, `noqueue`, `ingress`.
    pub fn schedulers(&self, index: u32) -> Result<Vec<String>, RequestError> {
        let request = Request::new(RTM_GETQDISC, DUMP, &tcmsg(0, 0, 0, 0));
        let mut found = Vec::new();
        self.query("list schedulers", request, |message| {
            if u32_at(message.payload, 4) == Some(index) {
                let kinds = attributes(message.payload.get(TCMSG_LEN..).unwrap_or_default());
                found.extend(
                    kinds.filter(|(kind, _)| *kind == TCA_KIND).map(|(_, it)| string_of(it)),
                );
            }
        })?;
        Ok(found)
    }
}

fn tcmsg(index: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG_LEN] {
    let mut bytes = [0; TCMSG_LEN];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes[16..20].copy_from_slice(&info.to_ne_bytes());
    bytes
}
