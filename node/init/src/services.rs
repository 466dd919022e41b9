//! The services of a node, and keeping them running.
//!
//! containerd says when it serves, by systemd's notification protocol; only then are the AMI's
//! images imported and the kubelet started, as under EKS's units.

use std::{
    convert::Infallible,
    fs::{self, File},
    io,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    images,
    readiness::Readiness,
    reaper::{Reaper, Started},
    restart::Backoff,
    status::Recorder,
};

/// One arena, and freed memory back to the system at once: glibc would give each thread an arena and
/// keep what a burst of pods once needed.
const ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Written by `nodeadm access`, or by a script of the user data.
const AUTHORIZED_KEYS: &str = "/home/ec2-user/.ssh/authorized_keys";

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
    /// It says when it is ready; until then nothing that needs it is started.
    is_notifying: bool,
    /// It needs the container runtime.
    needs_runtime: bool,
    /// It ends, with success, where there is nothing for it to do.
    may_rest: bool,
}

/// What a service has to do with: shared by all of them.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) status: Recorder,
    pub(crate) log_dir: PathBuf,
    /// Says whether containerd has been ready once.
    pub(crate) runtime: Arc<watch::Sender<bool>>,
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
            is_notifying: true,
            needs_runtime: false,
            may_rest: false,
        };
        let kubelet = Self {
            name: "kubelet",
            config: "/etc/kubernetes/kubelet/config.json".into(),
            program: own,
            args: strings(&["run", "kubelet"]),
            environment: Some(("/etc/eks/kubelet/environment".into(), "NODEADM_KUBELET_ARGS")),
            is_notifying: false,
            needs_runtime: true,
            may_rest: false,
        };
        vec![containerd, kubelet]
    }

    /// The way in for the owner of the instance's key pair, where there is one.
    pub(crate) fn sshd() -> Self {
        Self {
            name: "sshd",
            config: AUTHORIZED_KEYS.into(),
            program: "/usr/sbin/sshd".into(),
            // Without `-e` it would write to a syslog that nobody reads.
            args: ["-D", "-e"].map(str::to_owned).to_vec(),
            environment: None,
            is_notifying: false,
            needs_runtime: false,
            may_rest: false,
        }
    }

    /// Systems Manager's way in, which does not wait for the node either.
    pub(crate) fn ssm_agent() -> Self {
        let own = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        Self {
            name: "amazon-ssm-agent",
            config: own.clone(),
            program: own,
            args: ["run", "ssm-agent"].map(str::to_owned).to_vec(),
            environment: None,
            is_notifying: false,
            needs_runtime: false,
            may_rest: true,
        }
    }

    /// Whether this machine has the program.
    pub(crate) fn is_installed(&self) -> bool {
        self.program.exists()
    }

    pub(crate) fn is_configured(&self) -> bool {
        self.config.exists()
    }

    /// The environment is read at each start, so that a changed one takes effect by a restart.
    fn command(&self, log: File) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.envs(ALLOCATOR);
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
pub(crate) async fn keep_running(service: Service, around: Surroundings) {
    if service.needs_runtime {
        let mut runtime = around.runtime.subscribe();
        // An error: the sender is gone, and so is everything else.
        runtime.wait_for(|is_ready| *is_ready).await.ok();
    }
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let (name, mut rests) = (service.name, false);
        match start(&service, &around) {
            Ok((Started { identity, ended }, readiness)) => {
                info!(service = name, pid = identity.pid, "started");
                around.status.started(name, identity);
                let Ok(end) = while_running(ended, watch_over(readiness, &around)).await else {
                    return;
                };
                warn!(service = name, pid = identity.pid, %end, "ended");
                rests = service.may_rest && end.success();
                around.status.ended(name, &end.to_string());
            }
            Err(failure) => {
                error!(service = name, error = %failure, "failed to start");
                around.status.ended(name, &failure.to_string());
            }
        }
        let lived = begun.elapsed();
        let pause = if rests { backoff.rest(lived) } else { backoff.after(lived) };
        tokio::time::sleep(pause).await;
    }
}

/// Waits for the end of a process, doing `work` meanwhile; the end cuts the work short.
async fn while_running<T>(
    ended: oneshot::Receiver<T>,
    work: impl Future<Output = ()>,
) -> Result<T, oneshot::error::RecvError> {
    let work = async {
        work.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        end = ended => end,
        never = work => match never {},
    }
}

/// What there is to do while a service runs: once it is ready, the images of the AMI.
async fn watch_over(readiness: Option<Readiness>, around: &Surroundings) {
    let Some(readiness) = readiness else { return };
    if let Err(error) = readiness.wait().await {
        warn!(%error, "a service's notification cannot be read");
    }
    images::import_new(&around.reaper).await;
    around.runtime.send_replace(true);
}

fn start(service: &Service, around: &Surroundings) -> io::Result<(Started, Option<Readiness>)> {
    let path = around.log_dir.join(format!("{}.log", service.name));
    let log = File::options().create(true).append(true).open(path)?;
    let mut command = service.command(log)?;
    let readiness = match service.is_notifying {
        true => Some(Readiness::of(service.name, &mut command)?),
        false => None,
    };
    Ok((around.reaper.spawn(&mut command)?, readiness))
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
