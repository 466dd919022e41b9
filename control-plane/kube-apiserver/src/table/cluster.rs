//! Nodes, namespaces, events, leases, certificates, storage.

use api_kube::labels::NODE_ROLE_PREFIX;
use serde_json::{Value, json};

use super::{
    Column, Kind, Printer, narrow, number as integer,
    text::{NONE, age, duration, items, labels, name, number, since, text, text_or},
    wide,
};

const NODES: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Status"),
        narrow("Roles"),
        narrow("Age"),
        narrow("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells: |it, now| {
        let info = &it["status"]["nodeInfo"];
        let unknown = |field: &str| text_or(info, field, "<unknown>");
        vec![
            name(it),
            node_status(it).into(),
            roles(it).into(),
            age(it, now),
            text(info, "/kubeletVersion").into(),
            address(it, "InternalIP").into(),
            address(it, "ExternalIP").into(),
            unknown("/osImage"),
            unknown("/kernelVersion"),
            unknown("/containerRuntimeVersion"),
        ]
    },
};

const COMPONENTS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Status"), narrow("Message"), narrow("Error")],
    cells: |it, _| {
        let healthy = items(it, "/conditions").iter().find(|it| it["type"] == "Healthy");
        let status = match healthy.map(|it| text(it, "/status")) {
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
            None => "Unknown",
        };
        let of = |field: &str| healthy.map(|it| text(it, field)).unwrap_or_default();
        vec![name(it), status.into(), of("/message").into(), of("/error").into()]
    },
};

fn node_status(node: &Value) -> String {
    let ready = items(node, "/status/conditions").iter().find(|it| it["type"] == "Ready");
    let mut status = match ready.map(|it| text(it, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(NODE_ROLE_PREFIX) {
            Some(role) => Some(role).filter(|it| !it.is_empty()),
            None => (key == "kubernetes.io/role").then(|| value.as_str())?,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.into() } else { roles.join(",") }
}

fn address(node: &Value, kind: &str) -> String {
    let found = items(node, "/status/addresses").iter().find(|it| it["type"] == kind);
    found.map_or(NONE, |it| text(it, "/address")).to_owned()
}

const NAMESPACES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Status"), narrow("Age")],
    cells: |it, now| vec![name(it), text(it, "/status/phase").into(), age(it, now)],
};

const EVENTS: Printer = Printer {
    columns: &[
        narrow("Last Seen"),
        narrow("Type"),
        narrow("Reason"),
        narrow("Object"),
        wide("Subobject"),
        wide("Source"),
        narrow("Message"),
        wide("First Seen"),
        Column("Count", Kind::Number, true),
        wide("Name"),
    ],
    cells: |it, now| {
        let involved =
            if it["involvedObject"].is_object() { &it["involvedObject"] } else { &it["regarding"] };
        let first_of = |fields: &[&str]| {
            let found = fields.iter().map(|field| text(it, field)).find(|text| !text.is_empty());
            found.unwrap_or_default().to_owned()
        };
        let last = first_of(&[
            "/series/lastObservedTime",
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            "/eventTime",
        ]);
        let first = first_of(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
        let count = [number(it, "/series/count"), number(it, "/count"), 1];
        let object =
            format!("{}/{}", text(involved, "/kind").to_lowercase(), text(involved, "/name"));
        let component =
            first_of(&["/source/component", "/reportingComponent", "/reportingController"]);
        let host = text(it, "/source/host");
        let source = if host.is_empty() { component } else { format!("{component}, {host}") };
        vec![
            since(&last, now),
            text(it, "/type").into(),
            text(it, "/reason").into(),
            object.into(),
            text(involved, "/fieldPath").into(),
            source.into(),
            first_of(&["/message", "/note"]).trim().into(),
            since(&first, now),
            json!(count.into_iter().find(|it| *it > 0)),
            name(it),
        ]
    },
};

const LEASES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Holder"), narrow("Age")],
    cells: |it, now| vec![name(it), text(it, "/spec/holderIdentity").into(), age(it, now)],
};

const SIGNING_REQUESTS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Age"),
        narrow("SignerName"),
        narrow("Requestor"),
        narrow("RequestedDuration"),
        narrow("Condition"),
    ],
    cells: |it, now| {
        let seconds = it["spec"]["expirationSeconds"].as_i64();
        let mut state: Vec<&str> =
            items(it, "/status/conditions").iter().map(|it| text(it, "/type")).collect();
        let is_issued = !text(it, "/status/certificate").is_empty();
        if state.is_empty() {
            state.push("Pending");
        }
        if is_issued {
            state.push("Issued");
        }
        vec![
            name(it),
            age(it, now),
            text_or(it, "/spec/signerName", NONE),
            text(it, "/spec/username").into(),
            seconds.map_or_else(|| NONE.into(), duration).into(),
            state.join(",").into(),
        ]
    },
};

