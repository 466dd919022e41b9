//! Whether the node takes a pod now: not when it shuts down, and not everything when it is short of
//! something.
//!
//! Upstream: the `Admit` of `pkg/kubelet/eviction` and of `pkg/kubelet/nodeshutdown`, and the prefix of
//! `rejectPod`.

use k8s_openapi::api::core::v1::{Pod, Toleration};

use crate::{
    node::Pressure,
    pod::PodExt,
    qos::{self, QosClass},
    status::Verdict,
};

const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";

pub(crate) fn check(pod: &Pod, pressure: Pressure, is_shutting_down: bool) -> Result<(), Verdict> {
    let refused = |reason: &str, message: String| Err(Verdict::rejected(reason, message));
    if is_shutting_down {
        let message = "Pod was rejected as the node is shutting down.".to_owned();
        return refused("NodeShutdown", message);
    }
    let conditions = conditions(pressure);
    if conditions.is_empty() || pod.is_critical() {
        return Ok(());
    }
    let is_memory_only = conditions == ["MemoryPressure"];
    let may_run = qos::qos_class(pod) != QosClass::BestEffort || tolerates_memory_pressure(pod);
    if is_memory_only && may_run {
        return Ok(());
    }
    refused("Evicted", format!("The node had condition: [{}]. ", conditions.join(" ")))
}

fn conditions(pressure: Pressure) -> Vec<&'static str> {
    let all = [
        (pressure.memory, "MemoryPressure"),
        (pressure.disk, "DiskPressure"),
        (pressure.pids, "PIDPressure"),
    ];
    all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let spec = PodExt::spec(pod);
    spec.tolerations.iter().flatten().any(tolerates)
}

/// The taint has no value.
fn tolerates(toleration: &Toleration) -> bool {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let is_effect = effect.is_empty() || effect == "NoSchedule";
    match text(&toleration.operator).as_str() {
        "Exists" => is_effect && (key.is_empty() || key == MEMORY_TAINT),
        "" | "Equal" => is_effect && key == MEMORY_TAINT && text(&toleration.value).is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ask(spec: Value, pressure: Pressure, is_shutting_down: bool) -> Result<(), String> {
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
        check(&pod, pressure, is_shutting_down)
            .map_err(|it| format!("{}: {}", it.reason, it.message))
    }

    fn best_effort() -> Value {
        json!({ "containers": [{ "name": "c" }] })
    }

    fn burstable() -> Value {
        let resources = json!({ "requests": { "memory": "1Mi" } });
        json!({ "containers": [{ "name": "c", "resources": resources }] })
    }

    #[test]
    fn under_memory_pressure_only_best_effort_pods_that_do_not_tolerate_it_are_refused() {
        let memory = Pressure { memory: true, ..Pressure::default() };
        let refusal = "Evicted: Pod was rejected: The node had condition: [MemoryPressure]. ";
        assert_eq!(ask(best_effort(), memory, false), Err(refusal.to_owned()));
        assert_eq!(ask(burstable(), memory, false), Ok(()));
        let mut tolerant = best_effort();
        tolerant["tolerations"] = json!([{ "key": MEMORY_TAINT, "operator": "Exists" }]);
        assert_eq!(ask(tolerant.clone(), memory, false), Ok(()));
        let both = Pressure { disk: true, ..memory };
        assert!(ask(tolerant, both, false).unwrap_err().contains("[MemoryPressure DiskPressure]"));
        assert!(ask(burstable(), both, false).is_err());
    }

    #[test]
    fn critical_pods_are_taken_under_pressure_and_none_in_a_shutdown() {
        let disk = Pressure { disk: true, ..Pressure::default() };
        let mut critical = best_effort();
        critical["priority"] = json!(2_000_001_000);
        assert_eq!(ask(critical.clone(), disk, false), Ok(()));
        let refusal =
            "NodeShutdown: Pod was rejected: Pod was rejected as the node is shutting down.";
        assert_eq!(ask(critical, disk, true), Err(refusal.to_owned()));
        assert_eq!(ask(best_effort(), Pressure::default(), false), Ok(()));
        assert_eq!(
            ask(best_effort(), Pressure { filling: true, ..Pressure::default() }, false),
            Ok(()),
            "a disk that fills up refuses nobody"
        );
    }
}
