//! What clusters are set up with: flows, admission policies, storage drivers and classes, claims of
//! devices.

use serde_json::{Value, json};

use super::{
    Column, Kind, Printer, narrow, number as integer,
    text::{NONE, age, items, name, text, text_or},
};

const UNSET: &str = "<unset>";

const FLOW_SCHEMAS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("PriorityLevel"),
        integer("MatchingPrecedence"),
        narrow("DistinguisherMethod"),
        narrow("Age"),
        narrow("MissingPL"),
    ],
    cells: |it, now| {
        let conditions = items(it, "/status/conditions").iter();
        let mut dangling = conditions.filter(|it| it["type"] == "Dangling").map(|it| &it["status"]);
        vec![
            name(it),
            text(it, "/spec/priorityLevelConfiguration/name").into(),
            it["spec"]["matchingPrecedence"].clone(),
            text_or(it, "/spec/distinguisherMethod/type", NONE),
            age(it, now),
            dangling.next_back().cloned().unwrap_or_else(|| "?".into()),
        ]
    },
};

const PRIORITY_LEVELS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Type"),
        narrow("NominalConcurrencyShares"),
        narrow("Queues"),
        narrow("HandSize"),
        narrow("QueueLengthLimit"),
        narrow("Age"),
    ],
    cells: |it, now| {
        let of = |pointer: &str| match it.pointer(pointer) {
            Some(Value::Number(number)) => Value::from(number.to_string()),
            _ => NONE.into(),
        };
        let queuing = |field: &str| of(&format!("/spec/limited/limitResponse/queuing/{field}"));
        vec![
            name(it),
            text(it, "/spec/type").into(),
            of("/spec/limited/nominalConcurrencyShares"),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            age(it, now),
        ]
    },
};

const POLICIES: Printer = Printer {
    columns: &[narrow("Name"), integer("Validations"), narrow("ParamKind"), narrow("Age")],
    cells: |it, now| {
        let kind = &it["spec"]["paramKind"];
        let kind = match (text(kind, "/apiVersion"), text(kind, "/kind")) {
            ("", _) => UNSET.to_owned(),
            (version, kind) => format!("{version}/{kind}"),
        };
        vec![name(it), items(it, "/spec/validations").len().into(), kind.into(), age(it, now)]
    },
};

const MUTATING_POLICIES: Printer = Printer {
    columns: &[narrow("Name"), integer("Mutations"), narrow("ParamKind"), narrow("Age")],
    cells: |it, now| {
        let kind = &it["spec"]["paramKind"];
        let kind = match (text(kind, "/apiVersion"), text(kind, "/kind")) {
            ("", _) => UNSET.to_owned(),
            (version, kind) => format!("{version}/{kind}"),
        };
        vec![name(it), items(it, "/spec/mutations").len().into(), kind.into(), age(it, now)]
    },
};

const POLICY_BINDINGS: Printer = Printer {
    columns: &[narrow("Name"), narrow("PolicyName"), narrow("ParamRef"), narrow("Age")],
    cells: |it, now| {
        let reference = &it["spec"]["paramRef"];
        let reference = match (text(reference, "/namespace"), text(reference, "/name")) {
            _ if !reference.is_object() => UNSET.to_owned(),
            (_, "") => "*".to_owned(),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        };
        vec![name(it), text(it, "/spec/policyName").into(), reference.into(), age(it, now)]
    },
};

const DRIVERS: Printer = Printer {
    columns: &[
        narrow("Name"),
        Column("AttachRequired", Kind::Flag, false),
        Column("PodInfoOnMount", Kind::Flag, false),
        Column("StorageCapacity", Kind::Flag, false),
        narrow("TokenRequests"),
        Column("RequiresRepublish", Kind::Flag, false),
        narrow("Modes"),
        narrow("Age"),
    ],
    cells: |it, now| {
        let is_set = |field: &str| json!(it["spec"][field] == true);
        let all = |pointer: &str, field: &str| {
            let each = items(it, pointer).iter().map(|it| text(it, field));
            let all = each.collect::<Vec<_>>().join(",");
            Value::from(if all.is_empty() { UNSET.to_owned() } else { all })
        };
        vec![
            name(it),
            is_set("attachRequired"),
            is_set("podInfoOnMount"),
            is_set("storageCapacity"),
            all("/spec/tokenRequests", "/audience"),
            is_set("requiresRepublish"),
            all("/spec/volumeLifecycleModes", ""),
            age(it, now),
        ]
    },
};

