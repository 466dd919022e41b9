//! What is known of clients' certificates. A signature that was good at one request is good at the
//! next, which is not worth computing again; only dates pass.
//!
//! **Invariant:** what is remembered holds from one date of a presented certificate to the next, at
//! which all of it is looked at anew.

use std::{collections::HashMap, ops::Range, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use transport::Peer;

use super::{Authorities, certificate_user};
use crate::request::UserInfo;

/// Chains that are remembered. With more all are forgotten, and those that are in use come back.
const MOST: usize = 4096;

#[derive(Debug)]
pub(super) struct Known {
    /// Whether the proxies' authority has signed it.
    pub(super) is_of_proxies: bool,
    /// Whether the clients' authority has, or nobody asks for it but the TLS layer.
    pub(super) is_of_clients: bool,
    pub(super) common_name: String,
    /// `None`: it names nobody.
    pub(super) user: Option<UserInfo>,
    /// When the peer's own is over.
    pub(super) ends_at: Option<Timestamp>,
    while_at: Range<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Certificates(Mutex<HashMap<[u8; 32], Arc<Known>>>);

impl Certificates {
    /// `certificate` is the peer's own.
    pub(super) fn look(
        &self,
        peer: &Peer,
        certificate: &[u8],
        authorities: Option<&Authorities>,
        now: Timestamp,
    ) -> Arc<Known> {
        let key = key(peer, certificate);
        let remembered = self.0.lock().get(&key).cloned();
        if let Some(known) = remembered.filter(|it| it.while_at.contains(&now)) {
            return known;
        }
        let known = Arc::new(Known {
            is_of_proxies: authorities.is_some_and(|it| it.proxies.vouches_for(peer, now)),
            is_of_clients: authorities.is_none_or(|it| {
                it.clients.as_ref().is_some_and(|clients| clients.vouches_for(peer, now))
            }),
            common_name: pki::subject(certificate).map(|it| it.common_name).unwrap_or_default(),
            user: certificate_user(certificate).ok(),
            ends_at: pki::validity(certificate).ok().map(|it| *it.end()),
            while_at: around(peer, certificate, now),
        });
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, known.clone());
        known
    }
}

fn chain<'a>(peer: &'a Peer, certificate: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    std::iter::once(certificate).chain(peer.intermediates.iter().map(AsRef::as_ref))
}

fn key(peer: &Peer, certificate: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for der in chain(peer, certificate) {
        digest.update(der.len().to_le_bytes());
        digest.update(der);
    }
    digest.finalize().into()
}

/// The time around `now` in which no certificate becomes good or ceases to be; none, where one has no
/// dates.
fn around(peer: &Peer, certificate: &[u8], now: Timestamp) -> Range<Timestamp> {
    let (mut from, mut until) = (Timestamp::MIN, Timestamp::MAX);
    for der in chain(peer, certificate) {
        let Ok(good) = pki::validity(der) else { return now..now };
        let end = good.end().saturating_add(SignedDuration::from_secs(1)).unwrap_or(*good.end());
        for date in [*good.start(), end] {
            if date <= now {
                from = from.max(date);
            } else {
                until = until.min(date);
            }
        }
    }
    from..until
}
