//! Configuration, identities, roles, webhooks.

use serde_json::{Value, json};

use super::{
    Printer, narrow, number as integer,
    text::{age, count, items, name, text},
    wide,
};

const CONFIG_MAPS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Data"), narrow("Age")],
    cells: |it, now| {
        let entries = |field: &str| it[field].as_object().map_or(0, serde_json::Map::len);
        let all = entries("data") + entries("binaryData");
        vec![name(it), json!(all.to_string()), age(it, now)]
    },
};

const SECRETS: Printer = Printer {
    columns: &[narrow("Name"), narrow("Type"), integer("Data"), narrow("Age")],
    cells: |it, now| vec![name(it), text(it, "/type").into(), count(&it["data"]), age(it, now)],
};

const SERVICE_ACCOUNTS: Printer = Printer {
    columns: &[narrow("Name"), integer("Secrets"), narrow("Age")],
    cells: |it, now| vec![name(it), json!(items(it, "/secrets").len()), age(it, now)],
};

const BINDINGS: Printer = Printer {
    columns: &[
        narrow("Name"),
        narrow("Role"),
        narrow("Age"),
        wide("Users"),
        wide("Groups"),
        wide("ServiceAccounts"),
    ],
    cells: |it, now| {
        let role = format!("{}/{}", text(it, "/roleRef/kind"), text(it, "/roleRef/name"));
        let of_kind = |kind: &str| -> Value {
            let subjects = items(it, "/subjects").iter().filter(|it| it["kind"] == kind);
            let names: Vec<String> = subjects
                .map(|it| match (kind, text(it, "/namespace")) {
                    ("ServiceAccount", namespace) => format!("{namespace}/{}", text(it, "/name")),
                    _ => text(it, "/name").to_owned(),
                })
                .collect();
            names.join(", ").into()
        };
        vec![
            name(it),
            role.into(),
            age(it, now),
            of_kind("User"),
            of_kind("Group"),
            of_kind("ServiceAccount"),
        ]
    },
};

const WEBHOOKS: Printer = Printer {
    columns: &[narrow("Name"), integer("Webhooks"), narrow("Age")],
    cells: |it, now| vec![name(it), json!(items(it, "/webhooks").len()), age(it, now)],
};

pub(super) fn printer(group: &str, plural: &str) -> Option<&'static Printer> {
    Some(match (group, plural) {
        ("", "configmaps") => &CONFIG_MAPS,
        ("", "secrets") => &SECRETS,
        ("", "serviceaccounts") => &SERVICE_ACCOUNTS,
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => &BINDINGS,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => &WEBHOOKS,
        _ => return None,
    })
}