const CAPACITIES: Printer = Printer {
    columns: &[narrow("Name"), narrow("StorageClassName"), narrow("Capacity")],
    cells: |it, _| {
        vec![name(it), text(it, "/storageClassName").into(), text_or(it, "/capacity", UNSET)]
    },
};

const ATTRIBUTES_CLASSES: Printer = Printer {
    columns: &[narrow("Name"), narrow("DriverName"), narrow("Age")],
    cells: |it, now| vec![name(it), text(it, "/driverName").into(), age(it, now)],
};

const CLAIMS: Printer = Printer {
    columns: &[narrow("Name"), narrow("State"), narrow("Age")],
    cells: |it, now| {
        let is_going = it["metadata"]["deletionTimestamp"].is_string();
        let is_allocated = it["status"]["allocation"].is_object();
        let is_reserved = is_allocated && !items(it, "/status/reservedFor").is_empty();
        let states = [
            (is_going, "deleted"),
            (!is_going && !is_allocated, "pending"),
            (is_allocated, "allocated"),
            (is_reserved, "reserved"),
        ];
        let states = states.iter().filter(|it| it.0).map(|it| it.1);
        vec![name(it), states.collect::<Vec<_>>().join(",").into(), age(it, now)]
    },
};

const CLAIM_TEMPLATES: Printer = Printer {
    columns: &[narrow("Name"), narrow("Age")],
    cells: |it, now| vec![name(it), age(it, now)],
};

pub(super) fn printer(group: &str, plural: &str) -> Option<&'static Printer> {
    Some(match (group, plural) {
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &FLOW_SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", _) => &PRIORITY_LEVELS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => &POLICIES,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => &POLICY_BINDINGS,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => &MUTATING_POLICIES,
        ("storage.k8s.io", "csidrivers") => &DRIVERS,
        ("storage.k8s.io", "csistoragecapacities") => &CAPACITIES,
        ("storage.k8s.io", "volumeattributesclasses") => &ATTRIBUTES_CLASSES,
        ("resource.k8s.io", "resourceclaims") => &CLAIMS,
        ("resource.k8s.io", "resourceclaimtemplates") => &CLAIM_TEMPLATES,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(group: &str, plural: &str, object: &Value) -> Vec<Value> {
        let now = "2026-01-01T00:00:10Z".parse().unwrap();
        (printer(group, plural).unwrap().cells)(object, now)
    }

    fn object(fields: Value) -> Value {
        let mut object = json!({"metadata": {"name": "a",
            "creationTimestamp": "2026-01-01T00:00:00Z"}});
        json_patch::merge(&mut object, &fields);
        object
    }

    #[test]
    fn flows_are_shown_as_upstream_shows_them() {
        let schema = object(json!({
            "spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 9},
            "status": {"conditions": [{"type": "Dangling", "status": "False"}]}}));
        let group = "flowcontrol.apiserver.k8s.io";
        let shown = json!(["a", "l", 9, "<none>", "10s", "False"]);
        assert_eq!(json!(cells(group, "flowschemas", &schema)), shown);
        let level = object(json!({"spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}}}));
        let shown = json!(["a", "Limited", "5", "<none>", "<none>", "<none>", "10s"]);
        assert_eq!(json!(cells(group, "prioritylevelconfigurations", &level)), shown);
    }

    #[test]
    fn drivers_and_claims_are_shown_as_upstream_shows_them() {
        let driver = object(json!({"spec": {"attachRequired": true,
            "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}));
        let shown =
            json!(["a", true, false, false, "<unset>", false, "Persistent,Ephemeral", "10s"]);
        assert_eq!(json!(cells("storage.k8s.io", "csidrivers", &driver)), shown);
        for (status, state) in [
            (json!({}), "pending"),
            (json!({"allocation": {}}), "allocated"),
            (json!({"allocation": {}, "reservedFor": [{}]}), "allocated,reserved"),
        ] {
            let claim = object(json!({"status": status}));
            assert_eq!(cells("resource.k8s.io", "resourceclaims", &claim)[1], state);
        }
    }
}
