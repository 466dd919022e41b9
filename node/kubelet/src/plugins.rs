//! Plugins that register themselves: each puts a socket below `plugins_registry`, says there what it
//! is and where it serves, and is told whether it is welcome. A socket that goes takes its plugin away.
//!
//! A pass compares the sockets that are there with those that are known; inotify only says when to
//! look. A plugin that cannot be registered is tried again, later and later.
//!
//! Upstream: `pkg/kubelet/pluginmanager`.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api_csi::{RegistrationClient, registration as v1};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use linux_inotify::Watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::paths::make_private;

/// A kind of plugin.
pub(crate) trait Handler: Send + Sync {
    /// As plugins name it.
    fn kind(&self) -> &'static str;

    fn register<'a>(
        &'a self,
        name: &'a str,
        endpoint: &'a str,
        versions: &'a [String],
    ) -> BoxFuture<'a, Result<(), String>>;

    fn unregister<'a>(&'a self, name: &'a str, endpoint: &'a str) -> BoxFuture<'a, ()>;
}

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(120);
/// Of one message to a plugin's registration socket.
const LIMIT: Duration = Duration::from_secs(10);

/// Which file a socket is: one that was removed and made again is another one.
type Identity = (u64, i64, i64);
type Sockets = HashMap<PathBuf, Identity>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Plugin {
    kind: String,
    name: String,
    endpoint: String,
}

struct Known {
    identity: Identity,
    state: State,
}

enum State {
    UnderWay,
    Registered(Plugin),
    Failed { again_at: Instant, retry: Duration },
}

/// What a pass has to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    gone: Vec<PathBuf>,
    new: Vec<PathBuf>,
}

fn plan(found: &Sockets, known: &HashMap<PathBuf, Known>, now: Instant) -> Plan {
    let mut plan = Plan::default();
    for (path, it) in known {
        let is_there = found.get(path) == Some(&it.identity);
        // What is under way is looked at when it has ended.
        if !is_there && !matches!(it.state, State::UnderWay) {
            plan.gone.push(path.clone());
        }
    }
    for path in found.keys() {
        match known.get(path) {
            None => plan.new.push(path.clone()),
            Some(it) => {
                let is_due = matches!(it.state, State::Failed { again_at, .. } if again_at <= now);
                if is_due && !plan.gone.contains(path) {
                    plan.new.push(path.clone());
                }
            }
        }
    }
    plan
}

pub(crate) struct Plugins {
    folder: PathBuf,
    handlers: Vec<Arc<dyn Handler>>,
    known: HashMap<PathBuf, Known>,
}

impl Plugins {
    pub(crate) fn new(root: &Path, handlers: Vec<Arc<dyn Handler>>) -> Self {
        Self { folder: root.join("plugins_registry"), handlers, known: HashMap::new() }
    }

    /// Follows the folder for ever.
    pub(crate) async fn run(mut self) {
        if let Err(error) = make_private(&self.folder) {
            warn!(folder = %self.folder.display(), %error, "no plugin can register itself");
            return;
        }
        let mut watch = Watch::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            watch.add_folders(&self.folder);
            let found = sockets(&self.folder);
            let plan = plan(&found, &self.known, Instant::now());
            let is_again = !plan.gone.is_empty();
            for path in plan.gone {
                self.remove(&path).await;
            }
            for path in plan.new {
                let Some(identity) = found.get(&path).copied() else { continue };
                let retry = match self.known.get(&path).map(|it| &it.state) {
                    Some(State::Failed { retry, .. }) => *retry,
                    _ => FIRST_RETRY,
                };
                self.known.insert(path.clone(), Known { identity, state: State::UnderWay });
                let handlers = self.handlers.clone();
                under_way.push(async move {
                    let registered = register(&handlers, &path).await;
                    (path, retry, registered)
                });
            }
            if is_again {
                continue;
            }
            let next = self.next_retry();
            tokio::select! {
                () = watch.changed() => {}
                Some((path, retry, result)) = under_way.next(), if !under_way.is_empty() => {
                    self.note(path, retry, result);
                }
                () = sleep_until(next) => {}
            }
        }
    }

    fn note(&mut self, path: PathBuf, retry: Duration, result: Result<Plugin, String>) {
        let Some(known) = self.known.get_mut(&path) else { return };
        known.state = match result {
            Ok(plugin) => State::Registered(plugin),
            Err(error) => {
                debug!(path = %path.display(), error, "a plugin was not registered");
                let again_at = Instant::now() + retry;
                State::Failed { again_at, retry: (retry * 2).min(LONGEST_RETRY) }
            }
        };
    }

    async fn remove(&mut self, path: &Path) {
        let Some(known) = self.known.remove(path) else { return };
        if let State::Registered(plugin) = known.state
            && let Some(handler) = self.handlers.iter().find(|it| it.kind() == plugin.kind)
        {
            handler.unregister(&plugin.name, &plugin.endpoint).await;
        }
    }

    fn next_retry(&self) -> Option<Instant> {
        let times = self.known.values().filter_map(|it| match it.state {
            State::Failed { again_at, .. } => Some(again_at),
            _ => None,
        });
        times.min()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The sockets in a folder and below it; names that begin with a dot are not looked at.
fn sockets(folder: &Path) -> Sockets {
    let mut found = Sockets::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        let Ok(it) = fs::symlink_metadata(entry.path()) else { continue };
        if is_hidden {
            continue;
        }
        if it.is_dir() {
            found.extend(sockets(&entry.path()));
        } else if it.file_type().is_socket() {
            found.insert(entry.path(), (it.ino(), it.ctime(), it.ctime_nsec()));
        }
    }
    found
}

