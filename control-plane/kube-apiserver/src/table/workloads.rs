//! What makes pods: apps, batch, autoscaling, policy.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Printer, narrow, number as integer, targets,
    text::{
        NONE, age, containers, duration, items, labels, name, number, selector, since, text,
        text_or,
    },
    wide,
};

const TEMPLATE: &str = "/spec/template/spec/containers";

const DEPLOYMENTS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Ready"),
        integer("Up-to-date"),
        integer("Available"),
        narrow("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |it, now| {
        let [names, images] = containers(it, TEMPLATE);
        let ready =
            format!("{}/{}", number(it, "/status/readyReplicas"), number(it, "/spec/replicas"));
        vec![
            name(it),
            ready.into(),
            json!(number(it, "/status/updatedReplicas")),
            json!(number(it, "/status/availableReplicas")),
            age(it, now),
            names,
            images,
            selector(&it["spec"]["selector"]),
        ]
    },
};

fn replicas(it: &Value, now: Timestamp, selector: Value) -> Vec<Value> {
    let [names, images] = containers(it, TEMPLATE);
    vec![
        name(it),
        json!(number(it, "/spec/replicas")),
        json!(number(it, "/status/replicas")),
        json!(number(it, "/status/readyReplicas")),
        age(it, now),
        names,
        images,
        selector,
    ]
}

const REPLICA_COLUMNS: &[Column] = &[
    narrow("Name"),
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    narrow("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

const REPLICA_SETS: Printer = Printer {
    columns: REPLICA_COLUMNS,
    cells: |it, now| replicas(it, now, selector(&it["spec"]["selector"])),
};

const REPLICATION_CONTROLLERS: Printer = Printer {
    columns: REPLICA_COLUMNS,
    cells: |it, now| replicas(it, now, labels(&it["spec"]["selector"])),
};

const DAEMON_SETS: Printer = Printer {
    columns: &[
        narrow("Name"),
        integer("Desired"),
        integer("Current"),
        integer("Ready"),
        integer("Up-to-date"),
        integer("Available"),
        narrow("Node Selector"),
        narrow("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |it, now| {
        let [names, images] = containers(it, TEMPLATE);
        vec![
            name(it),
            json!(number(it, "/status/desiredNumberScheduled")),
            json!(number(it, "/status/currentNumberScheduled")),
            json!(number(it, "/status/numberReady")),
            json!(number(it, "/status/updatedNumberScheduled")),
            json!(number(it, "/status/numberAvailable")),
            labels(&it["spec"]["template"]["spec"]["nodeSelector"]),
            age(it, now),
            names,
            images,
            selector(&it["spec"]["selector"]),
        ]
    },
};

const STATEFUL_SETS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Ready"), narrow("Age"), wide("Containers"), wide("Images")],
    cells: |it, now| {
        let [names, images] = containers(it, TEMPLATE);
        let ready =
            format!("{}/{}", number(it, "/status/readyReplicas"), number(it, "/spec/replicas"));
        vec![name(it), ready.into(), age(it, now), names, images]
    },
};

const JOBS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Status"),
        narrow("Completions"),
        narrow("Duration"),
        narrow("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |it, now| {
        let [names, images] = containers(it, TEMPLATE);
        vec![
            name(it),
            job_status(it).into(),
            completions(it).into(),
            job_duration(it, now).into(),
            age(it, now),
            names,
            images,
            selector(&it["spec"]["selector"]),
        ]
    },
};

fn job_status(job: &Value) -> &'static str {
    let has = |kind: &str| {
        let conditions = items(job, "/status/conditions");
        conditions.iter().any(|it| it["type"] == kind && it["status"] == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if !text(job, "/metadata/deletionTimestamp").is_empty() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let done = number(job, "/status/succeeded");
    match job["spec"]["completions"].as_i64() {
        Some(wanted) => format!("{done}/{wanted}"),
        None => match number(job, "/spec/parallelism") {
            parallel if parallel > 1 => format!("{done}/1 of {parallel}"),
            _ => format!("{done}/1"),
        },
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let time = |pointer: &str| text(job, pointer).parse::<Timestamp>().ok();
    let Some(start) = time("/status/startTime") else { return String::new() };
    let end = time("/status/completionTime").unwrap_or(now);
    duration(end.as_second() - start.as_second())
}

const CRON_JOBS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Schedule"),
        narrow("Timezone"),
        Column("Suspend", Kind::Flag, false),
        integer("Active"),
        narrow("Last Schedule"),
        narrow("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |it, now| {
        let [names, images] = containers(it, "/spec/jobTemplate/spec/template/spec/containers");
        let last = match text(it, "/status/lastScheduleTime") {
            "" => NONE.into(),
            time => since(time, now),
        };
        let suspended = it["spec"]["suspend"] == true;
        vec![
            name(it),
            text(it, "/spec/schedule").into(),
            text_or(it, "/spec/timeZone", NONE),
            if suspended { "True" } else { "False" }.into(),
            json!(items(it, "/status/active").len()),
            last,
            age(it, now),
            names,
            images,
            selector(&it["spec"]["jobTemplate"]["spec"]["selector"]),
        ]
    },
};

const CONTROLLER_REVISIONS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Controller"), integer("Revision"), narrow("Age")],
    cells: |it, now| {
        let owner =
            items(it, "/metadata/ownerReferences").iter().find(|it| it["controller"] == true);
        let owner = owner.map_or_else(
            || NONE.to_owned(),
            |it| {
                let (version, kind) = (text(it, "/apiVersion"), text(it, "/kind"));
                let group = version.split_once('/').map_or("", |(group, _)| group);
                let dot = if group.is_empty() { "" } else { "." };
                format!("{}{dot}{group}/{}", kind.to_lowercase(), text(it, "/name"))
            },
        );
        vec![name(it), owner.into(), json!(number(it, "/revision")), age(it, now)]
    },
};

const AUTOSCALERS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Reference"),
        narrow("Targets"),
        narrow("MinPods"),
        narrow("MaxPods"),
        narrow("Replicas"),
        narrow("Age"),
    ],
    cells: |it, now| {
        let target = &it["spec"]["scaleTargetRef"];
        let reference = format!("{}/{}", text(target, "/kind"), text(target, "/name"));
        let minimum = it["spec"]["minReplicas"].as_i64();
        vec![
            name(it),
            reference.into(),
            targets::shown(it).into(),
            minimum.map_or_else(|| "<unset>".into(), |it| it.to_string()).into(),
            number(it, "/spec/maxReplicas").to_string().into(),
            number(it, "/status/currentReplicas").to_string().into(),
            age(it, now),
        ]
    },
};

