//! The standard input of the CNI plug-in: read or answered with a CNI error, for each command; the
//! arguments of the runtime come from the input's first line.

use api_cni::{Invocation, Variables};

pub(crate) fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (args, stdin) = data.split_at(end);
    for command in ["ADD", "DEL", "CHECK", "VERSION"] {
        let variables = Variables {
            command: command.to_owned(),
            container_id: "0a1b".to_owned(),
            netns: "/var/run/netns/cni-1".to_owned(),
            ifname: "eth0".to_owned(),
            args: String::from_utf8_lossy(args).into_owned(),
            path: "/opt/cni/bin".to_owned(),
        };
        if let Err(error) = Invocation::parse(&variables, stdin) {
            assert!(!error.to_string().is_empty());
        }
    }
}