/// Asks a plugin what it is, hands it over, and tells it how that went.
async fn register(handlers: &[Arc<dyn Handler>], path: &Path) -> Result<Plugin, String> {
    let channel = api_cri::connect(&path.display().to_string()).map_err(|it| it.to_string())?;
    let mut client = RegistrationClient::new(channel);
    let info = within(client.get_info(v1::InfoRequest {})).await?;
    let v1::PluginInfo { r#type: kind, name, mut endpoint, supported_versions } = info;
    if endpoint.is_empty() {
        endpoint = path.display().to_string();
    }
    let registered = match handlers.iter().find(|it| it.kind() == kind) {
        Some(handler) => handler.register(&name, &endpoint, &supported_versions).await,
        None => Err(format!(
            "no handler registered for plugin type: {kind} at socket {}",
            path.display()
        )),
    };
    let error = registered.as_ref().err().cloned().unwrap_or_default();
    let status = v1::RegistrationStatus { plugin_registered: registered.is_ok(), error };
    let told = within(client.notify_registration_status(status)).await;
    registered?;
    if let Err(error) = told {
        // Upstream keeps it, too: it works, it only has not heard so.
        warn!(name, error, "a plugin was not told that it is registered");
    }
    Ok(Plugin { kind, name, endpoint })
}

async fn within<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> Plugin {
        let [kind, name, endpoint] = ["CSIPlugin", "d", "/s"].map(str::to_owned);
        Plugin { kind, name, endpoint }
    }

    #[test]
    fn a_socket_that_was_made_again_is_another_plugin() {
        let path = PathBuf::from("/r/d.sock");
        let found = |identity: Identity| Sockets::from([(path.clone(), identity)]);
        let known = |state| HashMap::from([(path.clone(), Known { identity: (1, 0, 0), state })]);
        let now = Instant::now();
        let nothing = Plan::default();
        let gone = Plan { gone: vec![path.clone()], new: Vec::new() };
        let new = Plan { gone: Vec::new(), new: vec![path.clone()] };
        let registered = || known(State::Registered(plugin()));
        assert_eq!(plan(&found((1, 0, 0)), &HashMap::new(), now), new);
        assert_eq!(plan(&found((1, 0, 0)), &registered(), now), nothing);
        assert_eq!(plan(&found((2, 0, 0)), &registered(), now), gone);
        assert_eq!(plan(&Sockets::new(), &registered(), now), gone);
        assert_eq!(plan(&Sockets::new(), &known(State::UnderWay), now), nothing);
        let later = now + FIRST_RETRY;
        let failed = || known(State::Failed { again_at: later, retry: FIRST_RETRY });
        assert_eq!(plan(&found((1, 0, 0)), &failed(), now), nothing);
        assert_eq!(plan(&found((1, 0, 0)), &failed(), later), new);
    }
}
