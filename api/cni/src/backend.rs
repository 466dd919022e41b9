//! What our CNI plug-in and ipamd say to each other over ipamd's Unix socket.
//!
//! One connection per call: a frame with the request, a frame with the response. A frame is its
//! length in four bytes, big endian, and that much JSON.
//!
//! Deviation: upstream speaks gRPC (`CNIBackend.AddNetwork`, `DelNetwork`). A plug-in starts for
//! every pod; without HTTP/2 and a runtime it needs one write and one read. The fields are those of
//! upstream's messages as far as they are used.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Plug-in and daemon have to be of one version; a pod of an old add-on fails clearly.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where ipamd listens, in upstream's place.
pub const SOCKET: &str = "/var/run/aws-node/ipamd.sock";
/// No message of the protocol comes near.
pub const MAX_FRAME: u32 = 1 << 20;

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "camelCase")]
pub enum Request {
    AddNetwork(Sandbox),
    DelNetwork(Sandbox),
    /// The answer is `Healthy` once addresses can be given.
    Health,
}

/// The sandbox a call is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    pub client_version: String,
    pub pod_namespace: String,
    pub pod_name: String,
    #[serde(default)]
    pub pod_uid: String,
    pub container_id: String,
    pub interface_name: String,
    pub network_name: String,
    #[serde(default)]
    pub netns: String,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Response {
    /// To `AddNetwork`.
    Added(Assignment),
    /// To `DelNetwork`; the address that was given back, if the sandbox was known.
    Deleted {
        address: Option<Assignment>,
    },
    Healthy,
    /// The call failed; `message` is for the log, the plug-in has its own words for the kubelet.
    Failed {
        message: String,
    },
}

/// An address for a pod, and where its packets go.
///
/// In an IPv6 cluster `ipv6` is the pod's address, and `address` that by which it reaches what is
/// IPv4 only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    pub address: Ipv4Addr,
    /// 0 is the primary interface.
    pub device_number: u32,
    /// The table of the interface's routes; the main table for the primary.
    pub route_table: u32,
    pub use_external_snat: bool,
    pub vpc_cidrs: Vec<Ipv4Net>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Assignment>,
    /// The address is of a branch interface: a pod with security groups of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Branch>,
}

/// A pod's IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv6Assignment {
    pub address: Ipv6Addr,
    /// `ENABLE_V4_EGRESS`: the pod has a way to what is IPv4 only.
    pub has_egress: bool,
}

impl Assignment {
    /// What Kubernetes calls the pod's address.
    pub fn pod_address(&self) -> IpAddr {
        self.ipv6.map_or(IpAddr::V4(self.address), |it| IpAddr::V6(it.address))
    }

    /// The IPv4 address of a pod in an IPv6 cluster, where it has one.
    pub fn egress_address(&self) -> Option<Ipv4Addr> {
        self.ipv6.filter(|it| it.has_egress).map(|_| self.address)
    }
}

/// A pod's branch interface, and how its packets leave the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Branch {
    pub vlan_id: u32,
    pub mac: String,
    /// The router of its subnet.
    pub gateway: IpAddr,
}

impl Branch {
    /// The link that stands for the branch's VLAN in the node.
    pub fn link_name(vlan_id: u32) -> String {
        format!("vlan.eth.{vlan_id}")
    }

    /// The table of its routes. Interfaces' own tables are below 101.
    pub fn table(vlan_id: u32) -> u32 {
        100 + vlan_id
    }
}

/// Writes one frame.
pub fn write_frame(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&frame(message)?)
}

/// The bytes of one frame.
pub fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = u32::try_from(bytes.len() - 4).map_err(|_| too_long())?;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    Ok(bytes)
}

/// Reads one frame.
pub fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let len = u32::from_be_bytes(head);
    if len > MAX_FRAME {
        return Err(too_long());
    }
    let mut body = vec![0; len as usize];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Asks the daemon at `socket`, waiting for its answer for at most `limit`.
pub fn call(socket: &Path, request: &Request, limit: std::time::Duration) -> io::Result<Response> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write_frame(&mut stream, request)?;
    read_frame(&mut stream)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than 1 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let request = Request::AddNetwork(Sandbox { pod_name: "a".into(), ..Sandbox::default() });
        let bytes = frame(&request).unwrap();
        assert_eq!(read_frame::<Request>(&mut bytes.as_slice()).unwrap(), request);
    }

    #[test]
    fn a_cut_or_oversized_frame_is_an_error() {
        let bytes = frame(&Request::Health).unwrap();
        for len in 0..bytes.len() {
            assert!(read_frame::<Request>(&mut &bytes[..len]).is_err(), "cut at {len}");
        }
        assert!(read_frame::<Request>(&mut [255u8; 8].as_slice()).is_err());
    }
}
