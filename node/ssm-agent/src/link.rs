//! A session's stream with its connection, which is made again when it is lost.

use std::{sync::Arc, time::Duration};

use clock::Clock;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    gateway::{Channel, Gateway},
    stream::{Heard, Stream},
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 8;

/// See the module.
pub(crate) struct Link {
    gateway: Arc<dyn Gateway>,
    session: String,
    client: String,
    clock: Clock,
    channel: Channel,
    pub(crate) stream: Stream,
}

/// What has happened on the link.
#[derive(Debug)]
pub(crate) enum Happened {
    Heard(Heard),
    /// It cannot be made again: the session is over, or the region has gone.
    Lost,
}

impl Link {
    pub(crate) async fn open(
        gateway: Arc<dyn Gateway>,
        session: &str,
        clock: Clock,
    ) -> Option<Self> {
        let (session, client) = (session.to_owned(), entropy::uuid());
        let channel = connect(&gateway, &session, &client).await?;
        Some(Self { gateway, session, client, clock, channel, stream: Stream::default() })
    }

    fn created(&self) -> u64 {
        self.clock.now().as_millisecond().unsigned_abs()
    }

    /// Waits for a message, and sends again what is due meanwhile. Can be given up at any await
    /// without loss.
    pub(crate) async fn next(&mut self, accepts: bool) -> Happened {
        loop {
            let due = self.stream.due();
            let again = async {
                match due {
                    None => std::future::pending().await,
                    Some(at) => tokio::time::sleep_until(at).await,
                }
            };
            let received = tokio::select! {
                received = self.channel.from.recv() => received,
                () = again => {
                    if let Some(bytes) = self.stream.again(Instant::now()) {
                        self.post(bytes);
                    }
                    continue;
                }
            };
            let Some(bytes) = received else { return Happened::Lost };
            let (now, created) = (Instant::now(), self.created());
            match self.stream.hear(now, created, &bytes, accepts) {
                Ok(heard) => {
                    for answer in &heard.answers {
                        self.post(answer.clone());
                    }
                    return Happened::Heard(heard);
                }
                Err(error) => debug!(session = self.session, %error, "a message is left out"),
            }
        }
    }

    /// Makes the connection again. Says whether it could.
    pub(crate) async fn mend(&mut self) -> bool {
        let Some(channel) = connect(&self.gateway, &self.session, &self.client).await else {
            return false;
        };
        self.channel = channel;
        for bytes in self.stream.resume(Instant::now()) {
            self.post(bytes);
        }
        true
    }

    /// Sends the next message of the stream.
    pub(crate) fn send(&mut self, payload_type: u32, payload: Vec<u8>) {
        let created = self.created();
        if let Some(bytes) = self.stream.send(Instant::now(), created, payload_type, payload) {
            self.post(bytes);
        }
    }

    /// What finds no room is due again soon; an acknowledgement is asked for again.
    fn post(&self, bytes: Vec<u8>) {
        self.channel.to.try_send(bytes).ok();
    }
}

async fn connect(gateway: &Arc<dyn Gateway>, session: &str, client: &str) -> Option<Channel> {
    let mut pause = FIRST_PAUSE;
    for _attempt in 0..ATTEMPTS {
        match gateway.data(session, client).await {
            Ok(channel) => return Some(channel),
            Err(error) if error.is_refusal() => {
                debug!(session, error = %telemetry::chain(&error), "the session is over");
                return None;
            }
            Err(error) => warn!(session, error = %telemetry::chain(&error), "no data channel"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    None
}
