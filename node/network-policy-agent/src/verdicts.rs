//! The log of verdicts: what `--enable-policy-event-logs` writes, a line for each connection that
//! policies denied, and at `--log-level=debug` for each that they allowed.
//!
//! Upstream: `pkg/ebpf/events`: `Flow Info: Src IP: … Verdict DENY Direction ingress, Tier …`.
//! Deviation: a file that has grown to 200 MB makes place for one new one, uncompressed. What no
//! policy concerns is not logged as accepted.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use clock::Clock;
use linux_netlink::{LogError, Logged, LoggedPacket, PacketLog};
use serde_json::json;
use tracing::warn;

use crate::{
    metrics::Metrics,
    ruleset::{LOG_GROUP, LOG_LEN},
};

/// Upstream's `MaxSize`.
const MAX_SIZE: u64 = 200 * 1024 * 1024;

/// A packet as a verdict names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    pub protocol: u8,
}

impl Flow {
    /// Of a packet from its network header on. Ports are 0 where the packet has none.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (source, destination, protocol, payload) = match packet.first()? >> 4 {
            4 => ipv4(packet)?,
            6 => ipv6(packet)?,
            _ => return None,
        };
        let has_ports = matches!(protocol, TCP | UDP | SCTP);
        let port = |at: usize| -> u16 {
            let bytes = payload.filter(|_| has_ports).and_then(|it| it.get(at..at + 2));
            bytes.map_or(0, |it| u16::from_be_bytes([it[0], it[1]]))
        };
        let (source_port, destination_port) = (port(0), port(2));
        Some(Self { source, source_port, destination, destination_port, protocol })
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Addresses, protocol, and what follows the headers; nothing does in a later fragment.
type Parsed<'a> = (IpAddr, IpAddr, u8, Option<&'a [u8]>);

fn ipv4(packet: &[u8]) -> Option<Parsed<'_>> {
    let address = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
    let header = usize::from(packet[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
    let payload = packet.get(header..).filter(|_| fragment == 0);
    Some((address(12)?.into(), address(16)?.into(), *packet.get(9)?, payload))
}

fn ipv6(packet: &[u8]) -> Option<Parsed<'_>> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let address = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
    let (source, destination) = (address(8)?.into(), address(24)?.into());
    let mut next = *packet.get(6)?;
    let mut rest = packet.get(40..);
    let mut is_later = false;
    while let (HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION, Some([after, len, ..])) = (next, rest)
    {
        let len = if next == FRAGMENT { 8 } else { 8 + usize::from(*len) * 8 };
        if next == FRAGMENT {
            let offset = rest.and_then(|it| it.get(2..4)).map(|it| [it[0], it[1]]);
            is_later = offset.is_some_and(|it| u16::from_be_bytes(it) >> 3 != 0);
        }
        next = *after;
        rest = rest.and_then(|it| it.get(len..));
    }
    Some((source, destination, next, rest.filter(|_| !is_later)))
}

/// The message of a verdict; `None` for what is not one of ours. The families' punctuation differs
/// upstream too.
fn message(prefix: &str, flow: &Flow) -> Option<(bool, String)> {
    let mut words = prefix.split(' ');
    let (verdict, direction, tier) = (words.next()?, words.next()?, words.next()?);
    let protocol = match flow.protocol {
        ICMP | ICMPV6 => "ICMP",
        TCP => "TCP",
        UDP => "UDP",
        SCTP => "SCTP",
        _ => "UNKNOWN",
    };
    let Flow { source, source_port, destination, destination_port, .. } = flow;
    let ends = format!(
        "Flow Info: Src IP: {source} Src Port: {source_port} \
         Dest IP: {destination} Dest Port: {destination_port}"
    );
    let text = if flow.source.is_ipv4() {
        format!("{ends} Proto {protocol} Verdict {verdict} Direction {direction}, Tier {tier}")
    } else {
        format!("{ends} Proto: {protocol} Verdict: {verdict} Direction: {direction} Tier: {tier}")
    };
    Some((verdict == "ACCEPT", text))
}

/// Where lines go.
#[derive(Debug)]
enum Sink {
    Stdout,
    Stderr,
    File { path: PathBuf, file: File, size: u64 },
}

/// The kernel's verdicts on their way into the log.
#[derive(Debug)]
pub struct Verdicts {
    packets: PacketLog,
    sink: Sink,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// Why verdicts cannot be logged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the kernel gives no logged packets")]
    Packets {
        #[source]
        source: LogError,
    },
    #[error("failed to open the log file `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Verdicts {
    /// `log_file` as upstream reads it: a path, `stdout`, or nothing for stderr.
    pub fn open(log_file: &str, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let sink = match log_file {
            "" => Sink::Stderr,
            text if text.eq_ignore_ascii_case("stdout") => Sink::Stdout,
            path => {
                let path = PathBuf::from(path);
                let opened = open(&path);
                let (file, size) =
                    opened.map_err(|source| OpenError::File { path: path.clone(), source })?;
                Sink::File { path, file, size }
            }
        };
        let packets =
            PacketLog::open(LOG_GROUP, LOG_LEN).map_err(|source| OpenError::Packets { source })?;
        Ok(Self { packets, sink, clock, metrics })
    }

