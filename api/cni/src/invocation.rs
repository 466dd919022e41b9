//! One execution of a plug-in: its variables and standard input, checked.

use std::path::PathBuf;

use crate::{CniError, ErrorCode, NetConf, VERSIONS};

/// More than any configuration; what is longer is refused unread.
pub const MAX_STDIN: u64 = 1 << 20;
/// `IFNAMSIZ` without its terminating zero.
const MAX_LINK_NAME: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Version,
}

/// The `CNI_*` variables as they came.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    pub command: String,
    pub container_id: String,
    pub netns: String,
    pub ifname: String,
    pub args: String,
    pub path: String,
}

impl Variables {
    /// Picks the variables out of an environment.
    pub fn pick(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut picked = Self::default();
        for (name, value) in environment {
            match name.as_str() {
                "CNI_COMMAND" => picked.command = value,
                "CNI_CONTAINERID" => picked.container_id = value,
                "CNI_NETNS" => picked.netns = value,
                "CNI_IFNAME" => picked.ifname = value,
                "CNI_ARGS" => picked.args = value,
                "CNI_PATH" => picked.path = value,
                _ => {}
            }
        }
        picked
    }
}

/// A checked request. For `VERSION` only the command and the configuration's version are.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub command: Command,
    pub container_id: String,
    /// Where the pod's namespace is; `None` only in DEL, when it is gone.
    pub netns: Option<PathBuf>,
    pub ifname: String,
    pub pod: PodArgs,
    pub config: NetConf,
}

/// Whom the sandbox is for, from `CNI_ARGS`. Empty strings where the runtime does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodArgs {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Invocation {
    pub fn parse(variables: &Variables, stdin: &[u8]) -> Result<Self, CniError> {
        let command = match variables.command.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "VERSION" => Command::Version,
            "" => return Err(missing("CNI_COMMAND")),
            other => return Err(invalid(format!("unknown CNI_COMMAND: {other}"))),
        };
        let config = parse_config(command, stdin)?;
        let mut invocation = Self {
            command,
            container_id: variables.container_id.clone(),
            netns: Some(&variables.netns).filter(|it| !it.is_empty()).map(PathBuf::from),
            ifname: variables.ifname.clone(),
            pod: PodArgs::default(),
            config,
        };
        if command != Command::Version {
            let version = invocation.config.cni_version.clone();
            invocation.check(variables).map_err(|error| error.in_version(&version))?;
            invocation.pod = pod_args(&variables.args)?;
        }
        Ok(invocation)
    }

    fn check(&self, variables: &Variables) -> Result<(), CniError> {
        if self.container_id.is_empty() {
            return Err(missing("CNI_CONTAINERID"));
        }
        if !is_name(&self.container_id) {
            return Err(invalid("invalid characters in containerID"));
        }
        if self.netns.is_none() && self.command != Command::Del {
            return Err(missing("CNI_NETNS"));
        }
        if self.ifname.is_empty() {
            return Err(missing("CNI_IFNAME"));
        }
        if !is_link_name(&self.ifname) {
            return Err(invalid("invalid interface name"));
        }
        if variables.path.is_empty() && self.command != Command::Del {
            return Err(missing("CNI_PATH"));
        }
        if self.config.name.is_empty() {
            return Err(wrong_config("missing network name"));
        }
        if !is_name(&self.config.name) {
            return Err(wrong_config("invalid characters found in network name"));
        }
        Ok(())
    }
}

fn parse_config(command: Command, stdin: &[u8]) -> Result<NetConf, CniError> {
    // VERSION may come with nothing at all.
    if command == Command::Version && stdin.trim_ascii().is_empty() {
        return Ok(NetConf { cni_version: "1.0.0".to_owned(), ..NetConf::default() });
    }
    let mut config: NetConf = serde_json::from_slice(stdin).map_err(|error| {
        CniError::new(ErrorCode::Decode, format!("error parsing configuration: {error}"))
    })?;
    if config.cni_version.is_empty() {
        // What the specification says a missing version means is older than anything spoken here;
        // the oldest that is spoken has the same results.
        config.cni_version = VERSIONS[0].to_owned();
    }
    if !VERSIONS.contains(&config.cni_version.as_str()) {
        let wanted = &config.cni_version;
        let details = format!("config is \"{wanted}\", plugin supports {VERSIONS:?}");
        let error = CniError::new(ErrorCode::IncompatibleVersion, "incompatible CNI versions");
        return Err(error.details(details));
    }
    Ok(config)
}

/// `K8S_POD_NAMESPACE=…;K8S_POD_NAME=…;…`; unknown keys are somebody else's.
fn pod_args(text: &str) -> Result<PodArgs, CniError> {
    let mut pod = PodArgs::default();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(invalid(format!("ARGS: invalid pair \"{pair}\"")));
        };
        match key {
            "K8S_POD_NAMESPACE" => value.clone_into(&mut pod.namespace),
            "K8S_POD_NAME" => value.clone_into(&mut pod.name),
            "K8S_POD_UID" => value.clone_into(&mut pod.uid),
            _ => {}
        }
    }
    Ok(pod)
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as the specification has it for container ids and networks.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_link_name(text: &str) -> bool {
    !matches!(text, "." | "..")
        && text.len() <= MAX_LINK_NAME
        && !text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn missing(variable: &str) -> CniError {
    let msg = "required env variables missing";
    CniError::new(ErrorCode::InvalidEnvironment, msg).details(format!("{variable} is not set"))
}

fn invalid(msg: impl Into<String>) -> CniError {
    CniError::new(ErrorCode::InvalidEnvironment, msg)
}

fn wrong_config(msg: &str) -> CniError {
    CniError::new(ErrorCode::InvalidNetworkConfig, msg)
}

#[cfg(test)]
mod tests;
