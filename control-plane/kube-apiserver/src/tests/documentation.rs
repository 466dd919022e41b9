//! `docs/kubernetes.md`: every group, resource and verb that is served, and what differs.
//!
//! The tables are made from the catalogue that routes requests; what differs is told here, beside
//! the resource's name, and must name one that is served.

use std::{fmt::Write, fs};

use crate::{
    discovery,
    resources::{Catalog, Resource},
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes.md");

const INTRODUCTION: &str = "# The Kubernetes API\n\nWhat the control plane serves, as Kubernetes \
1.36: every group with its resources, their verbs and subresources. The tables are made from the \
catalogue that routes requests (`NODESTEAD_WRITE_DOCS=1 cargo test -p kube-apiserver documentation` \
writes them anew), and a test takes an object of each resource through each of its verbs. A resource \
of which nothing is said in the last column works as upstream's. The finer differences, by module, \
are in [deviations.md](deviations.md).\n\nAll of them take `dryRun`, `fieldValidation`, \
`fieldManager`, `limit` and `continue`, `resourceVersion` and `resourceVersionMatch`, label and field \
selectors, `sendInitialEvents` and bookmarks; patches are JSON, merge, strategic merge (not for \
custom resources) and server-side apply; bodies and answers \
are JSON, YAML and protobuf (custom resources: their metadata only), answers also `Table`, \
`PartialObjectMetadata` and its list, in `meta.k8s.io/v1` and in `v1beta1` \
(`tables_and_metadata_are_told_in_the_version_that_was_asked_for`).\n";

/// Group, resource, what differs from upstream.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("", "services", "one address family, that of the configured range"),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        "types are checked in the write itself",
    ),
    (
        "apiregistration.k8s.io",
        "apiservices",
        "no Service is given a built-in group; a server is reached at ready pods",
    ),
    ("certificates.k8s.io", "clustertrustbundles", "served as if its feature gate were on"),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        "a flow has one queue, a request one seat",
    ),
    ("networking.k8s.io", "servicecidrs", "of the configured range's family"),
    (
        "resource.k8s.io",
        "resourceclaims",
        "selectors and configurations are checked for their types only",
    ),
    (
        "resource.k8s.io",
        "resourceslices",
        "attributes, capacities and taints are checked for their types only",
    ),
];

/// What 1.36 has by default and is not here.
const NOT_SERVED: &[(&str, &str)] = &[
    ("beta and alpha versions", "not served, as upstream does not serve them unless asked to"),
    ("CBOR", "refused; upstream's is behind a feature gate that is off"),
    (
        "lists as attributes of devices, and `includes` in their selectors",
        "dropped and refused, as upstream's `DRAListTypeAttributes` is off",
    ),
];

const ADMISSION: &str = "\n## Admission\n\nThe plug-ins that upstream has on by default, webhooks and \
policies. An eviction is asked about as one, the deletion that comes of it is not \
(`admission_is_asked_about_an_eviction_and_not_about_the_deletion_that_it_is`). \
`--admission-control-config-file` of `nodestead run kube-apiserver` takes upstream's \
`AdmissionConfiguration` with a `PodSecurityConfiguration` (`v1`, `v1beta1`, `v1alpha1`) in it or in a \
file of its own: the levels of Namespaces that say nothing, and the users, Namespaces and runtime \
classes that are exempt (`a_configuration_restricts_namespaces_that_say_nothing_and_exempts_some`). A \
configuration of any other plug-in is refused (`what_nobody_here_would_look_at_is_refused`): \
EventRateLimit, ImagePolicyWebhook, PodNodeSelector and PodTolerationRestriction are not here, and \
ResourceQuota and the webhooks take none.\n";

fn differences(resource: &Resource) -> String {
    let of = DIFFERENCES.iter().filter(|it| resource.is(it.0, it.1)).map(|it| it.2);
    of.collect::<Vec<_>>().join("; ")
}

fn table(catalog: &Catalog, group: &str, version: &str) -> String {
    let mut text = String::from(
        "| Resource | Kind | Verbs | Subresources | Differs |\n|---|---|---|---|---|\n",
    );
    for it in catalog.of_version(group, version) {
        let scope = if it.namespaced { "" } else { " (cluster)" };
        let short: String = it.short_names.iter().map(|it| format!(", `{it}`")).collect();
        let below: Vec<String> = it
            .subresources
            .iter()
            .map(|name| format!("`{name}` ({})", discovery::subresource_verbs(name).join(", ")))
            .collect();
        let (plural, kind) = (&it.plural, &it.kind);
        let (verbs, below, differs) = (it.verbs().join(", "), below.join(", "), differences(it));
        writeln!(text, "| `{plural}`{short}{scope} | {kind} | {verbs} | {below} | {differs} |")
            .unwrap();
    }
    text
}

fn document() -> String {
    let catalog = Catalog::builtin();
    let mut text = INTRODUCTION.to_owned();
    let mut groups: Vec<(String, Vec<String>)> = vec![(String::new(), vec!["v1".into()])];
    groups.extend(catalog.groups().cloned());
    for (group, versions) in &groups {
        for version in versions {
            let name =
                if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
            write!(text, "\n## {name}\n\n{}", table(&catalog, group, version)).unwrap();
        }
    }
    text.push_str(
        "\n## metrics.k8s.io/v1beta1\n\n`nodes` and `pods` (get, list), from the metrics \
                   server of the same process.\n",
    );
    text.push_str(
        "\n## Aggregated APIs\n\nAn APIService that names a Service hands its group and \
                   version to the server behind it, over TLS with the front proxy's certificate; \
                   `kube-system/extension-apiserver-authentication` tells such servers whom to \
                   trust. Its condition `Available` says whether it is there.\n",
    );
    text.push_str("\n## Custom resources\n\nEvery CustomResourceDefinition is served from the moment \
                   at which its creation is answered, with discovery and OpenAPI, by every API server \
                   over the same store. Its schema has to be structural; objects are pruned, get \
                   defaults, and are checked by types, limits, patterns, formats, list types and the \
                   rules of `x-kubernetes-validations` (what an update leaves as it was passes, and \
                   where a rule would refuse it with a warning). \
                   Several versions are converted by name or by a webhook. Names are given once in a \
                   group; a definition ends when the last of its objects has.\n");
    text.push_str(ADMISSION);
    text.push_str("\n## Other paths\n\n");
    for path in discovery::PATHS {
        writeln!(text, "- `{path}`").unwrap();
    }
    text.push_str("- `/.well-known/openid-configuration`, `/openid/v1/jwks`\n\n## Not served\n\n");
    for (what, how) in NOT_SERVED {
        writeln!(text, "- {what}: {how}").unwrap();
    }
    text
}

/// `NODESTEAD_WRITE_DOCS=1` writes it anew.
#[test]
fn the_documentation_lists_what_is_served() {
    let text = document();
    if std::env::var_os("NODESTEAD_WRITE_DOCS").is_some() {
        fs::write(DOCUMENT, &text).unwrap();
    }
    let written = fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(written == text, "docs/kubernetes.md is old: run the test with NODESTEAD_WRITE_DOCS=1");
}

#[test]
fn every_difference_is_one_of_a_resource_that_is_served() {
    let catalog = Catalog::builtin();
    for (group, plural, what) in DIFFERENCES {
        assert!(catalog.all().iter().any(|it| it.is(group, plural)), "{group} {plural}: {what}");
    }
}