fn capacity(object: &Value, pointer: &str) -> Value {
    text(object, pointer).into()
}

/// `ReadWriteOnce` as `RWO`, and so on.
fn access_modes(object: &Value, pointer: &str) -> Value {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "?",
    };
    items(object, pointer).iter().map(short).collect::<Vec<_>>().join(",").into()
}

const TRUST_BUNDLES: Printer = Printer {
    columns: &[narrow("Name"), narrow("SignerName")],
    cells: |it, _| vec![name(it), text_or(it, "/spec/signerName", NONE)],
};

const VOLUMES: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Capacity"),
        narrow("Access Modes"),
        narrow("Reclaim Policy"),
        narrow("Status"),
        narrow("Claim"),
        narrow("StorageClass"),
        narrow("VolumeAttributesClass"),
        narrow("Reason"),
        narrow("Age"),
        wide("VolumeMode"),
    ],
    cells: |it, now| {
        let claim = &it["spec"]["claimRef"];
        let claim = if claim.is_object() {
            format!("{}/{}", text(claim, "/namespace"), text(claim, "/name"))
        } else {
            String::new()
        };
        let is_going = !text(it, "/metadata/deletionTimestamp").is_empty();
        let phase = if is_going { "Terminating" } else { text(it, "/status/phase") };
        vec![
            name(it),
            capacity(it, "/spec/capacity/storage"),
            access_modes(it, "/spec/accessModes"),
            text(it, "/spec/persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            text(it, "/spec/storageClassName").into(),
            text_or(it, "/spec/volumeAttributesClassName", "<unset>"),
            text(it, "/status/reason").into(),
            age(it, now),
            text_or(it, "/spec/volumeMode", "<unset>"),
        ]
    },
};

const CLAIMS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Status"),
        narrow("Volume"),
        narrow("Capacity"),
        narrow("Access Modes"),
        narrow("StorageClass"),
        narrow("VolumeAttributesClass"),
        narrow("Age"),
        wide("VolumeMode"),
    ],
    cells: |it, now| {
        let is_going = !text(it, "/metadata/deletionTimestamp").is_empty();
        let phase = if is_going { "Terminating" } else { text(it, "/status/phase") };
        vec![
            name(it),
            phase.into(),
            text(it, "/spec/volumeName").into(),
            capacity(it, "/status/capacity/storage"),
            access_modes(it, "/status/accessModes"),
            text(it, "/spec/storageClassName").into(),
            text_or(it, "/spec/volumeAttributesClassName", "<unset>"),
            age(it, now),
            text_or(it, "/spec/volumeMode", "<unset>"),
        ]
    },
};

const DEFAULT_CLASS: &str = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";

const STORAGE_CLASSES: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Provisioner"),
        narrow("ReclaimPolicy"),
        narrow("VolumeBindingMode"),
        Column("AllowVolumeExpansion", Kind::Flag, false),
        narrow("Age"),
    ],
    cells: |it, now| {
        let suffix = if text(it, DEFAULT_CLASS) == "true" { " (default)" } else { "" };
        vec![
            format!("{}{suffix}", text(it, "/metadata/name")).into(),
            text(it, "/provisioner").into(),
            text_or(it, "/reclaimPolicy", "Delete"),
            text_or(it, "/volumeBindingMode", "Immediate"),
            json!(it["allowVolumeExpansion"] == true),
            age(it, now),
        ]
    },
};

const ATTACHMENTS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Attacher"),
        narrow("PV"),
        narrow("Node"),
        Column("Attached", Kind::Flag, false),
        narrow("Age"),
    ],
    cells: |it, now| {
        vec![
            name(it),
            text(it, "/spec/attacher").into(),
            text(it, "/spec/source/persistentVolumeName").into(),
            text(it, "/spec/nodeName").into(),
            json!(it["status"]["attached"] == true),
            age(it, now),
        ]
    },
};

