//! Upstream's components in the place of ours, where their binaries are given, and ours on another API
//! server, where its kubeconfig is.
//!
//! `NODESTEAD_SWAP_BIN` is a folder with `kube-scheduler`, `kube-controller-manager` and `kube-proxy`, or
//! some of them; `NODESTEAD_SWAP_KUBECONFIG` an administrator's kubeconfig. What is not given is not run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod bed;
mod binaries;
mod foreign;
mod imitated_kubelet;
mod proxy;
mod story;

use std::{env, path::PathBuf};

use self::{
    bed::{Bed, Control},
    story::roll_out,
};

/// Where upstream's binary of this name is; `None` says that the test is not run.
pub(crate) fn binary(name: &str) -> Option<PathBuf> {
    let folder = env::var_os("NODESTEAD_SWAP_BIN").filter(|it| !it.is_empty());
    let Some(folder) = folder else {
        println!("not run: NODESTEAD_SWAP_BIN names no folder with {name}");
        return None;
    };
    // They are started in a folder of the test.
    let path = std::path::absolute(PathBuf::from(folder).join(name)).ok()?;
    if !path.is_file() {
        println!("not run: there is no {}", path.display());
        return None;
    }
    Some(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_scheduler_and_controllers_do_what_ours_do() {
    let (Some(scheduler), Some(controllers)) =
        (binary("kube-scheduler"), binary("kube-controller-manager"))
    else {
        return;
    };
    let bed = Bed::start().await;
    bed.run_scheduler(Control::Upstream(scheduler));
    bed.run_controllers(Control::Upstream(controllers));
    roll_out(&bed).await;
    bed.is_led("kube-scheduler").await;
    bed.is_led("kube-controller-manager").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_scheduler_works_beside_our_controllers() {
    let Some(scheduler) = binary("kube-scheduler") else { return };
    let bed = Bed::start().await;
    bed.run_scheduler(Control::Upstream(scheduler));
    bed.run_controllers(Control::Ours);
    roll_out(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_controllers_work_beside_our_scheduler() {
    let Some(controllers) = binary("kube-controller-manager") else { return };
    let bed = Bed::start().await;
    bed.run_scheduler(Control::Ours);
    bed.run_controllers(Control::Upstream(controllers));
    roll_out(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_tell_the_same_story() {
    let bed = Bed::start().await;
    bed.run_scheduler(Control::Ours);
    bed.run_controllers(Control::Ours);
    roll_out(&bed).await;
}