    /// Until the kernel gives no more.
    pub async fn run(mut self) {
        loop {
            match self.packets.next().await {
                Ok(Logged::Packets(packets)) => {
                    let text: String = packets.iter().filter_map(|it| self.line(it)).collect();
                    if let Err(error) = self.sink.write(&text) {
                        warn!(error = %telemetry::chain(&error), "failed to log verdicts");
                    }
                }
                Ok(Logged::Lost) => self.metrics.lost(),
                Err(error) => {
                    warn!(error = %telemetry::chain(&error), "no more verdicts are logged");
                    return;
                }
            }
        }
    }

    fn line(&self, packet: &LoggedPacket) -> Option<String> {
        let (is_allowed, text) = message(&packet.prefix, &Flow::parse(&packet.bytes)?)?;
        let level = if is_allowed { "debug" } else { "info" };
        let at = self.clock.now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        Some(format!("{}\n", json!({"level": level, "ts": at, "msg": text})))
    }
}

fn open(path: &PathBuf) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Sink {
    fn write(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(text.as_bytes()),
            Self::Stderr => io::stderr().write_all(text.as_bytes()),
            Self::File { path, file, size } => {
                if *size >= MAX_SIZE {
                    let mut old = path.clone().into_os_string();
                    old.push(".1");
                    fs::rename(&*path, old)?;
                    (*file, *size) = open(path)?;
                }
                *size += text.len() as u64;
                file.write_all(text.as_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1:1000 to 10.0.0.2:80.
    fn packet(protocol: u8, options: usize, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x45 + u8::try_from(options / 4).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
        packet.extend([0x03, 0xe8, 0, 80]);
        packet
    }

    #[test]
    fn ports_are_read_after_options_and_not_of_later_fragments() {
        let ports = |packet: &[u8]| {
            let flow = Flow::parse(packet).unwrap();
            (flow.source_port, flow.destination_port)
        };
        assert_eq!(ports(&packet(TCP, 0, 0)), (1000, 80));
        assert_eq!(ports(&packet(UDP, 8, 0x2000)), (1000, 80));
        assert_eq!(ports(&packet(UDP, 0, 0x0010)), (0, 0));
        assert_eq!(ports(&packet(ICMP, 0, 0)), (0, 0));
        assert_eq!(ports(&packet(TCP, 0, 0)[..20]), (0, 0));
        assert_eq!(Flow::parse(&[0x45, 0]), None);
        assert_eq!(Flow::parse(&[]), None);
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = 0;
        packet[23] = 1;
        packet[39] = 2;
        // Hop by hop, 16 bytes long, then a first fragment, then TCP.
        packet.extend([44, 1]);
        packet.extend([0; 14]);
        packet.extend([TCP, 0, 0, 1, 0, 0, 0, 0]);
        packet.extend([0x03, 0xe8, 0, 80]);
        let flow = Flow::parse(&packet).unwrap();
        assert_eq!((flow.protocol, flow.source_port, flow.destination_port), (TCP, 1000, 80));
        assert_eq!(
            message("DENY egress NETWORK_POLICY", &flow).unwrap().1,
            "Flow Info: Src IP: ::1 Src Port: 1000 Dest IP: ::2 Dest Port: 80 Proto: TCP \
             Verdict: DENY Direction: egress Tier: NETWORK_POLICY"
        );
    }

    #[test]
    fn a_line_is_upstreams() {
        let flow = Flow::parse(&packet(TCP, 0, 0)).unwrap();
        assert_eq!(
            message("DENY ingress NETWORK_POLICY", &flow).unwrap(),
            (
                false,
                "Flow Info: Src IP: 10.0.0.1 Src Port: 1000 Dest IP: 10.0.0.2 Dest Port: 80 \
                 Proto TCP Verdict DENY Direction ingress, Tier NETWORK_POLICY"
                    .to_owned()
            )
        );
        assert!(message("ACCEPT egress NETWORK_POLICY", &flow).unwrap().0);
        assert_eq!(message("somebody's", &flow), None);
    }

    #[test]
    fn a_file_that_is_full_makes_place_for_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/agent.log");
        let (file, size) = open(&path).unwrap();
        let mut sink = Sink::File { path: path.clone(), file, size };
        sink.write("one\n").unwrap();
        if let Sink::File { size, .. } = &mut sink {
            *size = MAX_SIZE;
        }
        sink.write("two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(folder.path().join("logs/agent.log.1")).unwrap(), "one\n");
    }
}
