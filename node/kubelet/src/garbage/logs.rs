//! The log files of containers that are no more.
//!
//! The runtime leaves a container's log where it is when it removes the container. The newest log of a
//! name stays with its pod: it is numbered by the restarts, which are counted by it when nobody else
//! remembers them.
//!
//! Upstream: `removeContainerLog` in `pkg/kubelet/kuberuntime/kuberuntime_container.go`.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use api_cri::v1;

use crate::labels;

/// The runs that the runtime still holds, by pod and container.
pub(super) type Runs = HashMap<(String, String), HashSet<u32>>;

pub(super) fn runs(containers: &[v1::Container]) -> Runs {
    let mut runs = Runs::new();
    for it in containers {
        let label = |key: &str| it.labels.get(key).cloned().unwrap_or_default();
        let number =
            it.annotations.get(labels::RESTART_COUNT).and_then(|it| it.parse::<u32>().ok());
        let key = (label(labels::POD_UID), label(labels::CONTAINER_NAME));
        runs.entry(key).or_default().extend(number);
    }
    runs
}

/// Removes the logs of runs that are gone. Of a pod that is over nothing is kept for its next run.
/// Folders are named `NAMESPACE_NAME_UID/CONTAINER`.
pub(super) fn sweep(root: &Path, runs: &Runs, is_over: impl Fn(&str) -> bool) {
    let none = HashSet::new();
    for pod in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = pod.file_name().to_string_lossy().into_owned();
        let Some((_, uid)) = name.rsplit_once('_') else { continue };
        for container in fs::read_dir(pod.path()).into_iter().flatten().flatten() {
            let name = container.file_name().to_string_lossy().into_owned();
            let known = runs.get(&(uid.to_owned(), name)).unwrap_or(&none);
            let files = fs::read_dir(container.path()).into_iter().flatten().flatten();
            let files: Vec<_> = files.map(|it| it.file_name()).collect();
            let names: Vec<_> = files.iter().map(|it| it.to_string_lossy().into_owned()).collect();
            for stale in stale(&names, known, !is_over(uid)) {
                drop(fs::remove_file(container.path().join(stale)));
            }
        }
    }
}

fn number(name: &str) -> Option<u32> {
    name.split_once(".log")?.0.parse().ok()
}

fn stale<'a>(names: &'a [String], known: &HashSet<u32>, keeps_newest: bool) -> Vec<&'a str> {
    let newest = names.iter().filter_map(|it| number(it)).max().filter(|_| keeps_newest);
    let is_stale = |it: &&str| {
        number(it).is_some_and(|number| !known.contains(&number) && Some(number) != newest)
    };
    names.iter().map(String::as_str).filter(is_stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_go_with_their_runs_and_the_newest_stays_with_its_pod() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ns_p_u/c");
        fs::create_dir_all(&folder).unwrap();
        let files = ["1.log", "2.log", "2.log.20261123-100000.gz", "3.log", "4.log", "other"];
        for name in files {
            fs::write(folder.join(name), "").unwrap();
        }
        let left = || {
            let files = fs::read_dir(&folder).unwrap().flatten();
            let mut names: Vec<_> = files.map(|it| it.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let container = v1::Container {
            labels: [
                (labels::POD_UID.to_owned(), "u".to_owned()),
                (labels::CONTAINER_NAME.to_owned(), "c".to_owned()),
            ]
            .into(),
            annotations: [(labels::RESTART_COUNT.to_owned(), "3".to_owned())].into(),
            ..Default::default()
        };
        sweep(root.path(), &runs(&[container]), |_| false);
        // The fourth is being made.
        assert_eq!(left(), ["3.log", "4.log", "other"]);
        sweep(root.path(), &Runs::new(), |_| false);
        assert_eq!(left(), ["4.log", "other"]);
        sweep(root.path(), &Runs::new(), |uid| uid == "u");
        assert_eq!(left(), ["other"]);
    }
}
