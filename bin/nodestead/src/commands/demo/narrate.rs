//! What the demo tells at its end: where the pods run, what the page says, how to go on.

use comfy_table::{Table, presets::NOTHING};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;

use crate::layout::Layout;

pub(crate) fn story(pods: &[Pod], message: &str, layout: &Layout) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["POD", "NODE", "VPC ADDRESS", "SCHEDULED→READY"]);
    for pod in pods {
        table.add_row(row(pod));
    }
    format!(
        "\nEvery pod has an address of its node's subnet:\n\n{}\n\nThe guestbook says: {message}\n\nGo on with:\n  \
         eval \"$(nodestead env --data-dir {})\"\n  \
         kubectl get nodes -o wide\n  \
         kubectl get pods -o wide\n  \
         aws ec2 describe-network-interfaces\n  \
         kubectl get --raw {}\n",
        table.trim_fmt(),
        layout.root().display(),
        super::MESSAGES,
    )
}

fn row(pod: &Pod) -> [String; 4] {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let or_dash = |value: Option<&String>| value.cloned().unwrap_or_else(|| "-".to_owned());
    [
        pod.name_any(),
        or_dash(spec.and_then(|it| it.node_name.as_ref())),
        or_dash(status.and_then(|it| it.pod_ip.as_ref())),
        seconds_to_ready(pod).map_or_else(|| "-".to_owned(), |it| format!("{it} s")),
    ]
}

/// Kubernetes keeps these times in whole seconds.
fn seconds_to_ready(pod: &Pod) -> Option<i64> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = since(conditions, "PodScheduled")?;
    let ready = since(conditions, "Ready")?;
    Some(ready.as_second() - scheduled.as_second())
}

fn since(conditions: &[PodCondition], kind: &str) -> Option<Timestamp> {
    let condition = conditions.iter().find(|it| it.type_ == kind && it.status == "True")?;
    condition.last_transition_time.as_ref().map(|it| it.0)
}
