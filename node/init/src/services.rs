//! The services of a node, and keeping them running.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    reaper::{Reaper, Started},
    restart::Backoff,
    status::Recorder,
};

/// One service: what must be there before it can run, and how it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// Written by nodeadm; without it the service is not wanted.
    config: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    /// A file of `KEY=value` lines, and the key whose value holds further arguments.
    environment: Option<(PathBuf, &'static str)>,
}

impl Service {
    /// containerd, then the kubelet.
    pub(crate) fn of_a_node() -> Vec<Self> {
        let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let strings = |args: &[&str]| args.iter().map(|&it| it.to_owned()).collect();
        let containerd = Self {
            name: "containerd",
            config: "/etc/containerd/config.toml".into(),
            program: "/usr/bin/containerd".into(),
            args: strings(&["--config", "/etc/containerd/config.toml"]),
            environment: None,
        };
        let kubelet = Self {
            name: "kubelet",
            config: "/etc/kubernetes/kubelet/config.json".into(),
            program: own,
            args: strings(&["run", "kubelet"]),
            environment: Some(("/etc/eks/kubelet/environment".into(), "NODEADM_KUBELET_ARGS")),
        };
        vec![containerd, kubelet]
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.config.exists()
    }

    /// The environment is read at each start, so that a changed one takes effect by a restart.
    fn command(&self, log: File) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some((file, key)) = &self.environment {
            let text = match fs::read_to_string(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                other => other?,
            };
            for (name, value) in assignments(&text) {
                if name == *key {
                    command.args(words(&value));
                } else {
                    command.env(name, value);
                }
            }
        }
        Ok(command)
    }
}

/// Starts the service, and again whenever it ends. Ends with its scope only.
pub(crate) async fn keep_running(
    service: Service,
    log: PathBuf,
    reaper: Arc<Reaper>,
    status: Recorder,
) {
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        match start(&service, &log, &reaper) {
            Ok(Started { identity, ended }) => {
                info!(service = service.name, pid = identity.pid, "started");
                status.started(service.name, identity);
                let Ok(end) = ended.await else { return };
                warn!(service = service.name, pid = identity.pid, %end, "ended");
                status.ended(service.name, &end.to_string());
            }
            Err(failure) => {
                error!(service = service.name, error = %failure, "failed to start");
                status.ended(service.name, &failure.to_string());
            }
        }
        tokio::time::sleep(backoff.after(begun.elapsed())).await;
    }
}

fn start(service: &Service, log: &Path, reaper: &Reaper) -> io::Result<Started> {
    let log = File::options().create(true).append(true).open(log)?;
    reaper.spawn(&mut service.command(log)?)
}

/// The assignments of a systemd `EnvironmentFile`: one per line, the value perhaps in quotes.
fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), unquote(value.trim()))).collect()
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        let inner = value.strip_prefix(quote).and_then(|it| it.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner.replace("\\\"", "\"").replace("\\\\", "\\");
        }
    }
    value.to_owned()
}

/// Splits at blanks; quotes keep blanks together, as systemd's `$VAR` expansion does.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for char in text.chars() {
        match (quote, char) {
            (Some(open), char) if char == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None, char) if char.is_whitespace() => found.extend(word.take()),
            (_, char) => word.get_or_insert_default().push(char),
        }
    }
    found.extend(word);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_gives_arguments_and_variables() {
        let text = "# made by nodeadm\nNODEADM_KUBELET_ARGS=\"--a=1 --b='x y' --c=\\\"z\\\"\"\nHTTP_PROXY=http://p\nbroken\n";
        let found = assignments(text);
        assert_eq!(found.len(), 2);
        assert_eq!(words(&found[0].1), ["--a=1", "--b=x y", "--c=z"]);
        assert_eq!(found[1], ("HTTP_PROXY".to_owned(), "http://p".to_owned()));
    }

    #[test]
    fn an_empty_word_in_quotes_is_a_word() {
        assert_eq!(words("  a '' b "), ["a", "", "b"]);
        assert!(words("   ").is_empty());
    }
}
