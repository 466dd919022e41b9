//! A volume of many files that is given to a pod's group: it takes as long as it takes, and the pod's owner
//! is told meanwhile.
//!
//! Upstream: `AddProgressNotifier` of `pkg/volume/volume_linux.go`.

use std::{
    any::Any,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;

use super::ownership::Group;
use crate::{events::Recorder, pod::PodExt};

const REASON: &str = "VolumePermissionChangeInProgress";
/// Until the first word, and between the others.
const FIRST: Duration = Duration::from_secs(30);
const OTHERS: Duration = Duration::from_secs(60);

/// Gives `path` to the group; what `held` stands for is so until that is done, whoever waits for it.
pub(super) async fn apply(
    group: Group,
    path: &Path,
    shown_at: &Path,
    (pod, recorder): (&Pod, &Recorder),
    held: impl Any + Send,
) -> io::Result<()> {
    let done = Arc::new(AtomicU64::new(0));
    let (counted, path) = (done.clone(), path.to_owned());
    let work = tokio::task::spawn_blocking(move || {
        let _held = held;
        group.apply(&path, &counted)
    });
    let name = name(pod, shown_at);
    let tell = |text: String| recorder.warning(pod, REASON, text);
    told(work, &name, || done.load(Ordering::Relaxed), tell).await
}

/// From the pod on: nobody else has to know where the kubelet's folder is.
fn name(pod: &Pod, path: &Path) -> String {
    let uid = pod.uid().0;
    let parts = path.iter().skip_while(|it| **it != *uid);
    parts.collect::<std::path::PathBuf>().display().to_string()
}

async fn told(
    work: impl Future<Output = Result<io::Result<()>, tokio::task::JoinError>>,
    name: &str,
    done: impl Fn() -> u64,
    tell: impl Fn(String),
) -> io::Result<()> {
    let mut work = std::pin::pin!(work);
    let mut wait = FIRST;
    loop {
        if let Ok(ended) = tokio::time::timeout(wait, &mut work).await {
            return ended.unwrap_or_else(|error| Err(io::Error::other(error)));
        }
        if std::mem::replace(&mut wait, OTHERS) == FIRST {
            tell(format!(
                "Setting volume ownership for {name} is taking longer than expected, consider using OnRootMismatch - https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods"
            ));
        } else {
            tell(format!("Setting volume ownership for {name}, processed {} files.", done()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    async fn told_of(seconds: u64) -> Vec<String> {
        let all = RefCell::new(Vec::new());
        let work = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(Ok(()))
        };
        told(work, "uid/volumes/v", || 7, |it| all.borrow_mut().push(it)).await.unwrap();
        all.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_many_files_is_told_and_who_does_not_is_not() {
        assert!(told_of(29).await.is_empty());
        let all = told_of(200).await;
        assert_eq!(all.len(), 3, "after 30, 90 and 150 s: {all:?}");
        let first = "Setting volume ownership for uid/volumes/v is taking longer than expected, ";
        assert!(all[0].starts_with(first), "{}", all[0]);
        assert_eq!(all[2], "Setting volume ownership for uid/volumes/v, processed 7 files.");
    }

    #[test]
    fn a_volume_is_named_from_its_pod_on() {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("u-1".to_owned());
        let path = Path::new("/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~csi/pv/mount");
        assert_eq!(name(&pod, path), "u-1/volumes/kubernetes.io~csi/pv/mount");
    }
}
