//! What Karpenter has told of objects.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use super::World;

impl World {
    /// The messages of the events with a reason about an object, as `Kind/name`.
    pub(crate) async fn told(&self, about: &str, reason: &str) -> Vec<String> {
        let events = Api::<Event>::all(self.admin.clone());
        let all = events.list(&ListParams::default()).await.expect("they can be listed").items;
        let is_it = |it: &Event| {
            let object = &it.involved_object;
            let name = object.name.as_deref().unwrap_or_default();
            let is_about =
                object.kind.as_deref().unwrap_or_default().to_owned() + "/" + name == about;
            is_about && it.reason.as_deref().unwrap_or_default() == reason
        };
        all.into_iter().filter(is_it).filter_map(|it| it.message).collect()
    }

    /// Waits until an event says exactly that.
    pub(crate) async fn until_told(&self, about: &str, reason: &str, message: &str) {
        self.until(&format!("{reason} of {about}: {message}"), || async {
            self.told(about, reason).await.iter().any(|it| it == message).then_some(())
        })
        .await;
    }
}
