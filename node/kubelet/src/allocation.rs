//! Which resources containers have been promised, and which they were last given.
//!
//! A pod's spec says what is wanted. What the node has room for is promised (allocated), and what the
//! runtime was last told is given (actuated). Where they differ a resize is under way. Both outlive
//! the process, in one small file.
//!
//! Upstream: `pkg/kubelet/allocation` (two checkpoint files there).
//!
//! **Invariant:** a promise is written down before anything acts on it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::warn;

use crate::{
    pod::{PodExt, PodUid},
    quantity,
};

const FILE: &str = "pod_resources_state";

/// Stands for the pod as a whole (`spec.resources`) among the names of its containers.
pub(crate) const WHOLE: &str = "";

/// Resources by container name.
pub(crate) type Resources = BTreeMap<String, ResourceRequirements>;

/// What the status of a pod says about a resize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResizeState {
    pub pending: Option<Pending>,
    pub in_progress: Option<InProgress>,
}

/// The node does not give what is wanted: not now, or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InProgress {
    pub error: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    allocated: BTreeMap<PodUid, Resources>,
    actuated: BTreeMap<PodUid, Resources>,
}

pub(crate) struct Allocations {
    path: PathBuf,
    state: Mutex<State>,
}

impl Allocations {
    /// What an earlier run left.
    pub(crate) fn load(root: &Path) -> Self {
        let path = root.join(FILE);
        let state = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                warn!(path = %path.display(), %error, "the promised resources cannot be read");
                State::default()
            }),
            Err(_) => State::default(),
        };
        Self { path, state: Mutex::new(state) }
    }

    /// The pod with what is promised to it in the place of what it wants.
    pub(crate) fn applied_to(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let state = self.state.lock();
        let Some(allocated) = state.allocated.get(&pod.uid()) else { return pod.clone() };
        let differs = |it: &Container| {
            let promised = allocated.get(&it.name);
            promised.is_some_and(|promised| it.resources.as_ref() != Some(promised))
        };
        let spec = PodExt::spec(pod.as_ref());
        let whole = allocated.get(WHOLE);
        let is_whole_same = whole.is_none() || whole == spec.resources.as_ref();
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        if is_whole_same && !containers.any(differs) {
            return pod.clone();
        }
        let mut pod = Pod::clone(pod);
        put(&mut pod, allocated);
        Arc::new(pod)
    }

    /// Promises what a pod wants.
    pub(crate) fn allocate(&self, pod: &Pod) {
        let wanted = of(pod);
        let mut state = self.state.lock();
        // Without any resources there is nothing that could be changed.
        if wanted.values().all(|it| *it == ResourceRequirements::default())
            || state.allocated.get(&pod.uid()) == Some(&wanted)
        {
            return;
        }
        state.allocated.insert(pod.uid(), wanted);
        self.save(&state);
    }

    /// Takes a pod over that an earlier run admitted. What it wants stands for what that run did not
    /// write down.
    pub(crate) fn adopt(&self, pod: &Pod) {
        if self.state.lock().allocated.contains_key(&pod.uid()) {
            return;
        }
        self.allocate(pod);
        let spec = PodExt::spec(pod);
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            self.actuate(pod, container);
        }
        self.actuate_whole(pod);
    }

    pub(crate) fn actuated(&self, uid: &PodUid) -> Resources {
        self.state.lock().actuated.get(uid).cloned().unwrap_or_default()
    }

    /// Copies what is kept to where it lies together; see [`crate::memory`].
    pub(crate) fn repack(&self) {
        let mut state = self.state.lock();
        state.allocated = state.allocated.clone();
        state.actuated = state.actuated.clone();
    }

    /// A container has been given what is promised to it.
    pub(crate) fn actuate(&self, pod: &Pod, container: &Container) {
        self.note(pod, &container.name, container.resources.clone().unwrap_or_default());
    }

    /// The pod's group has been given what is promised to the pod as a whole.
    pub(crate) fn actuate_whole(&self, pod: &Pod) {
        if let Some(whole) = &PodExt::spec(pod).resources {
            self.note(pod, WHOLE, whole.clone());
        }
    }

    fn note(&self, pod: &Pod, name: &str, given: ResourceRequirements) {
        let mut state = self.state.lock();
        if !state.allocated.contains_key(&pod.uid()) {
            return;
        }
        let known = state.actuated.entry(pod.uid()).or_default();
        if known.insert(name.to_owned(), given.clone()) != Some(given) {
            self.save(&state);
        }
    }

    pub(crate) fn forget(&self, uid: &PodUid) {
        let mut state = self.state.lock();
        let removed = (state.allocated.remove(uid), state.actuated.remove(uid));
        if removed != (None, None) {
            self.save(&state);
        }
    }

    /// Forgets pods that are gone.
    pub(crate) fn retain(&self, is_known: impl Fn(&PodUid) -> bool) {
        let gone: Vec<_> =
            self.state.lock().allocated.keys().filter(|it| !is_known(it)).cloned().collect();
        for uid in gone {
            self.forget(&uid);
        }
    }

    fn save(&self, state: &State) {
        if let Err(error) = write(&self.path, json!(state).to_string().as_bytes()) {
            warn!(path = %self.path.display(), %error, "the promised resources were not written");
        }
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(new, path)
}

