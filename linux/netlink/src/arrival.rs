//! Waits for a link that somebody else makes, by what the kernel tells of links, and not by asking
//! again and again.

use std::{os::fd::AsRawFd, time::Duration};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            MsgFlags, NetlinkAddr, SockProtocol, bind, recv, setsockopt, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use tokio::time::Instant;

use crate::{Link, Netlink, OpenError, RequestError};

/// `RTMGRP_LINK`: links that come, change and go.
const LINKS: u32 = 1;
const BUFFER_LEN: usize = 32 * 1024;

impl Netlink {
    /// The link of this name that `is_it`, as soon as it is there; `None` where it does not come
    /// within `limit`. In the caller's namespace, and blocks its thread.
    pub fn await_link_here(
        name: &str,
        is_it: impl Fn(&Link) -> bool,
        limit: Duration,
    ) -> Result<Option<Link>, AwaitLinkError> {
        let deadline = Instant::now() + limit;
        // Listens before it looks: what comes in between is told.
        let events = Self::open_here(SockProtocol::NetlinkRoute)
            .map_err(|source| AwaitLinkError::Open { source })?
            .into_socket();
        let failed = |source| AwaitLinkError::Listen { source };
        bind(events.as_raw_fd(), &NetlinkAddr::new(0, LINKS)).map_err(failed)?;
        let netlink = Self::here().map_err(|source| AwaitLinkError::Open { source })?;
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let found = netlink.link_by_name(name);
            let found = found.map_err(|source| AwaitLinkError::Look { source })?;
            if let Some(link) = found.filter(&is_it) {
                return Ok(Some(link));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1);
            setsockopt(&events, ReceiveTimeout, &TimeVal::microseconds(micros)).map_err(failed)?;
            match recv(events.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // With too many events at once some are lost: it is looked at anyway.
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS | Errno::EAGAIN) => {}
                Err(source) => return Err(failed(source)),
            }
        }
    }
}

/// Why a link cannot be waited for.
#[derive(Debug, thiserror::Error)]
pub enum AwaitLinkError {
    #[error("failed to reach the kernel")]
    Open {
        #[source]
        source: OpenError,
    },
    #[error("failed to listen for links")]
    Listen {
        #[source]
        source: Errno,
    },
    #[error("failed to look for the link")]
    Look {
        #[source]
        source: RequestError,
    },
}
