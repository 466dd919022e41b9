//! The cases that Kubernetes' policy suites probe, as a table: cases × steps × (pods × pods ×
//! protocols × ports), every cell compared with a simple evaluator written from the API's words.
//!
//! Families, by the tags of cyclonus' generator, those included that it leaves out by default (its
//! 112 cases are among them), and the `NetworkPolicy` tests of Kubernetes' e2e suite:
//!
//! | family | what varies |
//! |---|---|
//! | target | the policy's namespace; pods by nothing, label, expression |
//! | rules | none, an empty one, several; each direction and both; `policyTypes` given or not |
//! | peers | none; pods of here, of namespaces by label, default label or expression, of all; pods by label; ipBlock, with `except`; any two of them |
//! | ports | none; protocol missing, TCP, UDP, SCTP × port missing, number, name; any two of them |
//! | end-port | ranges of each protocol |
//! | conflict | a policy that allows beside one that denies, on one side or on both |
//! | action | policies made, changed, deleted; pods and namespaces made, deleted, labelled |
//! | e2e | stacked and overlapping policies, except in one and block in another, default denies, a protocol that is not the one asked for, updates |
//!
//! All of it for pods with IPv4 addresses, and again for those of IPv6 clusters, whose blocks are
//! IPv6's. The same table goes through the kernel with real packets: `node/network-policy-agent/tests/kernel`.
//! Not in it: what the suites ask of Services' load balancers, and node and host addresses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cases;
mod model;
mod reference;

use std::{collections::BTreeMap, net::IpAddr};

use api_kube::policy_endpoint::PolicyEndpointSpec;
use network_policy::{Direction, PodRules, Protocol};

use crate::model::{Family, Model, PORTS};

/// Compares every cell; gives how many are blocked, and of how many.
fn compare(model: &Model, chunk: usize, title: &str) -> (usize, usize) {
    let specs: Vec<PolicyEndpointSpec> =
        model.policies().iter().flat_map(|it| network_policy::resolve(it, model, chunk)).collect();
    let pods = model.pods();
    let rules: BTreeMap<IpAddr, PodRules> =
        pods.iter().map(|it| (it.address, PodRules::of(it.address, &specs))).collect();
    let (mut blocked, mut cells) = (0, 0);
    for from in &pods {
        for to in &pods {
            for protocol in Protocol::ALL {
                for port in PORTS {
                    let wanted = reference::allows(model, from, to, protocol.lower(), port);
                    let got = from == to
                        || (rules[&from.address].allows(
                            Direction::Egress,
                            to.address,
                            protocol,
                            port,
                        ) && rules[&to.address].allows(
                            Direction::Ingress,
                            from.address,
                            protocol,
                            port,
                        ));
                    assert_eq!(
                        got, wanted,
                        "{title}: {from} to {to} {protocol:?} {port}\n{model:#?}"
                    );
                    cells += 1;
                    blocked += usize::from(!got);
                }
            }
        }
    }
    (blocked, cells)
}

#[test]
fn every_cell_of_every_case_is_as_the_api_says() {
    let mut families: BTreeMap<&str, (usize, usize, usize, usize)> = BTreeMap::new();
    let of_family = |family| cases::all().into_iter().map(move |case| (case, family));
    for (case, family) in of_family(Family::V4).chain(of_family(Family::V6)) {
        let mut model = Model::new(family);
        for (number, step) in case.steps.iter().enumerate() {
            model.apply(step);
            let step = number + 1;
            let title = format!("{family:?} / {} / {} / step {step}", case.family, case.name);
            let (blocked, cells) = compare(&model, 200, &title);
            // However the objects are cut.
            assert_eq!(compare(&model, 2, &title).0, blocked, "{title}");
            let counts = families.entry(case.family).or_default();
            counts.0 += usize::from(number == 0);
            counts.1 += 1;
            counts.2 += cells;
            counts.3 += blocked;
        }
    }
    let cases: usize = families.values().map(|it| it.0).sum();
    for (family, (cases, steps, cells, blocked)) in &families {
        eprintln!("{family}: {cases} cases, {steps} steps, {cells} cells, {blocked} blocked");
        // A family in which nothing is blocked, or everything, would prove nothing.
        assert!(*blocked > 0 && blocked < cells, "{family}");
    }
    assert!(
        cases >= 2 * 112 && families.len() == 8,
        "{cases} cases in {} families",
        families.len()
    );
}

#[test]
fn what_cells_the_reference_allows_is_known_for_the_simplest_policies() {
    let count = |steps: &[model::Step]| {
        let mut model = Model::new(Family::V4);
        steps.iter().for_each(|it| model.apply(it));
        compare(&model, 200, "known").0
    };
    let named = |name: &str| cases::all().into_iter().find(|it| it.name == name).unwrap();
    assert_eq!(count(&[]), 0);
    // Three pods of x; six cells each from eight others.
    assert_eq!(count(&named("default deny of ingress").steps), 3 * 8 * 6);
    // And to the six that are not in x besides.
    assert_eq!(count(&named("default deny of all").steps), 3 * 8 * 6 + 3 * 6 * 6);
}