fn of(pod: &Pod) -> Resources {
    let spec = PodExt::spec(pod);
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let own = all.map(|it| (it.name.clone(), it.resources.clone().unwrap_or_default()));
    own.chain(spec.resources.iter().map(|it| (WHOLE.to_owned(), it.clone()))).collect()
}

/// Gives a pod these resources in the place of its own.
pub(crate) fn put(pod: &mut Pod, resources: &Resources) {
    let Some(spec) = &mut pod.spec else { return };
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        if let Some(own) = resources.get(&container.name) {
            container.resources = Some(own.clone());
        }
    }
    if let Some(whole) = resources.get(WHOLE) {
        spec.resources = Some(whole.clone());
    }
}

/// Whether two versions of a pod want the same of CPU and memory.
pub(crate) fn wants_same(a: &Pod, b: &Pod) -> bool {
    let (a, b) = (of(a), of(b));
    a.keys().chain(b.keys()).all(|name| difference(a.get(name), b.get(name)).is_empty())
}

/// Which of CPU and memory differ.
pub(crate) fn difference(
    a: Option<&ResourceRequirements>,
    b: Option<&ResourceRequirements>,
) -> Vec<&'static str> {
    let amounts = |of: Option<&ResourceRequirements>, resource: &str| {
        let lists = of.map(|it| (it.requests.as_ref(), it.limits.as_ref()));
        let (requests, limits) = lists.unwrap_or_default();
        let amount = |list: Option<&BTreeMap<String, Quantity>>| {
            list.and_then(|it| it.get(resource)).and_then(quantity::milli)
        };
        (amount(requests), amount(limits))
    };
    ["cpu", "memory"].into_iter().filter(|it| amounts(a, it) != amounts(b, it)).collect()
}

/// What a guaranteed pod may not change where a manager has pinned it.
pub(crate) fn changes(a: &Pod, b: &Pod, resource: &str) -> bool {
    let (a, b) = (of(a), of(b));
    a.keys().chain(b.keys()).any(|it| difference(a.get(it), b.get(it)).contains(&resource))
}

/// What an event about a resize says: upstream's `podResizeMessage`.
pub(crate) fn message(title: &str, pod: &Pod, error: Option<&str>) -> String {
    let listed = |all: &[Container]| -> Vec<_> {
        all.iter()
            .map(|it| json!({ "name": it.name, "resources": it.resources.clone().unwrap_or_default() }))
            .collect()
    };
    let spec = PodExt::spec(pod);
    let mut parts = Vec::new();
    if let Some(init) = spec.init_containers.as_ref().filter(|it| !it.is_empty()) {
        parts.push(format!("\"initContainers\":{}", json!(listed(init))));
    }
    parts.push(format!("\"containers\":{}", json!(listed(&spec.containers))));
    parts.push(format!("\"generation\":{}", pod.metadata.generation.unwrap_or(0)));
    parts.extend(error.map(|it| format!("\"error\":{}", json!(it))));
    format!("{title}: {{{}}}", parts.join(","))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn pod(cpu: &str) -> Arc<Pod> {
        let requests = [("cpu".to_owned(), Quantity(cpu.to_owned()))].into();
        let resources = ResourceRequirements { requests: Some(requests), ..Default::default() };
        let container =
            Container { name: "c".to_owned(), resources: Some(resources), ..Container::default() };
        let metadata =
            ObjectMeta { uid: Some("u".to_owned()), generation: Some(2), ..ObjectMeta::default() };
        let spec = PodSpec { containers: vec![container], ..PodSpec::default() };
        Arc::new(Pod { metadata, spec: Some(spec), ..Pod::default() })
    }

    #[test]
    fn a_promise_outlives_the_process_and_stands_until_another_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let first = Allocations::load(folder.path());
        first.allocate(&pod("100m"));
        first.actuate(&pod("100m"), &pod("100m").spec.as_ref().unwrap().containers[0]);
        let second = Allocations::load(folder.path());
        let wanted = pod("200m");
        assert!(wants_same(&second.applied_to(&wanted), &pod("0.1")));
        assert!(!wants_same(&wanted, &pod("100m")));
        second.allocate(&wanted);
        assert!(wants_same(&second.applied_to(&wanted), &wanted));
        let actual = second.actuated(&PodUid("u".to_owned()));
        let container = &wanted.spec.as_ref().unwrap().containers[0];
        assert_eq!(difference(actual.get("c"), container.resources.as_ref()), ["cpu"]);
        second.retain(|_| false);
        assert!(Allocations::load(folder.path()).state.lock().allocated.is_empty());
    }

    #[test]
    fn an_event_tells_what_it_is_about() {
        assert_eq!(
            message("Pod resize started", &pod("1"), None),
            r#"Pod resize started: {"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}],"generation":2}"#
        );
        assert!(
            message("Pod resize error", &pod("1"), Some("why")).ends_with(r#","error":"why"}"#)
        );
    }
}
