//! The pod of a Job, and which index it works on.
//!
//! Upstream: `indexed_job_utils.go`, `tracking_utils.go`.

use controller::object;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};

use super::{indexes, plan::Slot};
use crate::pods;

/// Holds an ended pod until it is counted.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

pub(super) fn is_indexed(job: &Job) -> bool {
    let mode = job.spec.as_ref().and_then(|it| it.completion_mode.as_deref());
    mode == Some("Indexed")
}

pub(super) fn index(pod: &Pod) -> Option<i32> {
    object::annotation(pod, INDEX)?.parse().ok()
}

pub(super) fn is_held(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|it| it == FINALIZER)
}

/// A new pod, for an index where the Job has such.
pub(super) fn new(job: &Job, slot: Slot) -> Pod {
    let template = job.spec.as_ref().map(|it| it.template.clone()).unwrap_or_default();
    let namespace = job.metadata.namespace.clone().unwrap_or_default();
    let mut pod = pods::from_template(&template, &namespace, object::controller_reference(job));
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    let Some(index) = slot.index else { return pod };
    let text = index.to_string();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text.clone());
    if let Some(failures) = slot.failures {
        annotations.insert(indexes::FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(indexes::IGNORED.to_owned(), failures.ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
    let name = job.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.generate_name = Some(format!("{name}-{text}-"));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{text}"));
    let containers = spec.containers.iter_mut();
    for container in containers.chain(spec.init_containers.iter_mut().flatten()) {
        let variables = container.env.get_or_insert_default();
        if !variables.iter().any(|it| it.name == INDEX_VARIABLE) {
            variables.push(variable());
        }
    }
    pod
}

fn variable() -> EnvVar {
    let field = ObjectFieldSelector {
        field_path: format!("metadata.labels['{INDEX}']"),
        ..ObjectFieldSelector::default()
    };
    EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

/// `1,3-5,7`: as the status writes sets of indexes.
pub(super) fn write_indexes(indexes: &std::collections::BTreeSet<i32>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut all = indexes.iter().copied().peekable();
    while let Some(first) = all.next() {
        let mut last = first;
        while let Some(next) = all.next_if(|it| *it == last + 1) {
            last = next;
        }
        parts.push(match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        });
    }
    parts.join(",")
}

pub(super) fn read_indexes(text: &str) -> std::collections::BTreeSet<i32> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_indexes_survive_the_round_trip() {
        for text in ["", "1", "0,1", "1,3-5,7", "0-99"] {
            assert_eq!(write_indexes(&read_indexes(text)), text, "{text}");
        }
    }
}
