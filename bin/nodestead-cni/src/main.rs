//! The CNI plug-in: asks ipamd for an address and plumbs it into the pod's namespace.
//!
//! A runtime executes it for every pod, so it is small and synchronous: one exchange on ipamd's
//! socket, about a dozen rtnetlink requests, no runtime and no configuration of its own.
//! Executed under the name `loopback` it is that plug-in, which containerd wants beside every other.
//!
//! **Invariant:** ADD is idempotent for a sandbox and leaves nothing behind when it fails; DEL does
//! not fail for what it does not know, or the runtime would repeat it for ever.
//!
//! Upstream: amazon-vpc-cni-k8s `cmd/routed-eni-cni-plugin`. Deviation: no log file; what failed is
//! in the error's details, which the runtime logs. Deviation: host ports and bandwidth limits
//! (capabilities `portMappings` and `bandwidth`) are set by this plug-in, not by others in the chain.

mod add;
mod bandwidth;
mod branch;
mod del;
mod hostports;
mod localnet;
mod loopback;
mod plumbing;
mod records;

use std::{
    io::{Read, Write},
    path::Path,
    process::ExitCode,
};

use api_cni::{CniError, Command, ErrorCode, Invocation, MAX_STDIN, Variables, version_info};
use serde_json::Value;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|it| it == records::RESTORE) {
        let folder = arguments.next().unwrap_or_default();
        return match records::restore(Path::new(&folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}", chain(&error));
                ExitCode::FAILURE
            }
        };
    }
    let (text, code) = match answer() {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(value)) => (value.to_string(), ExitCode::SUCCESS),
        Err(error) => (serde_json::to_string(&error).unwrap_or(error.msg), ExitCode::FAILURE),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer() -> Result<Option<Value>, CniError> {
    let mut stdin = Vec::new();
    std::io::stdin()
        .take(MAX_STDIN)
        .read_to_end(&mut stdin)
        .map_err(|error| CniError::new(ErrorCode::Io, format!("failed to read stdin: {error}")))?;
    let variables = Variables::pick(std::env::vars());
    let invocation = Invocation::parse(&variables, &stdin)?;
    let version = invocation.config.cni_version.clone();
    let done = if is_loopback() { loopback::run(&invocation) } else { run(&invocation) };
    done.map_err(|error| error.in_version(&version))
}

fn run(invocation: &Invocation) -> Result<Option<Value>, CniError> {
    match invocation.command {
        Command::Version => Ok(Some(version_info(&invocation.config.cni_version))),
        Command::Add => add::run(invocation).and_then(|result| print(&result)),
        Command::Del => del::run(invocation).map(|()| None),
        Command::Check => add::check(invocation).map(|()| None),
    }
}

fn print(result: &api_cni::NetResult) -> Result<Option<Value>, CniError> {
    serde_json::to_value(result)
        .map(Some)
        .map_err(|error| CniError::new(ErrorCode::Io, format!("failed to write: {error}")))
}

fn is_loopback() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    Path::new(&name).file_name().is_some_and(|name| name == "loopback")
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
