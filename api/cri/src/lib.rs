//! CRI v1, the protocol between a kubelet and its container runtime: messages, client, server trait.
//!
//! `proto/cri.proto` states the messages and numbers; nothing is downloaded and no `protoc` is
//! needed. [`connect`] dials a runtime's Unix socket; a channel over any other transport comes from
//! [`channel`], which tests use with an in-memory runtime.
//!
//! Beside CRI there is containerd's own event stream ([`containerd`]): containerd 1.6 serves no CRI
//! events, and without events a kubelet has to poll. And there are its snapshots ([`snapshots`]) and its
//! content ([`content`]): CRI mounts images from containerd 2.1 on only. Its tasks ([`tasks`]) take the
//! signals that CRI had no field for.
//!
//! **Invariant:** nothing here decides anything; it is what crosses the wire.

mod connect;

/// `runtime.v1`.
pub mod v1 {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("runtime.v1");
}

/// `containerd.services.events.v1`.
pub mod containerd {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("containerd.services.events.v1");
}

/// `containerd.services.content.v1`.
pub mod content {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("containerd.services.content.v1");
}

/// `containerd.services.snapshots.v1`.
pub mod snapshots {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("containerd.services.snapshots.v1");
}

/// `containerd.services.tasks.v1`.
pub mod tasks {
    #![allow(unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("containerd.services.tasks.v1");
}

pub use self::connect::{ConnectError, channel, connect, server_pid};

/// The gRPC channel that all clients here use.
pub type Channel = tonic::transport::Channel;
pub type RuntimeClient = v1::runtime_service_client::RuntimeServiceClient<Channel>;
pub type ImageClient = v1::image_service_client::ImageServiceClient<Channel>;
pub type ContentClient = content::content_client::ContentClient<Channel>;
pub type SnapshotsClient = snapshots::snapshots_client::SnapshotsClient<Channel>;
pub type EventsClient = containerd::events_client::EventsClient<Channel>;
pub type TasksClient = tasks::tasks_client::TasksClient<Channel>;
