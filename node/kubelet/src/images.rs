//! Images: pull policies, back-off, credentials, and one pull for many pods that wait for it.
//!
//! Upstream: `pkg/kubelet/images/image_manager.go`.
//!
//! **Invariant:** a pull that nobody waits for any more ends, and gives its permit back.
//!
//! Deviation: pods that want the same image with the same credentials share one pull; upstream pulls
//! for each of them. A pull beyond `registryPullQPS` and `registryBurst` waits for its turn; upstream
//! lets it fail (`pull QPS exceeded`), and the pod is held back. Where a pull fails and a credential
//! provider gave nothing because it failed, the pod's event and its container's message say why;
//! upstream's say what the registry answered, and the provider's failure is in the kubelet's log alone.

pub(crate) mod access;
pub(crate) mod credentials;
pub(crate) mod gc;
mod reference;

pub(crate) use self::reference::normalized;

use std::{collections::HashMap, sync::Arc, time::Duration};

use api_cri::v1;
use clock::Clock;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use self::{
    access::Access,
    credentials::{Candidate, Candidates, Credentials},
};
use crate::{
    backoff::Backoffs,
    cri::{CriError, Runtime},
    duration,
    events::Recorder,
    objects::Objects,
    pace::Pace,
    pod::{PodExt, PodUid},
    pod_starts::PodStarts,
    rate::Rate,
};

/// Why a container's image is not there: the reason and message of its `waiting` state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ImageError {
    pub reason: &'static str,
    pub message: String,
    /// When it is worth to try again.
    pub until: Option<jiff::Timestamp>,
}

/// How long a failed pull is shown as such before it is shown as held back.
const TOLD: Duration = Duration::from_secs(2);

/// The image's reference, and how long it took when its turn had come.
type Pull = Shared<BoxFuture<'static, Result<(String, Duration), CriError>>>;

/// The image, and whose credentials it is pulled with.
type PullKey = (String, String);

struct UnderWay {
    pull: Pull,
    waiters: usize,
}

/// One of those that wait for a pull. A waiter may go at any moment: its pod is deleted.
struct Waiter<'a> {
    images: &'a Images,
    key: PullKey,
    pull: Pull,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut under_way = self.images.under_way.lock();
        let Some(known) = under_way.get_mut(&self.key) else { return };
        if !known.pull.ptr_eq(&self.pull) {
            return;
        }
        known.waiters -= 1;
        // Who comes later begins another one.
        if known.waiters == 0 || self.pull.peek().is_some() {
            under_way.remove(&self.key);
        }
    }
}

pub(crate) struct Images {
    runtime: Runtime,
    recorder: Recorder,
    clock: Clock,
    pace: Pace,
    credentials: Arc<Credentials>,
    pub access: Access,
    starts: Arc<PodStarts>,
    permits: Arc<Semaphore>,
    rate: Arc<Rate>,
    under_way: Mutex<HashMap<PullKey, UnderWay>>,
    backoffs: Mutex<Backoffs<String>>,
    last_errors: Mutex<HashMap<String, (jiff::Timestamp, String)>>,
}

impl Images {
    pub(crate) fn new(
        runtime: Runtime,
        recorder: Recorder,
        clock: Clock,
        (credentials, access): (Credentials, Access),
        starts: Arc<PodStarts>,
        (parallel, rate): (usize, Rate),
    ) -> Self {
        Self {
            runtime,
            recorder,
            clock,
            pace: Pace::new(clock),
            credentials: Arc::new(credentials),
            access,
            starts,
            permits: Arc::new(Semaphore::new(parallel)),
            rate: Arc::new(rate),
            under_way: Mutex::default(),
            backoffs: Mutex::default(),
            last_errors: Mutex::default(),
        }
    }

