//! The others' servers, and a small cache of what they said.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::{Message, ResponseCode};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tracing::debug;
use transport::Place;

use crate::answer::Limit;

/// How long one server may take. The client gives up after 5 s, so two have a chance.
const LIMIT: Duration = Duration::from_secs(2);
/// Names that are kept at most.
const CAPACITY: usize = 4096;
/// "There is no such name" is kept at most this long.
const NEGATIVE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    servers: Vec<SocketAddr>,
    /// The longest that anything is kept.
    max_age: Duration,
    cache: Mutex<HashMap<Vec<u8>, Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    reply: Vec<u8>,
    until: Instant,
}

impl Upstream {
    pub fn new(servers: Vec<SocketAddr>, max_age: Duration) -> Self {
        Self { servers, max_age, cache: Mutex::default() }
    }

    /// The reply to `query`, with its id. `None` where nobody answered.
    pub async fn ask(&self, query: &[u8], limit: Limit) -> Option<Vec<u8>> {
        let key = key(query, limit)?;
        if let Some(kept) = self.kept(&key) {
            return Some(with_id(kept, query));
        }
        let reply = self.exchange(query, limit).await?;
        self.keep(key, &reply);
        Some(with_id(reply, query))
    }

    async fn exchange(&self, query: &[u8], limit: Limit) -> Option<Vec<u8>> {
        // An id of our own for each question: the client's may be known to others.
        let id = entropy::bytes::<2>();
        let mut question = query.to_vec();
        question.get_mut(..2)?.copy_from_slice(&id);
        for server in &self.servers {
            let asked = async {
                match limit {
                    Limit::Udp => ask_udp(*server, &question).await,
                    Limit::Tcp => ask_tcp(*server, &question).await,
                }
            };
            match timeout(LIMIT, asked).await {
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(error)) => debug!(%server, %error, "a server failed"),
                Err(_) => debug!(%server, "a server did not answer"),
            }
        }
        None
    }

    fn kept(&self, key: &[u8]) -> Option<Vec<u8>> {
        let cache = self.cache.lock();
        cache.get(key).filter(|kept| Instant::now() < kept.until).map(|kept| kept.reply.clone())
    }

    fn keep(&self, key: Vec<u8>, reply: &[u8]) {
        let Some(age) = age(reply, self.max_age) else { return };
        let now = Instant::now();
        let mut cache = self.cache.lock();
        if cache.len() >= CAPACITY {
            cache.retain(|_, kept| now < kept.until);
        }
        if cache.len() >= CAPACITY {
            cache.clear();
        }
        cache.insert(key, Kept { reply: reply.to_vec(), until: now + age });
    }
}

/// The query without its id, its name in lower case; over UDP a reply may be a cut one.
fn key(query: &[u8], limit: Limit) -> Option<Vec<u8>> {
    let mut key = query.get(2..)?.to_ascii_lowercase();
    key.push(u8::from(limit == Limit::Tcp));
    Some(key)
}

fn with_id(mut reply: Vec<u8>, query: &[u8]) -> Vec<u8> {
    if let (Some(to), Some(from)) = (reply.get_mut(..2), query.get(..2)) {
        to.copy_from_slice(from);
    }
    reply
}

/// How long the reply is good for; `None`: it is not to be kept.
fn age(reply: &[u8], max_age: Duration) -> Option<Duration> {
    let message = Message::from_vec(reply).ok()?;
    let shortest = message.answers.iter().map(|record| record.ttl).min();
    let age = match (message.metadata.response_code, shortest) {
        _ if message.metadata.truncation => return None,
        (ResponseCode::NoError, Some(ttl)) => Duration::from_secs(ttl.into()),
        (ResponseCode::NoError | ResponseCode::NXDomain, _) => NEGATIVE,
        _ => return None,
    };
    Some(age.min(max_age)).filter(|age| !age.is_zero())
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = Place::Here.udp((any, 0).into())?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut reply = vec![0; 4096];
    loop {
        let len = socket.recv(&mut reply).await?;
        // Anything else is somebody's guess.
        if is_reply(&reply[..len], question) {
            reply.truncate(len);
            return Ok(reply);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = Place::Here.connect(server, LIMIT).await?;
    let len = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_u16(len).await?;
    stream.write_all(question).await?;
    let len = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(len)];
    stream.read_exact(&mut reply).await?;
    if is_reply(&reply, question) {
        return Ok(reply);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is to another question"))
}

/// The same id and the same question.
fn is_reply(reply: &[u8], question: &[u8]) -> bool {
    let (Ok(theirs), Ok(ours)) = (Message::from_vec(reply), Message::from_vec(question)) else {
        return false;
    };
    theirs.metadata.id == ours.metadata.id && theirs.queries == ours.queries
}

/// The servers that a `resolv.conf` names.
pub fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|it| it.trim().parse::<IpAddr>().ok()).map(|ip| (ip, 53).into()).collect()
}

#[cfg(test)]
mod tests;
