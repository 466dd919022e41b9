//! What a failed pod means for its Job: counted, ignored, the end of its index or of the Job.
//!
//! Upstream: `pod_failure_policy.go`.

use controller::object;
use k8s_openapi::api::{
    batch::v1::{
        Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
        PodFailurePolicyRule,
    },
    core::v1::{ContainerStatus, Pod, PodCondition},
};

use crate::pods;

/// What the first rule that matches says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No rule matches, or one that says so.
    Count,
    Ignore,
    FailIndex,
    /// With the Job's message.
    FailJob(String),
}

/// Whether a pod is only replaced (and counted) when it has really ended.
pub(super) fn waits_for_the_end(job: &Job) -> bool {
    let Some(spec) = &job.spec else { return false };
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// Whether a pod counts as failed: it has ended so, or it goes before it could end.
pub(super) fn has_failed(job: &Job, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => object::is_terminating(pod) && !waits_for_the_end(job),
    }
}

pub(super) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|it| it.pod_failure_policy.as_ref());
    for (index, rule) in policy.into_iter().flat_map(|it| it.rules.iter().enumerate()) {
        let Some(what) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// What of the pod a rule matches, in upstream's words.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let meta = &pod.metadata;
    let name = format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    );
    if let Some(wanted) = &rule.on_exit_codes {
        let (container, code) = exit_code(wanted, pod)?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let condition = patterns.into_iter().find_map(|it| condition(it, pod))?;
    Some(format!("Pod {name} has condition {}", condition.type_))
}

fn exit_code<'a>(
    wanted: &PodFailurePolicyOnExitCodesRequirement,
    pod: &'a Pod,
) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses);
    let is_named =
        |it: &&ContainerStatus| wanted.container_name.as_ref().is_none_or(|name| *name == it.name);
    let codes = statuses.flatten().filter(is_named).filter_map(|it| {
        Some((it.name.as_str(), it.state.as_ref()?.terminated.as_ref()?.exit_code))
    });
    let mut failures = codes.filter(|(_, code)| *code != 0);
    failures.find(|(_, code)| match wanted.operator.as_str() {
        "In" => wanted.values.contains(code),
        "NotIn" => !wanted.values.contains(code),
        _ => false,
    })
}

fn condition<'a>(
    pattern: &PodFailurePolicyOnPodConditionsPattern,
    pod: &'a Pod,
) -> Option<&'a PodCondition> {
    // Upstream's default.
    let status = pattern.status.as_deref().unwrap_or("True");
    pods::condition(pod, &pattern.type_).filter(|it| it.status == status)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(rules: Value) -> Job {
        serde_json::from_value(json!({ "spec": { "template": {},
            "podFailurePolicy": { "rules": rules } } }))
        .unwrap()
    }

    fn pod(code: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "p" },
            "status": { "phase": "Failed",
                "conditions": [{ "type": "DisruptionTarget", "status": "True" }],
                "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": { "terminated": { "exitCode": code } } }] },
        }))
        .unwrap()
    }

    fn on_codes(operator: &str, values: &[i32], container: Option<&str>) -> Value {
        json!({ "operator": operator, "values": values, "containerName": container })
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let disrupted = json!([{ "type": "DisruptionTarget", "status": "True" }]);
        let fail = |index: usize| {
            Verdict::FailJob(format!(
                "Container c for pod n/p failed with exit code 42 matching FailJob rule at index {index}"
            ))
        };
        for (what, rules, expected) in [
            ("none", json!([]), Verdict::Count),
            (
                "a code",
                json!([{ "action": "FailJob", "onExitCodes": on_codes("In", &[42], None) }]),
                fail(0),
            ),
            (
                "another container's",
                json!([{ "action": "FailJob", "onExitCodes": on_codes("In", &[42], Some("x")) }]),
                Verdict::Count,
            ),
            (
                "none of these",
                json!([{ "action": "FailIndex", "onExitCodes": on_codes("NotIn", &[1, 2], Some("c")) }]),
                Verdict::FailIndex,
            ),
            (
                "a condition first",
                json!([{ "action": "Ignore", "onPodConditions": disrupted },
                    { "action": "FailJob", "onExitCodes": on_codes("In", &[42], None) }]),
                Verdict::Ignore,
            ),
            (
                "counting comes before failing",
                json!([{ "action": "Count", "onExitCodes": on_codes("In", &[42], None) },
                    { "action": "FailJob", "onPodConditions": disrupted }]),
                Verdict::Count,
            ),
            (
                "a condition that fails the Job",
                json!([{ "action": "FailJob", "onPodConditions": disrupted }]),
                Verdict::FailJob(
                    "Pod n/p has condition DisruptionTarget matching FailJob rule at index 0"
                        .into(),
                ),
            ),
        ] {
            assert_eq!(judge(&job(rules), &pod(42)), expected, "{what}");
        }
        let anything =
            job(json!([{ "action": "FailJob", "onExitCodes": on_codes("NotIn", &[1], None) }]));
        assert_eq!(judge(&anything, &pod(0)), Verdict::Count, "success is no failure");
    }

    #[test]
    fn a_pod_on_its_way_out_has_failed_unless_its_end_is_waited_for() {
        let mut leaving = pod(1);
        leaving.metadata.deletion_timestamp = Some(object::time(jiff::Timestamp::UNIX_EPOCH));
        leaving.status.as_mut().unwrap().phase = Some("Running".into());
        let with = |spec: Value| serde_json::from_value::<Job>(json!({ "spec": spec })).unwrap();
        let default = json!({ "template": {}, "podReplacementPolicy": "TerminatingOrFailed" });
        assert!(has_failed(&with(default), &leaving));
        let waiting = json!({ "template": {}, "podReplacementPolicy": "Failed" });
        assert!(!has_failed(&with(waiting.clone()), &leaving));
        leaving.status.as_mut().unwrap().phase = Some("Failed".into());
        assert!(has_failed(&with(waiting), &leaving));
    }
}
