//! How much of requests is held at once, before anybody knows who sends them.
//!
//! A signature can be checked only when the whole body is there. What arrives is charged to the
//! address that it comes from, so that one cannot fill the region's memory, nor keep others out.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep};

const MOST: usize = 128 << 20;
const MOST_OF_PEER: usize = 32 << 20;

/// What a call takes beside its body: who leaves calls behind that go on has so many of them at once.
const CALL: usize = 4 << 10;

/// How long a body may pause: whoever sends nothing keeps others out.
const PAUSE: Duration = Duration::from_secs(10);

/// All bodies of the gateway.
#[derive(Debug)]
pub(crate) struct Bodies {
    most: usize,
    most_of_peer: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    peers: HashMap<IpAddr, usize>,
}

/// What one request holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    bodies: Arc<Bodies>,
    peer: IpAddr,
    held: AtomicUsize,
}

impl Bodies {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(MOST, MOST_OF_PEER)
    }

    pub(crate) fn with(most: usize, most_of_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_peer, held: Mutex::default() })
    }

    /// A new call of this peer, whose body is charged as it comes; `None`: there is no room for one.
    pub(crate) fn call(self: &Arc<Self>, peer: IpAddr) -> Option<Arc<Charge>> {
        let charge = self.charge(peer);
        charge.grow(CALL).then_some(charge)
    }

    fn charge(self: &Arc<Self>, peer: IpAddr) -> Arc<Charge> {
        Arc::new(Charge { bodies: self.clone(), peer, held: AtomicUsize::new(0) })
    }

    /// How many bytes are held for all peers.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.lock().all
    }
}

impl Charge {
    fn grow(&self, size: usize) -> bool {
        let mut held = self.bodies.held.lock();
        let of_peer = held.peers.get(&self.peer).copied().unwrap_or(0);
        if held.all + size > self.bodies.most || of_peer + size > self.bodies.most_of_peer {
            return false;
        }
        held.all += size;
        held.peers.insert(self.peer, of_peer + size);
        self.held.fetch_add(size, Ordering::Relaxed);
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let size = *self.held.get_mut();
        let mut held = self.bodies.held.lock();
        held.all -= size;
        if let Some(of_peer) = held.peers.get_mut(&self.peer) {
            *of_peer -= size;
            if *of_peer == 0 {
                held.peers.remove(&self.peer);
            }
        }
    }
}

/// Why a body did not arrive whole.
#[derive(Debug)]
pub(crate) enum BodyError<E> {
    Busy,
    /// Nothing came for too long.
    Stalled,
    Broken(E),
}

/// A body that is charged as it arrives.
pub(crate) struct Charged<B> {
    body: B,
    charge: Arc<Charge>,
    /// Most bodies are there at once, and need no timer.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<B> Charged<B> {
    pub(crate) fn new(body: B, charge: Arc<Charge>) -> Self {
        Self { body, charge, pause: None }
    }
}

impl<B> Body for Charged<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
            return pause.as_mut().poll(cx).map(|()| Some(Err(BodyError::Stalled)));
        };
        if let Some(pause) = &mut self.pause {
            pause.as_mut().reset(Instant::now() + PAUSE);
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(BodyError::Broken)?;
            let size = frame.data_ref().map_or(0, Bytes::len);
            if self.charge.grow(size) { Ok(frame) } else { Err(BodyError::Busy) }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_fills_its_own_part_alone_and_gives_it_back() {
        let bodies = Bodies::with(100, 60);
        let [a, b] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let (first, second) = (bodies.charge(a), bodies.charge(a));
        assert!(first.grow(40) && second.grow(20) && !second.grow(1));
        let other = bodies.charge(b);
        assert!(other.grow(40) && !other.grow(1), "no more than there is");
        drop((first, second));
        assert!(other.grow(20) && !other.grow(1));
        drop(other);
        assert!(bodies.held.lock().peers.is_empty() && bodies.held.lock().all == 0);
    }
}
