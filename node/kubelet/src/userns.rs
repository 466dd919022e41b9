//! The user namespaces of pods with `hostUsers: false`: which users of the host stand for a pod's own.
//!
//! A pod is given a block of ids ([`blocks`]) that nobody else has, written into its folder before the
//! runtime hears of it, so that a kubelet that starts again finds what its pods have. It is free when
//! the pod has left nothing on the node.
//!
//! Volumes need nothing of this: the runtime mounts them with the mapping.
//!
//! **Invariant:** no id is in the blocks of two pods, and none of the host's own is in any.
//!
//! Upstream: `pkg/kubelet/userns`.
//!
//! Deviation: a pod keeps a block that the node's range no longer holds; upstream does not start then.

mod blocks;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use api_cri::v1;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use self::blocks::RangeError;
use self::blocks::{Block, Range};
use crate::{
    paths::Paths,
    pod::{PodExt, PodUid},
    runtime_features::{Handlers, LookupError},
};

/// The file in a pod's folder.
const FILE: &str = "userns";
/// Whose subordinate ids pods may have, where the host gives it any.
const USER: &str = "kubelet";
const TOOL: &str = "getsubids";

/// Why there are no user namespaces: the kubelet does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("kubelet mappings: {message}")]
    Mappings { message: String },
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error("read pods from disk: {0}")]
    Pods(#[source] io::Error),
    #[error("record pod mappings for existing pod \"{uid}\": {source}")]
    Record {
        uid: String,
        #[source]
        source: MappingError,
    },
}

