//! Pods: the one kind whose row says what is going on inside.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Printer, narrow,
    text::{NONE, age, items, name, number, since, text, text_or},
    wide,
};

const PODS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Ready"),
        narrow("Status"),
        narrow("Restarts"),
        narrow("Age"),
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells,
};

pub(super) fn printer(group: &str, plural: &str) -> Option<&'static Printer> {
    (group.is_empty() && plural == "pods").then_some(&PODS)
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match (summary.restarts, &summary.last_restart) {
        (0, _) | (_, None) => summary.restarts.to_string(),
        (count, Some(at)) => {
            format!("{count} ({} ago)", since(at, now).as_str().unwrap_or_default())
        }
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        text_or(pod, "/status/podIP", NONE),
        text_or(pod, "/spec/nodeName", NONE),
        text_or(pod, "/status/nominatedNodeName", NONE),
        gates(pod),
    ]
}

fn gates(pod: &Value) -> Value {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let is_true = |gate: &&Value| {
        items(pod, "/status/conditions")
            .iter()
            .any(|it| it["type"] == gate["conditionType"] && it["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len()).into()
}

/// Finished pods are marked, so that `kubectl` can tell them apart.
pub(super) fn row_condition(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({ "type": "Completed", "status": "True", "reason": reason, "message": message }))
}

/// What the containers' states add up to.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<String>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let mut summary = Self {
            reason: text(pod, "/status/phase").into(),
            total: items(pod, "/spec/containers").len(),
            ..Self::default()
        };
        let reason = text(pod, "/status/reason");
        if !reason.is_empty() {
            summary.reason = reason.into();
        }
        let is_gated = items(pod, "/status/conditions")
            .iter()
            .any(|it| it["type"] == "PodScheduled" && it["reason"] == "SchedulingGated");
        if is_gated {
            summary.reason = "SchedulingGated".into();
        }
        let sidecars = summary.count_sidecars(pod);
        let is_initializing = summary.init_containers(pod);
        if !is_initializing || has_condition(pod, "Initialized") {
            summary.restarts = sidecars;
            summary.containers(pod);
        }
        let phase = text(pod, "/status/phase");
        if !text(pod, "/metadata/deletionTimestamp").is_empty() {
            if reason == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    /// Init containers that keep running count as containers. Returns their restarts.
    fn count_sidecars(&mut self, pod: &Value) -> i64 {
        let is_sidecar = |it: &&Value| it["restartPolicy"] == "Always";
        let sidecars: Vec<&Value> =
            items(pod, "/spec/initContainers").iter().filter(is_sidecar).collect();
        self.total += sidecars.len();
        items(pod, "/status/initContainerStatuses")
            .iter()
            .filter(|status| sidecars.iter().any(|it| it["name"] == status["name"]))
            .map(|it| number(it, "/restartCount"))
            .sum()
    }

    /// Whether an init container is still at work, and what it does.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let specs = items(pod, "/spec/initContainers");
        let mut waiting = None;
        for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
            self.restarts += number(status, "/restartCount");
            self.note_restart(status);
            let is_sidecar = specs
                .iter()
                .any(|it| it["name"] == status["name"] && it["restartPolicy"] == "Always");
            let terminated = &status["state"]["terminated"];
            if terminated.is_object() && number(terminated, "/exitCode") == 0 {
                continue;
            }
            if is_sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            let waits = text(status, "/state/waiting/reason");
            waiting = Some(if terminated.is_object() {
                format!("Init:{}", ended(terminated))
            } else if !waits.is_empty() && waits != "PodInitializing" {
                format!("Init:{waits}")
            } else {
                format!("Init:{index}/{}", specs.len())
            });
            break;
        }
        match waiting {
            Some(reason) => {
                self.reason = reason;
                true
            }
            None => false,
        }
    }

    fn containers(&mut self, pod: &Value) {
        let mut has_running = false;
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.restarts += number(status, "/restartCount");
            self.note_restart(status);
            let waits = text(status, "/state/waiting/reason");
            let terminated = &status["state"]["terminated"];
            if !waits.is_empty() {
                self.reason = waits.into();
            } else if terminated.is_object() {
                self.reason = ended(terminated);
            } else if status["ready"] == true && status["state"]["running"].is_object() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            let is_ready = has_condition(pod, "Ready");
            self.reason = if is_ready { "Running" } else { "NotReady" }.into();
        }
    }

    fn note_restart(&mut self, status: &Value) {
        let at = text(status, "/lastState/terminated/finishedAt");
        if self.last_restart.as_deref().unwrap_or_default() < at {
            self.last_restart = Some(at.to_owned());
        }
    }
}

/// Why a container ended: its reason, or its signal or exit code.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    match (reason, number(terminated, "/signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    let conditions = items(pod, "/status/conditions");
    conditions.iter().any(|it| it["type"] == kind && it["status"] == "True")
}