    /// Sees to it that a container's image is there.
    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        objects: &Objects,
    ) -> Result<v1::Image, ImageError> {
        let failed = |reason, message: String| {
            let event = "InspectFailed";
            self.recorder.container_warning(pod, &container.name, event, message.clone());
            ImageError { reason, message, until: None }
        };
        let given = container.image.as_deref().unwrap_or_default();
        let name = normalized(given).map_err(|error| {
            let message = format!("Failed to apply default image tag \"{given}\": {error}");
            failed("InvalidImageName", message)
        })?;
        let present = self.runtime.image_status(&name).await.map_err(|error| {
            failed("ImageInspectError", format!("Failed to inspect image \"{name}\": {error}"))
        })?;
        let policy = policy(container, &name);
        let is_granted = match &present {
            Some(image) if policy != "Always" => self.is_granted(pod, &name, image, objects).await,
            _ => true,
        };
        match (present, policy) {
            (Some(_), "Never") if !is_granted => {
                let message = format!(
                    "Container image \"{name}\" is present with pull policy of Never but does not have the proper credentials to access the image"
                );
                let event = "ErrImageNeverPull";
                self.recorder.container_warning(pod, &container.name, event, message.clone());
                Err(ImageError { reason: "ErrImageNeverPull", message, until: None })
            }
            (Some(image), "IfNotPresent" | "Never") if is_granted => {
                let message = format!(
                    "Container image \"{name}\" already present on machine and can be accessed by the pod"
                );
                self.recorder.container_normal(pod, &container.name, "Pulled", message);
                Ok(image)
            }
            (None, "Never") => {
                let message =
                    format!("Container image \"{name}\" is not present with pull policy of Never");
                let event = "ErrImageNeverPull";
                self.recorder.container_warning(pod, &container.name, event, message.clone());
                Err(ImageError { reason: "ErrImageNeverPull", message, until: None })
            }
            _ => self.pull(pod, container, &name, objects).await,
        }
    }

    async fn is_granted(
        &self,
        pod: &Pod,
        name: &str,
        image: &v1::Image,
        objects: &Objects,
    ) -> bool {
        if self.access.is_open(name, &image.id) {
            return true;
        }
        let credentials = self.candidates(pod, name, objects).await;
        self.access.is_granted(name, &image.id, &credentials.all)
    }

    async fn candidates(&self, pod: &Pod, name: &str, objects: &Objects) -> Candidates {
        let found = self.credentials.candidates(pod, name, objects).await;
        if !found.missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                found.missing.join(", ")
            );
            self.recorder.warning(pod, "FailedToRetrieveImagePullSecret", message);
        }
        found
    }

    async fn pull(
        &self,
        pod: &Pod,
        container: &Container,
        name: &str,
        objects: &Objects,
    ) -> Result<v1::Image, ImageError> {
        let key = format!("{}_{name}", pod.uid());
        self.check_backoff(pod, container, name, &key)?;
        let (waiting_since, since) = (Instant::now(), self.clock.now());
        let message = format!("Pulling image \"{name}\"");
        self.recorder.container_normal(pod, &container.name, "Pulling", message);
        let Candidates { all, failures, .. } = self.candidates(pod, name, objects).await;
        self.access.begin(name);
        let pulled = self.pull_with_any(name, all).await;
        self.starts.pulled(&pod.uid(), since);
        match pulled {
            Ok((reference, took, with)) => {
                self.access.note(&reference, with.as_ref());
                self.access.end(name);
                self.backoffs.lock().forget(&key);
                self.last_errors.lock().remove(&key);
                let image = self.runtime.image_status(&reference).await.ok().flatten();
                let image =
                    image.unwrap_or_else(|| v1::Image { id: reference, ..Default::default() });
                let size = [("image_size_in_bytes", size_label(image.size))];
                let name_of_time = "kubelet_image_pull_duration_seconds";
                self.runtime.metrics().observe(name_of_time, &size, took);
                let message = format!(
                    "Successfully pulled image \"{name}\" in {} ({} including waiting). Image size: {} bytes.",
                    duration::format(millis(took)),
                    duration::format(millis(waiting_since.elapsed())),
                    image.size
                );
                self.recorder.container_normal(pod, &container.name, "Pulled", message);
                Ok(image)
            }
            Err(error) => {
                self.access.end(name);
                let text = with_failures(error.to_string(), &failures);
                let message = format!("Failed to pull image \"{name}\": {text}");
                self.recorder.container_warning(pod, &container.name, "Failed", message.clone());
                let now = self.pace.now();
                self.backoffs.lock().note(key.clone(), now, now);
                self.last_errors.lock().insert(key, (now, text.clone()));
                let until = Some(self.clock.now() + TOLD);
                Err(ImageError { reason: "ErrImagePull", message: text, until })
            }
        }
    }

    /// A pod is gone: how its pulls went is of no more use.
    pub(crate) fn forget(&self, uid: &PodUid) {
        self.credentials.forget(uid);
        let is_others = |key: &String| !key.starts_with(&format!("{uid}_"));
        self.backoffs.lock().retain(is_others);
        self.last_errors.lock().retain(|key, _| is_others(key));
    }

    fn check_backoff(
        &self,
        pod: &Pod,
        container: &Container,
        name: &str,
        key: &str,
    ) -> Result<(), ImageError> {
        let Some((failed, text)) = self.last_errors.lock().get(key).cloned() else {
            return Ok(());
        };
        let held = self.backoffs.lock().held(&key.to_owned(), failed, self.pace.now());
        let Some((_, until)) = held else { return Ok(()) };
        let message = format!("Back-off pulling image \"{name}\"");
        self.recorder.container_normal(pod, &container.name, "BackOff", message.clone());
        Err(ImageError {
            reason: "ImagePullBackOff",
            message: format!("{message}: ErrImagePull: {text}"),
            until: Some(self.pace.date_of(until)),
        })
    }

    /// Tries the credentials one after the other, and says how long the good pull took.
    async fn pull_with_any(
        &self,
        name: &str,
        candidates: Vec<Candidate>,
    ) -> Result<(String, Duration, Option<Candidate>), CriError> {
        let tries: Vec<_> = if candidates.is_empty() {
            vec![None]
        } else {
            candidates.into_iter().map(Some).collect()
        };
        let mut last = None;
        for with in tries {
            let auth = with.as_ref().map(|it| it.auth.clone());
            match self.shared_pull(name, auth).await {
                Ok((reference, took)) => return Ok((reference, took, with)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| CriError {
            call: "PullImage",
            code: tonic::Code::Unknown,
            message: "nothing was tried".to_owned(),
        }))
    }

    async fn shared_pull(
        &self,
        name: &str,
        auth: Option<v1::AuthConfig>,
    ) -> Result<(String, Duration), CriError> {
        let waiter = self.wait_for(name, auth);
        waiter.pull.clone().await
    }

    /// Joins the pull that is under way, or begins one.
    fn wait_for(&self, name: &str, auth: Option<v1::AuthConfig>) -> Waiter<'_> {
        let identity = auth.as_ref().map(|it| format!("{}:{}", it.username, it.password));
        let key = (name.to_owned(), identity.unwrap_or_default());
        let begin = || {
            let (runtime, name) = (self.runtime.clone(), name.to_owned());
            let (permits, rate) = (self.permits.clone(), self.rate.clone());
            let pull = async move {
                let _permit = permits.acquire_owned().await;
                rate.turn().await;
                let started = Instant::now();
                let reference = runtime.pull_image(&name, auth, None).await?;
                Ok((reference, started.elapsed()))
            };
            UnderWay { pull: pull.boxed().shared(), waiters: 0 }
        };
        let mut under_way = self.under_way.lock();
        let known = under_way.entry(key.clone()).or_insert_with(begin);
        known.waiters += 1;
        let pull = known.pull.clone();
        Waiter { images: self, key, pull }
    }
}

