//! The message gateway's channels: who is connected to what, and what goes from one to the other.
//!
//! Nothing is kept here of what is said: either end sends again what the other has not acknowledged.
//!
//! **Invariant:** a channel is open for whoever has its newest token, and each token opens it once.

mod create;
mod relay;
mod socket;

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::mpsc;

pub(crate) use self::create::{create_control, create_data};
pub use self::socket::ChannelService;
#[cfg(test)]
pub(crate) use self::socket::{channels, serve};

/// How many messages wait for a connection that is slow.
const QUEUE: usize = 64;

/// One end of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    /// An instance's agent, for what it is to do.
    Control(String),
    /// The agent, for one session.
    Agent(String),
    /// Who has started that session.
    Client(String),
}

pub(crate) type Outbox = mpsc::Sender<Vec<u8>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Hub(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    tokens: HashMap<Channel, String>,
    open: HashMap<Channel, (u64, Outbox)>,
}

/// A connection that a token has opened.
pub(crate) struct Opened {
    pub(crate) channel: Channel,
    pub(crate) number: u64,
    pub(crate) inbox: mpsc::Receiver<Vec<u8>>,
}

impl Hub {
    /// A new token for a channel; an older one is no good any more.
    pub(crate) fn issue(&self, channel: Channel) -> String {
        let token = entropy::secret(128);
        self.0.lock().tokens.insert(channel, token.clone());
        token
    }

    /// Opens whichever of these channels the token is for. A connection that it had is closed.
    pub(crate) fn open(
        &self,
        channels: impl IntoIterator<Item = Channel>,
        token: &str,
    ) -> Option<Opened> {
        let mut state = self.0.lock();
        let is_for = |it: &Channel| state.tokens.get(it).is_some_and(|known| known == token);
        let channel = channels.into_iter().find(is_for)?;
        state.tokens.remove(&channel);
        state.next += 1;
        let number = state.next;
        let (outbox, inbox) = mpsc::channel(QUEUE);
        state.open.insert(channel.clone(), (number, outbox));
        Some(Opened { channel, number, inbox })
    }

    /// The connection has ended. Says whether the channel has none now.
    pub(crate) fn close(&self, channel: &Channel, number: u64) -> bool {
        let mut state = self.0.lock();
        let is_own = state.open.get(channel).is_some_and(|(known, _)| *known == number);
        if is_own {
            state.open.remove(channel);
        }
        is_own
    }

    pub(crate) fn is_open(&self, channel: &Channel) -> bool {
        self.0.lock().open.contains_key(channel)
    }

    pub(crate) fn outbox(&self, channel: &Channel) -> Option<Outbox> {
        self.0.lock().open.get(channel).map(|(_, outbox)| outbox.clone())
    }

    /// Puts a message into the queue of a channel, if that is open and not full.
    pub(crate) fn tell(&self, channel: &Channel, message: Vec<u8>) -> bool {
        self.outbox(channel).is_some_and(|it| it.try_send(message).is_ok())
    }

    /// Nothing is left of the channel; its connection ends once it has sent what waits for it.
    pub(crate) fn forget(&self, channel: &Channel) {
        let mut state = self.0.lock();
        state.tokens.remove(channel);
        state.open.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_channel_once_and_the_newest_alone() {
        let hub = Hub::default();
        let channel = || Channel::Client("s".to_owned());
        let first = hub.issue(channel());
        let second = hub.issue(channel());
        assert!(hub.open([channel()], &first).is_none());
        assert!(hub.open([Channel::Client("other".to_owned())], &second).is_none());
        assert!(hub.open([Channel::Agent("s".to_owned())], &second).is_none());
        let opened = hub.open([channel()], &second).unwrap();
        assert!(hub.open([channel()], &second).is_none());
        let third = hub.issue(channel());
        let newer = hub.open([channel()], &third).unwrap();
        assert!(!hub.close(&channel(), opened.number), "another connection has its place");
        assert!(hub.close(&channel(), newer.number));
    }
}