const BUDGETS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Min Available"),
        narrow("Max Unavailable"),
        integer("Allowed Disruptions"),
        narrow("Age"),
    ],
    cells: |it, now| {
        let amount = |field: &str| match &it["spec"][field] {
            Value::Null => Value::from("N/A"),
            Value::String(text) => text.clone().into(),
            other => other.to_string().into(),
        };
        vec![
            name(it),
            amount("minAvailable"),
            amount("maxUnavailable"),
            json!(number(it, "/status/disruptionsAllowed")),
            age(it, now),
        ]
    },
};

const POD_TEMPLATES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Containers"), narrow("Images"), narrow("Pod Labels")],
    cells: |it, _| {
        let [names, images] = containers(it, "/template/spec/containers");
        vec![name(it), names, images, labels(&it["template"]["metadata"]["labels"])]
    },
};

pub(super) fn printer(group: &str, plural: &str) -> Option<&'static Printer> {
    Some(match (group, plural) {
        ("apps", "deployments") => &DEPLOYMENTS,
        ("apps", "replicasets") => &REPLICA_SETS,
        ("", "replicationcontrollers") => &REPLICATION_CONTROLLERS,
        ("apps", "daemonsets") => &DAEMON_SETS,
        ("apps", "statefulsets") => &STATEFUL_SETS,
        ("apps", "controllerrevisions") => &CONTROLLER_REVISIONS,
        ("batch", "jobs") => &JOBS,
        ("batch", "cronjobs") => &CRON_JOBS,
        ("autoscaling", "horizontalpodautoscalers") => &AUTOSCALERS,
        ("policy", "poddisruptionbudgets") => &BUDGETS,
        ("", "podtemplates") => &POD_TEMPLATES,
        _ => return None,
    })
}
