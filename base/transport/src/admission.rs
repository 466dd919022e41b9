//! How many connections a listener holds, of all peers and of one.
//!
//! A process serves many listeners with one table of descriptors, so none may fill it: whoever floods
//! one would silence the others. Both limits are parts of what the process may open. One address is
//! one peer, though a whole cluster's nodes may stand behind it (a NAT gateway): a peer's part is
//! half of a listener's.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use nix::sys::resource::{Resource, getrlimit};

/// Where few descriptors may be open, a listener still takes so many connections.
const FEWEST: usize = 1024;

/// The connections of one listener. Clones share the count.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_of_peer: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    peers: HashMap<IpAddr, usize>,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Admission,
    peer: IpAddr,
}

impl Admission {
    pub fn new(most: usize, most_of_peer: usize) -> Self {
        Self(Arc::new(Inner { most, most_of_peer, held: Mutex::default() }))
    }

    /// For one listener among those of this process.
    pub fn of_process() -> Self {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
        let most = usize::try_from(soft / 8).unwrap_or(usize::MAX).max(FEWEST);
        Self::new(most, most / 2)
    }

    /// `None` when the listener, or this peer, has all that it may have.
    pub fn admit(&self, peer: IpAddr) -> Option<Admitted> {
        let mut held = self.held();
        let of_peer = held.peers.get(&peer).copied().unwrap_or(0);
        if held.all >= self.0.most || of_peer >= self.0.most_of_peer {
            return None;
        }
        held.all += 1;
        held.peers.insert(peer, of_peer + 1);
        Some(Admitted { admission: self.clone(), peer })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Counting does not panic half-way.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut held = self.admission.held();
        held.all -= 1;
        if let Some(count) = held.peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                held.peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_peer_takes_all_places_and_all_peers_no_more_than_there_are() {
        let admission = Admission::new(3, 2);
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let held = [admission.admit(a).unwrap(), admission.admit(a).unwrap()];
        assert!(admission.admit(a).is_none());
        let of_b = admission.admit(b).unwrap();
        assert!(admission.admit(c).is_none());
        drop(of_b);
        assert!(admission.admit(c).is_some());
        drop(held);
        assert!(admission.held().peers.is_empty() && admission.held().all == 0);
    }
}
