//! Branches that are being made for a pod.
//!
//! **Invariant:** whoever drops a [`Making`] gives back what was taken for it. A pass can be cut off at
//! any `await`; what EC2 has made by then is found by asking it.
//!
//! Upstream: `pkg/provider/branch/trunk`, whose calls run to their end.

use std::time::Duration;

use api_kube::vpc_resources::PodEni;
use controller::object;
use k8s_openapi::api::core::v1::Pod;

use crate::{Context, cloud::CloudError, trunk::Trunk};

/// How long EC2 may still be busy with a call that nobody waits for.
const DOUBT: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Making<'a> {
    context: &'a Context,
    trunk: &'a Trunk,
    pod: &'a Pod,
    uid: String,
    made: Vec<PodEni>,
    is_over: bool,
}

impl<'a> Making<'a> {
    /// VLAN ids were reserved for the pod.
    pub(crate) fn new(context: &'a Context, trunk: &'a Trunk, pod: &'a Pod) -> Self {
        let (uid, made) = (object::uid(pod), Vec::new());
        Self { context, trunk, pod, uid, made, is_over: false }
    }

    /// What was made so far.
    pub(crate) fn made(&mut self) -> &mut Vec<PodEni> {
        &mut self.made
    }

    /// The pod has them.
    pub(crate) fn settle(mut self) -> Vec<PodEni> {
        self.is_over = true;
        let made = std::mem::take(&mut self.made);
        self.trunk.ledger.lock().settle(&self.uid, made.clone());
        made
    }

    /// EC2 has refused the last call, or has not answered it.
    pub(crate) fn fail(mut self, error: &CloudError) {
        if error.code().is_some() {
            self.is_over = true;
            let (made, now) = (std::mem::take(&mut self.made), self.context.clock.now());
            self.trunk.ledger.lock().abandon(&self.uid, made, now);
            self.context.wake_node(self.pod);
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let (made, due) = (std::mem::take(&mut self.made), self.context.clock.now() + DOUBT);
            self.trunk.ledger.lock().doubt(&self.uid, made, due);
            self.context.wake_node(self.pod);
        }
    }
}
