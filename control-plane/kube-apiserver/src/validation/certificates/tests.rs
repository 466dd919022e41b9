//! What must hold of `validation/certificates`.

use pki::{Ca, Profile, Usage};
use serde_json::json;

use super::*;
use crate::{
    resources::{Catalog, Resource},
    strategy::Part,
    validation::{create, update},
};

fn resource(group: &str, plural: &str) -> std::sync::Arc<Resource> {
    let catalog = Catalog::builtin();
    catalog.all().iter().find(|it| it.is(group, plural)).unwrap().clone()
}

fn bundle(name: &str, signer: &str, content: &str) -> Value {
    let spec = json!({ "signerName": signer, "trustBundle": content });
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn told(object: &Value) -> Vec<String> {
    let resource = resource("certificates.k8s.io", "clustertrustbundles");
    create(&resource, object).iter().map(ToString::to_string).collect()
}

fn authority() -> String {
    Ca::new("root").unwrap().certificate_pem().to_owned()
}

#[test]
fn a_bundle_of_a_signer_carries_its_name() {
    let root = authority();
    assert_eq!(told(&bundle("any", "", &root)), Vec::<String>::new());
    assert_eq!(told(&bundle("example.com:s:a", "example.com/s", &root)), Vec::<String>::new());
    assert_eq!(
        told(&bundle("example.com:s:a", "", &root)),
        [
            "metadata.name: Invalid value: \"example.com:s:a\": ClusterTrustBundle without signer name must not have \":\" in its name"
        ]
    );
    assert_eq!(
        told(&bundle("a", "example.com/s", &root)),
        [
            "metadata.name: Invalid value: \"a\": ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:"
        ]
    );
    let found = told(&bundle("s:a", "s", &root));
    assert_eq!(
        found,
        [
            "spec.signerName: Invalid value: \"s\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
        ]
    );
    let found = told(&bundle("d:S:a", "d/S", &root));
    assert!(found[0].ends_with("should be a domain with at least two segments separated by dots"));
    assert!(
        found[1].contains("Invalid value: \"S\": validating label \"S\": a lowercase RFC 1123")
    );
}

#[test]
fn a_bundle_holds_each_authority_once_and_nothing_else() {
    let (one, two) = (authority(), authority());
    let profile = Profile {
        cn: "leaf".to_owned(),
        organizations: Vec::new(),
        sans: Vec::new(),
        usages: vec![Usage::Server],
        not_after: "2030-01-01T00:00:00Z".parse().unwrap(),
    };
    let leaf = Ca::new("root").unwrap().issue(&profile).unwrap().certificate_pem;
    let why = |content: &str| {
        let found = told(&bundle("b", "", content));
        let prefix = "spec.trustBundle: Invalid value: \"<value omitted>\": ";
        found.iter().map(|it| it.strip_prefix(prefix).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(why(&format!("# roots\n{one}\n{two}")), Vec::<String>::new());
    assert_eq!(why("no block"), ["at least one trust anchor must be provided"]);
    let repeated = format!("{one}{two}{one}{two}{one}");
    assert_eq!(
        why(&repeated),
        ["duplicate trust anchor (indices [0 2 4])", "duplicate trust anchor (indices [1 3])"]
    );
    let headed = one.replacen("-----\n", "-----\nProc-Type: 4\n\n", 1);
    let key = pki::pem_text("PRIVATE KEY", b"x");
    let rubbish = pki::pem_text("CERTIFICATE", b"x");
    // What is whole is not told as missing or repeated beside what is not.
    assert_eq!(
        why(&format!("{one}{one}{headed}{key}{rubbish}{leaf}")),
        [
            "entry 2 has PEM block headers",
            "entry 3 has bad block type: PRIVATE KEY",
            "entry 4 does not parse as X.509",
            "entry 5 does not have the CA bit set",
        ]
    );
    let large = format!("{one}{}", " ".repeat(MAX_TRUST_BUNDLE_SIZE));
    let too_long = "spec.trustBundle: Too long: may not be more than 1048576 bytes";
    assert_eq!(told(&bundle("b", "", &large)), [too_long]);
}

#[test]
fn a_bundles_signer_stays_and_content_that_stays_is_not_read_again() {
    let resource = resource("certificates.k8s.io", "clustertrustbundles");
    let told = |old: &Value, new: &Value| -> Vec<String> {
        update(&resource, Part::Main, old, new).0.iter().map(ToString::to_string).collect()
    };
    let old = bundle("example.com:s:a", "example.com/s", "of other rules");
    assert_eq!(told(&old, &old), Vec::<String>::new());
    let changed = bundle("example.com:s:a", "example.com/s", "no block");
    assert_eq!(told(&old, &changed).len(), 1);
    let other = bundle("example.com:s:a", "example.com/t", "of other rules");
    assert_eq!(
        told(&old, &other),
        ["spec.signerName: Invalid value: \"example.com/t\": field is immutable"]
    );
}

#[test]
fn a_projected_bundle_is_named_or_selected_and_has_a_path_of_its_own() {
    let told = |sources: Value| -> Vec<String> {
        let volume = json!({ "name": "v", "projected": { "sources": sources } });
        let container = json!({ "name": "c", "image": "i" });
        let spec = json!({
            "containers": [container], "volumes": [volume], "serviceAccountName": "s",
        });
        let mut object = json!({ "metadata": { "name": "p" }, "spec": spec });
        let resource = resource("", "pods");
        crate::defaults::apply(&resource, &mut object);
        create(&resource, &object).iter().map(ToString::to_string).collect()
    };
    let one = |source: Value| told(json!([{ "clusterTrustBundle": source }]));
    let at = "spec.volumes[0].projected.sources[0].clusterTrustBundlePEM";
    let named = json!({ "name": "example.com:s:a", "path": "roots" });
    let selected =
        json!({ "signerName": "example.com/s", "labelSelector": {}, "path": "signer/roots" });
    for good in [&named, &selected] {
        assert_eq!(one(good.clone()), Vec::<String>::new());
    }
    assert_eq!(
        one(json!({ "path": "p" })),
        [format!("{at}: Required value: either name or signerName must be specified")]
    );
    let both = one(json!({ "name": "a", "signerName": "example.com/s", "path": "p" }));
    assert!(both[0].starts_with(&format!("{at}: Invalid value")), "{both:?}");
    assert!(both[0].ends_with("only one of name and signerName may be used"), "{both:?}");
    let labelled = one(json!({ "name": "a", "labelSelector": {}, "path": "p" }));
    assert!(labelled[0].ends_with("labelSelector must be unset if name is specified"));
    let bad = one(json!({ "name": "example.com:s:A", "path": "p" }));
    assert!(bad[0].contains("not a valid clustertrustbundlename: a lowercase RFC 1123"), "{bad:?}");
    assert_eq!(one(json!({ "name": "a", "path": "" })), [format!("{at}.path: Required value")]);
    assert_eq!(
        one(json!({ "name": "a", "path": "..data" })),
        [format!("{at}.path: Invalid value: \"..data\": must not start with '..'")]
    );
    let twice = json!([
        { "serviceAccountToken": { "path": "roots" } }, { "clusterTrustBundle": named },
    ]);
    assert_eq!(
        told(twice),
        ["spec.volumes[0].projected: Invalid value: \"roots\": conflicting duplicate paths"]
    );
}