/// Why what a pod's folder holds cannot be used, or nothing can be written there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MappingError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("invalid user namespace mappings file: {0}")]
    Json(#[from] serde_json::Error),
    #[error("invalid user namespace configuration: {0}")]
    Form(&'static str),
    #[error("range picked for pod \"{0}\" already taken")]
    Taken(String),
}

/// Why a pod is not given a namespace of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsernsError {
    #[error("can't set `spec.hostUsers: false`, runtime does not support user namespaces{}", reason(.0))]
    Runtime(Option<LookupError>),
    #[error(
        "can't set `spec.hostUsers: false`, RuntimeClass handler \"{handler}\" does not support user namespaces{}",
        reason(.source)
    )]
    Handler { handler: String, source: Option<LookupError> },
    #[error("user namespace: {0}")]
    Recorded(#[source] MappingError),
    #[error("create user namespace: {0}")]
    Create(#[source] MappingError),
    #[error("create user namespace: could not find an empty slot to allocate a user namespace")]
    Full,
}

fn reason(source: &Option<LookupError>) -> String {
    source.as_ref().map(|it| format!(": {it}")).unwrap_or_default()
}

pub(crate) struct UserNamespaces {
    paths: Paths,
    range: Range,
    used: Mutex<HashMap<PodUid, Block>>,
}

impl UserNamespaces {
    /// With what the pods on this disk have.
    pub(crate) fn load(
        paths: Paths,
        ids_per_pod: Option<i64>,
        max_pods: i64,
    ) -> Result<Self, LoadError> {
        let length = ids_per_pod.map_or(Ok(blocks::UNIT), u32::try_from);
        let length = length.map_err(|_| RangeError::Length { length: u32::MAX })?;
        let given = subordinate_ids().map_err(|message| LoadError::Mappings { message })?;
        let range = Range::new(given, length, max_pods)?;
        let mut used = HashMap::new();
        let entries = match fs::read_dir(paths.pods()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries.map_err(LoadError::Pods)?),
        };
        for entry in entries.into_iter().flatten() {
            let name = entry.map_err(LoadError::Pods)?.file_name();
            let uid = PodUid(name.to_string_lossy().into_owned());
            let recorded = read(&paths.pod(&uid).join(FILE)).and_then(|found| match found {
                Some(block) if used.values().any(|it: &Block| it.overlaps(block)) => {
                    Err(MappingError::Taken(uid.0.clone()))
                }
                found => Ok(found),
            });
            let recorded =
                recorded.map_err(|source| LoadError::Record { uid: uid.0.clone(), source })?;
            used.extend(recorded.map(|block| (uid, block)));
        }
        Ok(Self { paths, range, used: Mutex::new(used) })
    }

    /// What a pod has; the node's own users, unless it asks for others.
    pub(crate) fn find(&self, pod: &Pod) -> Option<v1::UserNamespace> {
        if PodExt::spec(pod).host_users != Some(false) {
            return Some(node());
        }
        self.used.lock().get(&pod.uid()).map(|block| mapped(*block))
    }

    /// What a pod has, given now if it is new, where the runtime's handler can do it.
    pub(crate) fn get_or_create(
        &self,
        pod: &Pod,
        handler: &str,
        handlers: Option<&Handlers>,
    ) -> Result<v1::UserNamespace, UsernsError> {
        if PodExt::spec(pod).host_users != Some(false) {
            return Ok(node());
        }
        let known = handlers.ok_or(LookupError::Unset).and_then(|it| it.find(handler));
        let source = match known {
            Ok(features) if features.user_namespaces => return self.block_of(pod).map(mapped),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let handler = handler.to_owned();
        Err(match handler.as_str() {
            "" => UsernsError::Runtime(source),
            _ => UsernsError::Handler { handler, source },
        })
    }

    fn block_of(&self, pod: &Pod) -> Result<Block, UsernsError> {
        let (uid, mut used) = (pod.uid(), self.used.lock());
        if let Some(block) = used.get(&uid) {
            return Ok(*block);
        }
        let folder = self.paths.pod(&uid);
        // What an earlier kubelet wrote that was told to start without it.
        if let Some(block) = read(&folder.join(FILE)).map_err(UsernsError::Recorded)? {
            if used.values().any(|it| it.overlaps(block)) {
                return Err(UsernsError::Recorded(MappingError::Taken(uid.0)));
            }
            used.insert(uid, block);
            return Ok(block);
        }
        let start = entropy::below(self.range.count());
        let block = self.range.free_from(start, used.values()).ok_or(UsernsError::Full)?;
        write(&folder, block).map_err(|it| UsernsError::Create(it.into()))?;
        used.insert(uid, block);
        Ok(block)
    }

    /// The pod has left nothing on the node.
    pub(crate) fn release(&self, uid: &PodUid) {
        if self.used.lock().remove(uid).is_some() {
            drop(fs::remove_file(self.paths.pod(uid).join(FILE)));
        }
    }

    /// Only these pods are there.
    pub(crate) fn retain(&self, is_known: impl Fn(&PodUid) -> bool) {
        let gone: Vec<_> = self.used.lock().keys().filter(|it| !is_known(it)).cloned().collect();
        gone.iter().for_each(|uid| self.release(uid));
    }
}

fn node() -> v1::UserNamespace {
    v1::UserNamespace { mode: v1::NamespaceMode::Node as i32, ..Default::default() }
}

fn mapped(block: Block) -> v1::UserNamespace {
    let ids = vec![v1::IdMapping { host_id: block.first, container_id: 0, length: block.length }];
    v1::UserNamespace { mode: v1::NamespaceMode::Pod as i32, uids: ids.clone(), gids: ids }
}

/// What upstream writes, too.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mappings {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

fn read(path: &Path) -> Result<Option<Block>, MappingError> {
    let text = match fs::read_to_string(path) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        text => text?,
    };
    if text.is_empty() {
        return Ok(None);
    }
    let mappings: Mappings = serde_json::from_str(&text)?;
    let [uids] = mappings.uid_mappings[..] else {
        return Err(MappingError::Form("no more than one mapping allowed."));
    };
    let [gids] = mappings.gid_mappings[..] else {
        return Err(MappingError::Form("GID and UID mappings should be identical."));
    };
    if uids != gids {
        return Err(MappingError::Form("GID and UID mapping should be identical"));
    }
    if uids.container_id != 0 {
        return Err(MappingError::Form("UID 0 must be mapped"));
    }
    Ok(Some(Block { first: uids.host_id, length: uids.length }))
}

/// Durable before it is used: the pod's files belong to these ids for as long as it runs.
fn write(folder: &Path, block: Block) -> io::Result<()> {
    let mapping = Mapping { host_id: block.first, container_id: 0, length: block.length };
    let mappings = Mappings { uid_mappings: vec![mapping], gid_mappings: vec![mapping] };
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{FILE}.tmp"));
    let mut file = fs::File::create(&beside)?;
    io::Write::write_all(&mut file, &serde_json::to_vec(&mappings)?)?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(FILE))?;
    fs::File::open(folder)?.sync_all()
}