/// How much of a plugin's own words is shown to whoever reads events.
const TOLD_OF_PLUGIN: usize = 1024;

/// Why a pull failed, and why it was tried without credentials that a plugin was to give.
fn with_failures(mut text: String, failures: &[String]) -> String {
    for failure in failures {
        // In one line, as kubectl shows events.
        let words: Vec<&str> = failure.split_whitespace().collect();
        let shown: String = words.join(" ").chars().take(TOLD_OF_PLUGIN).collect();
        text += &format!("; {shown}");
    }
    text
}

/// How large an image is, roughly, as the metrics have it.
fn size_label(bytes: u64) -> &'static str {
    const FROM: [(u64, &str); 12] = [
        (100 << 30, "GT100GB"),
        (60 << 30, "60GB-100GB"),
        (40 << 30, "40GB-60GB"),
        (30 << 30, "30GB-40GB"),
        (20 << 30, "20GB-30GB"),
        (10 << 30, "10GB-20GB"),
        (5 << 30, "5GB-10GB"),
        (1 << 30, "1GB-5GB"),
        (500 << 20, "500MB-1GB"),
        (100 << 20, "100MB-500MB"),
        (10 << 20, "10MB-100MB"),
        (0, "0-10MB"),
    ];
    FROM.iter().find(|it| bytes > it.0).map_or("N/A", |it| it.1)
}

fn millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// `Always` for `:latest` and for no tag, as the API server defaults it.
fn policy<'a>(container: &'a Container, name: &str) -> &'a str {
    match container.image_pull_policy.as_deref().filter(|it| !it.is_empty()) {
        Some(policy) => policy,
        None if name.ends_with(":latest") && !name.contains('@') => "Always",
        None => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_latest_and_is_pulled_always() {
        const DIGEST: &str = "nginx@sha256:00000000000000000000000000000000";
        let container = Container::default();
        for (name, full, expected) in [
            ("nginx", "nginx:latest", "Always"),
            ("host:5000/nginx", "host:5000/nginx:latest", "Always"),
            ("host:5000/nginx:1", "host:5000/nginx:1", "IfNotPresent"),
            (DIGEST, DIGEST, "IfNotPresent"),
        ] {
            let normal = normalized(name).unwrap();
            assert_eq!(normal, full);
            assert_eq!(policy(&container, &normal), expected, "{name}");
        }
    }
}