const CSI_NODES: Printer = Printer {
    columns: &[narrow("Name"), integer("Drivers"), narrow("Age")],
    cells: |it, now| vec![name(it), json!(items(it, "/spec/drivers").len()), age(it, now)],
};

const PRIORITY_CLASSES: Printer = Printer {
    columns: &[
        narrow("Name"),
        integer("Value"),
        Column("Global-Default", Kind::Flag, false),
        narrow("Age"),
        narrow("PreemptionPolicy"),
    ],
    cells: |it, now| {
        vec![
            name(it),
            json!(number(it, "/value")),
            json!(it["globalDefault"] == true),
            age(it, now),
            text(it, "/preemptionPolicy").into(),
        ]
    },
};

const RUNTIME_CLASSES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Handler"), narrow("Age")],
    cells: |it, now| vec![name(it), text(it, "/handler").into(), age(it, now)],
};

const QUOTAS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Request"), narrow("Limit"), narrow("Age")],
    cells: |it, now| {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in it["status"]["hard"].as_object().into_iter().flatten() {
            let used = it["status"]["used"][resource].as_str().unwrap_or("0");
            let shown = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
            if resource.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
        }
        vec![name(it), requests.join(", ").into(), limits.join(", ").into(), age(it, now)]
    },
};

const RESOURCE_SLICES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Node"), narrow("Driver"), narrow("Pool"), narrow("Age")],
    cells: |it, now| {
        vec![
            name(it),
            text_or(it, "/spec/nodeName", NONE),
            text(it, "/spec/driver").into(),
            text(it, "/spec/pool/name").into(),
            age(it, now),
        ]
    },
};

const REPLICAS_LABELS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Labels"), narrow("Age")],
    cells: |it, now| vec![name(it), labels(&it["metadata"]["labels"]), age(it, now)],
};

const API_SERVICES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Service"), narrow("Available"), narrow("Age")],
    cells: |it, now| {
        let conditions = items(it, "/status/conditions").iter();
        let available = conditions.into_iter().find(|it| it["type"] == "Available");
        let available = match available.map(|it| (text(it, "/status"), text(it, "/reason"))) {
            None => "Unknown".to_owned(),
            Some((status @ "True", _) | (status, "")) => status.to_owned(),
            Some((status, reason)) => format!("{status} ({reason})"),
        };
        let service = match text(it, "/spec/service/name") {
            "" => "Local".to_owned(),
            service => format!("{}/{service}", text(it, "/spec/service/namespace")),
        };
        vec![name(it), service.into(), available.into(), age(it, now)]
    },
};

pub(super) fn printer(group: &str, plural: &str) -> Option<&'static Printer> {
    Some(match (group, plural) {
        ("", "nodes") => &NODES,
        ("", "namespaces") => &NAMESPACES,
        ("", "componentstatuses") => &COMPONENTS,
        (_, "events") => &EVENTS,
        ("coordination.k8s.io", "leases") => &LEASES,
        ("certificates.k8s.io", "certificatesigningrequests") => &SIGNING_REQUESTS,
        ("certificates.k8s.io", "clustertrustbundles") => &TRUST_BUNDLES,
        ("", "persistentvolumes") => &VOLUMES,
        ("", "persistentvolumeclaims") => &CLAIMS,
        ("storage.k8s.io", "storageclasses") => &STORAGE_CLASSES,
        ("storage.k8s.io", "volumeattachments") => &ATTACHMENTS,
        ("storage.k8s.io", "csinodes") => &CSI_NODES,
        ("scheduling.k8s.io", "priorityclasses") => &PRIORITY_CLASSES,
        ("node.k8s.io", "runtimeclasses") => &RUNTIME_CLASSES,
        ("", "resourcequotas") => &QUOTAS,
        ("apiregistration.k8s.io", _) => &API_SERVICES,
        ("resource.k8s.io", "resourceslices") => &RESOURCE_SLICES,
        ("resource.k8s.io", "deviceclasses") => &REPLICAS_LABELS,
        _ => return None,
    })
}