/// The ids that the host gives the user `kubelet`: the first and how many; `None` where it gives none.
fn subordinate_ids() -> Result<Option<(u32, u32)>, String> {
    let user = nix::unistd::User::from_name(USER).map_err(|it| it.to_string())?;
    let Some(tool) = user.and_then(|_| tool()) else { return Ok(None) };
    let ask = |arguments: &[&str], what: &str| {
        let output = Command::new(&tool).args(arguments).output();
        let failed = || format!("error retrieving additional {what} for user \"{USER}\"");
        let output = output.ok().filter(|it| it.status.success()).ok_or_else(failed)?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (uids, gids) = (ask(&[USER], "ids")?, ask(&["-g", USER], "gids")?);
    if uids != gids {
        return Err(format!("mismatched subuids and subgids for user \"{USER}\""));
    }
    blocks::parse_subordinate(&uids).map(Some)
}

fn tool() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|it| it.join(TOOL)).find(|it| it.is_file())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, host_users: Value) -> Pod {
        let spec = json!({ "containers": [], "hostUsers": host_users });
        serde_json::from_value(json!({ "metadata": { "uid": uid }, "spec": spec })).unwrap()
    }

    fn load(root: &Path) -> Result<UserNamespaces, LoadError> {
        UserNamespaces::load(Paths::new(root.to_str().unwrap(), "/logs"), None, 110)
    }

    fn handlers(has_namespaces: bool) -> Handlers {
        Handlers::of(&v1::StatusResponse {
            runtime_handlers: vec![v1::RuntimeHandler {
                name: String::new(),
                features: Some(v1::RuntimeHandlerFeatures {
                    user_namespaces: has_namespaces,
                    ..Default::default()
                }),
            }],
            ..Default::default()
        })
    }

    #[test]
    fn a_pod_has_a_block_of_its_own_that_outlives_the_kubelet() {
        let root = tempfile::tempdir().unwrap();
        let able = handlers(true);
        let give = |from: &UserNamespaces, uid: &str| {
            from.get_or_create(&pod(uid, json!(false)), "", Some(&able)).unwrap()
        };
        let all = load(root.path()).unwrap();
        let (one, two) = (give(&all, "one"), give(&all, "two"));
        assert_eq!(one.mode, v1::NamespaceMode::Pod as i32);
        assert_eq!(one.uids, one.gids);
        let [mapping] = &one.uids[..] else { panic!("{one:?}") };
        assert_eq!((mapping.container_id, mapping.length), (0, 65_536));
        assert!(mapping.host_id >= 65_536 && mapping.host_id % 65_536 == 0);
        assert_ne!(one, two);
        assert_eq!(give(&all, "one"), one);
        let file = fs::read_to_string(root.path().join("pods/one/userns")).unwrap();
        let first = mapping.host_id;
        let mapping = json!([{ "hostId": first, "containerId": 0, "length": 65_536 }]);
        let written: Value = serde_json::from_str(&file).unwrap();
        assert_eq!(written, json!({ "uidMappings": mapping, "gidMappings": mapping }));
        // Another kubelet finds it without the runtime, which may be away.
        let again = load(root.path()).unwrap();
        assert_eq!(again.find(&pod("one", json!(false))), Some(one));
        again.release(&PodUid("one".to_owned()));
        assert_eq!(again.find(&pod("one", json!(false))), None);
        again.retain(|_| false);
        assert!(load(root.path()).unwrap().used.lock().is_empty());
    }

    #[test]
    fn only_pods_that_ask_for_it_leave_the_nodes_users() {
        let root = tempfile::tempdir().unwrap();
        let all = load(root.path()).unwrap();
        for host_users in [Value::Null, json!(true)] {
            let given = all.get_or_create(&pod("p", host_users), "", None).unwrap();
            assert_eq!(given, node());
        }
        assert!(!root.path().join("pods").exists());
    }

    #[test]
    fn a_runtime_that_cannot_is_told_in_upstreams_words() {
        let root = tempfile::tempdir().unwrap();
        let all = load(root.path()).unwrap();
        let why = |handler: &str, handlers: Option<&Handlers>| {
            let given = all.get_or_create(&pod("p", json!(false)), handler, handlers);
            given.unwrap_err().to_string()
        };
        let cannot = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
        assert_eq!(why("", Some(&handlers(false))), cannot);
        assert_eq!(
            why("", Some(&Handlers::default())),
            format!("{cannot}: the handler \"\" is not known")
        );
        assert_eq!(why("", None), format!("{cannot}: runtime handlers are not set"));
        assert_eq!(
            why("kata", Some(&handlers(true))),
            "can't set `spec.hostUsers: false`, RuntimeClass handler \"kata\" does not support user namespaces: the handler \"kata\" is not known"
        );
    }

    #[test]
    fn a_file_that_cannot_be_used_keeps_the_kubelet_from_starting() {
        let told = |text: &str| {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("pods/p")).unwrap();
            fs::write(root.path().join("pods/p/userns"), text).unwrap();
            load(root.path()).err().map(|it| it.to_string())
        };
        let at = "record pod mappings for existing pod \"p\": invalid user namespace";
        assert!(told("{").unwrap().starts_with(&format!("{at} mappings file: ")));
        let of = |first: u32, second: u32| {
            let map = |id: u32| json!([{ "hostId": id, "containerId": 0, "length": 65_536 }]);
            json!({ "uidMappings": map(first), "gidMappings": map(second) }).to_string()
        };
        assert_eq!(told(&of(65_536, 65_536)), None);
        assert_eq!(told(""), None);
        assert_eq!(
            told(&of(65_536, 131_072)).unwrap(),
            format!("{at} configuration: GID and UID mapping should be identical")
        );
    }
}
