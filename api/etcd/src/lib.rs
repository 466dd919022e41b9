//! etcd v3: the messages that we use, and channels to a cluster's members.
//!
//! `proto/etcd.proto` states the messages and numbers; nothing is downloaded and no `protoc` is
//! needed. Channels connect lazily and reconnect by themselves: a member that is away is an error
//! of the call.
//!
//! **Invariant:** nothing here decides anything; it is what crosses the wire.
//!
//! Upstream: etcd `api/etcdserverpb/rpc.proto`, `api/mvccpb/kv.proto`.

mod connect;

/// `etcdserverpb`, with the messages of `mvccpb` that it uses.
pub mod pb {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("etcdserverpb");
}

pub use self::connect::{ConnectError, Tls, connect};

/// The gRPC channel to one member.
pub type Channel = tonic::transport::Channel;
pub type KvClient = pb::kv_client::KvClient<Channel>;
pub type WatchClient = pb::watch_client::WatchClient<Channel>;
pub use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue};

/// The end of the range of all keys below `prefix`.
pub fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // There is no key above all of 0xff: the range is open.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_where_the_prefix_does() {
        assert_eq!(range_end(b"/a/"), b"/a0");
        assert_eq!(range_end(&[b'a', 0xff]), b"b");
        assert_eq!(range_end(&[0xff]), [0]);
    }
}
