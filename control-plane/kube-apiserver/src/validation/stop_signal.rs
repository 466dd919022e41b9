//! `lifecycle.stopSignal` of containers: a signal of the operating system that the pod names.
//!
//! Upstream: `validateStopSignal` in pkg/apis/core/validation. Deviation: the field is kept also where
//! upstream's gate `ContainerStopSignals`, off in 1.36, drops it: the kubelet has the gate.

use serde_json::Value;

use super::{Faults, items, text};
use crate::status::FieldError;

const WINDOWS: [&str; 2] = ["SIGKILL", "SIGTERM"];
/// Without the real-time signals, which come between `SIGQUIT` and `SIGSEGV`.
const NAMED: [&str; 34] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

pub(super) fn check(faults: &mut Faults, at: &str, spec: &Value) {
    let os = text(&spec["os"], "name");
    for list in ["containers", "initContainers"] {
        for (index, container) in items(spec, list) {
            let Some(signal) = container["lifecycle"]["stopSignal"].as_str() else { continue };
            let field = format!("{at}.{list}[{index}].lifecycle.stopSignal");
            match os {
                "" => {
                    let why = "may not be set for containers with empty `spec.os.name`";
                    faults.add(FieldError::forbidden(field, why));
                }
                "windows" if !WINDOWS.contains(&signal) => {
                    faults.add(FieldError::not_supported(field, signal, &WINDOWS));
                }
                "linux" => {
                    let known = linux();
                    if !known.iter().any(|it| it == signal) {
                        let known: Vec<_> = known.iter().map(String::as_str).collect();
                        faults.add(FieldError::not_supported(field, signal, &known));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Sorted, as upstream lists them.
fn linux() -> Vec<String> {
    let mut all: Vec<String> = NAMED.iter().map(|it| (*it).to_owned()).collect();
    all.extend(["SIGRTMIN".to_owned(), "SIGRTMAX".to_owned()]);
    all.extend((1..=15).map(|it| format!("SIGRTMIN+{it}")));
    all.extend((1..=14).map(|it| format!("SIGRTMAX-{it}")));
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_signal_is_one_of_the_named_system() {
        let faults = |os: &str, signal: &str| {
            let container = json!({ "lifecycle": { "stopSignal": signal } });
            let mut spec = json!({ "containers": [container] });
            if !os.is_empty() {
                spec["os"] = json!({ "name": os });
            }
            let mut faults = Faults::default();
            check(&mut faults, "spec", &spec);
            faults.found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(faults("linux", "SIGUSR1").is_empty());
        assert!(faults("linux", "SIGRTMIN+15").is_empty());
        assert!(faults("windows", "SIGTERM").is_empty());
        let unknown = faults("linux", "SIGNONE").remove(0);
        assert!(unknown.contains("Unsupported value: \"SIGNONE\""), "{unknown}");
        assert!(!faults("windows", "SIGUSR1").is_empty());
        assert_eq!(
            faults("", "SIGTERM"),
            [
                "spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"
            ]
        );
    }
}
