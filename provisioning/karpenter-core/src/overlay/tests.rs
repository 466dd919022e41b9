//! What overlays change, and which of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn pool(name: &str, team: &str) -> NodePool {
    serde_json::from_value(json!({ "metadata": { "name": name },
        "spec": { "template": { "metadata": { "labels": { "team": team } } } } }))
    .unwrap()
}

/// Two types in two zones, On-Demand and Spot; each On-Demand dollar is half of one as Spot.
fn types() -> Arc<[InstanceType]> {
    let each = [("small", "amd64", 1.0), ("large", "arm64", 4.0)].map(|(name, arch, price)| {
        let offerings = ["a", "b"].into_iter().flat_map(|zone| {
            [("on-demand", price), ("spot", price / 2.0)]
                .map(|(kind, price)| Offering::new(zone, kind, price))
        });
        let pairs = [(labels::INSTANCE_TYPE, name), (labels::ARCH, arch)];
        InstanceType {
            name: name.into(),
            labels: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            offerings: offerings.collect(),
            ..InstanceType::default()
        }
    });
    each.into()
}

fn overlay(name: &str, mut spec: Value) -> NodeOverlay {
    if spec.get("requirements").is_none() {
        spec["requirements"] = json!([]);
    }
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
}

fn only(key: &str, value: &str) -> Value {
    json!([{ "key": key, "operator": "In", "values": [value] }])
}

fn of(all: &[NodeOverlay]) -> (Overlays, BTreeMap<String, Refusal>) {
    Overlays::new(all, &[(&pool("a", "red"), types())])
}

/// The prices of a type: zone a On-Demand and Spot, zone b On-Demand and Spot.
fn prices(all: &[NodeOverlay], kind: usize) -> Vec<f64> {
    let laid = of(all).0.apply(&pool("a", "red"), types());
    laid[kind].offerings.iter().map(|it| it.price).collect()
}

#[test]
fn a_price_is_replaced_or_changed_by_an_amount_or_a_share() {
    for (spec, expected) in [
        (json!({ "price": "0.25" }), [0.25, 0.25]),
        (json!({ "priceAdjustment": "+0.5" }), [1.5, 1.0]),
        (json!({ "priceAdjustment": "-0.75" }), [0.25, 0.0]),
        (json!({ "priceAdjustment": "+10%" }), [1.1, 0.55]),
        (json!({ "priceAdjustment": "-50%" }), [0.5, 0.25]),
        (json!({ "priceAdjustment": "-100%" }), [0.0, 0.0]),
        (json!({}), [1.0, 0.5]),
    ] {
        let found = prices(&[overlay("a", spec.clone())], 0);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{spec}: {found} {expected}");
        }
    }
}

#[test]
fn only_what_the_requirements_name_is_changed() {
    let cheap =
        |requirements| overlay("a", json!({ "price": "0.1", "requirements": requirements }));
    let spot = [cheap(only(labels::CAPACITY_TYPE, "spot"))];
    assert_eq!(prices(&spot, 0), [1.0, 0.1, 1.0, 0.1]);
    let arm = [cheap(only(labels::ARCH, "arm64"))];
    assert_eq!((prices(&arm, 0)[0], prices(&arm, 1)[0]), (1.0, 0.1));
    assert_eq!(prices(&[cheap(only("team", "red"))], 0)[0], 0.1);
    assert_eq!(prices(&[cheap(only("team", "blue"))], 0)[0], 1.0);
    assert_eq!(prices(&[cheap(only(labels::NODE_POOL, "a"))], 0)[0], 0.1);
    assert_eq!(prices(&[cheap(only(labels::NODE_POOL, "b"))], 0)[0], 1.0);
    // A label that the types do not have is not one of any value.
    assert_eq!(prices(&[cheap(only(labels::INSTANCE_GPU_NAME, "t4"))], 0)[0], 1.0);
    let laid = of(&spot).0.apply(&pool("a", "red"), types());
    assert_eq!(
        laid[0].offerings.iter().map(|it| it.is_overlaid).collect::<Vec<_>>(),
        [false, true, false, true]
    );
}

#[test]
fn a_type_has_more_resources_and_none_of_its_own_are_changed() {
    let slices = overlay(
        "a",
        json!({ "capacity": { "example.com/slice": "4" },
        "requirements": only(labels::ARCH, "arm64") }),
    );
    let laid = of(&[slices]).0.apply(&pool("a", "red"), types());
    assert_eq!(laid[1].capacity.amount("example.com/slice"), 4);
    assert_eq!(laid[1].allocatable.amount("example.com/slice"), 4);
    assert_eq!(laid[0].capacity.amount("example.com/slice"), 0);
    assert_eq!(laid[1].offerings, types()[1].offerings);
}

#[test]
fn the_heavier_counts_and_of_equal_ones_the_later_by_name_and_the_other_is_in_conflict() {
    let price = |name: &str, price: &str, weight: i32| {
        overlay(name, json!({ "price": price, "weight": weight }))
    };
    let all = [price("a", "0.1", 1), price("b", "0.2", 7)];
    assert_eq!(prices(&all, 0)[0], 0.2);
    assert!(of(&all).1.is_empty());
    let all = [price("a", "0.1", 3), price("c", "0.3", 3), price("b", "0.2", 3)];
    let (effective, refused) = of(&all);
    assert_eq!(effective.0.len(), 1);
    assert_eq!(prices(&all, 0)[0], 0.3);
    let conflict = |name: &str| (name.to_owned(), Refusal::Conflict);
    assert_eq!(refused, [conflict("a"), conflict("b")].into());
}

#[test]
fn what_is_said_of_other_offerings_or_of_other_things_is_no_conflict() {
    let spot = |name: &str, kind: &str, price: &str| {
        overlay(name, json!({ "price": price, "requirements": only(labels::CAPACITY_TYPE, kind) }))
    };
    let all = [
        spot("a", "spot", "0.1"),
        spot("b", "on-demand", "0.9"),
        overlay("c", json!({ "capacity": { "example.com/slice": "1" } })),
        overlay("d", json!({ "capacity": { "example.com/card": "1" } })),
    ];
    assert!(of(&all).1.is_empty());
    assert_eq!(prices(&all, 0), [0.9, 0.1, 0.9, 0.1]);
    // One that is in conflict somewhere takes no effect anywhere.
    let everywhere = overlay("A", json!({ "price": "0.5" }));
    let mut all = all.to_vec();
    all.push(everywhere);
    assert_eq!(of(&all).1, [("A".to_owned(), Refusal::Conflict)].into());
    assert_eq!(prices(&all, 0), [0.9, 0.1, 0.9, 0.1]);
    // A heavier one hides the others, which are none the less in effect elsewhere.
    let all = [
        overlay(
            "a",
            json!({ "price": "0.5", "weight": 2,
            "requirements": only(labels::ZONE, "a") }),
        ),
        overlay("b", json!({ "price": "0.7", "weight": 1 })),
    ];
    assert_eq!(prices(&all, 0), [0.5, 0.5, 0.7, 0.7]);
}

#[test]
fn what_is_wrong_is_said_and_takes_no_effect() {
    for (spec, expected) in [
        (json!({ "price": "1", "priceAdjustment": "+1" }), "both"),
        (json!({ "price": "-1" }), "no price"),
        (json!({ "price": "1e3" }), "no price"),
        (json!({ "priceAdjustment": "10%" }), "no adjustment"),
        (json!({ "priceAdjustment": "-101%" }), "no adjustment"),
        (json!({ "priceAdjustment": "+" }), "no adjustment"),
        (json!({ "capacity": { "cpu": "1" } }), "invalid resource restricted"),
        (json!({ "capacity": { "pods": "1" } }), "invalid resource restricted"),
        (json!({ "weight": 0 }), "weight"),
        (json!({ "requirements": [{ "key": "a", "operator": "Like" }] }), "operator"),
        (
            json!({ "requirements": [{ "key": "kubernetes.io/hostname", "operator": "Exists" }] }),
            "restricted",
        ),
    ] {
        let (effective, refused) = of(&[overlay("a", spec.clone())]);
        let Refusal::Faults(found) = &refused["a"] else { panic!("{spec}: {refused:?}") };
        assert!(found.len() == 1 && found[0].contains(expected), "{spec}: {found:?}");
        assert!(effective.0.is_empty());
    }
}

fn any_overlay() -> impl Strategy<Value = (u8, u8, u8, i32)> {
    (0..4_u8, 0..5_u8, 0..4_u8, 0..3)
}

proptest! {
    /// Told anew from the definition: of those that say something of an offering the heaviest, of
    /// equal ones the last by name, unless that is refused.
    #[test]
    fn each_price_is_the_one_of_the_first_overlay_in_effect_that_is_for_it(
        drawn in proptest::collection::vec(any_overlay(), 0..8)
    ) {
        let all: Vec<NodeOverlay> = drawn.iter().enumerate().map(|(at, (key, price, _, weight))| {
            let requirements = match key {
                0 => json!([]),
                1 => only(labels::CAPACITY_TYPE, "spot"),
                2 => only(labels::ZONE, "b"),
                _ => only(labels::ARCH, "arm64"),
            };
            let mut spec = json!({ "price": format!("0.{price}"), "requirements": requirements });
            if *weight > 0 {
                spec["weight"] = (*weight).into();
            }
            overlay(&format!("o{at}"), spec)
        }).collect();
        let (_, refused) = of(&all);
        for (kind, before) in types().iter().enumerate() {
            for (at, offering) in before.offerings.iter().enumerate() {
                let is_for = |it: &&NodeOverlay| it.spec.requirements.iter().all(|wanted| {
                    let value = before.labels.get(&wanted.key).or(offering.labels.get(&wanted.key));
                    value == wanted.values.first()
                });
                let mut said: Vec<&NodeOverlay> = all.iter().filter(is_for).collect();
                // Two that are in effect are never equal.
                let effective: Vec<i32> = said.iter().filter(|it| !refused.contains_key(it.name()))
                    .map(|it| it.spec.weight.unwrap_or(0)).collect();
                let mut once = effective.clone();
                once.sort_unstable();
                once.dedup();
                prop_assert_eq!(once.len(), effective.len());
                said.retain(|it| !refused.contains_key(it.name()));
                let wanted = said.iter().max_by_key(|it| it.spec.weight.unwrap_or(0));
                let wanted = wanted.map_or(offering.price, |it| it.spec.price.as_ref().unwrap().parse().unwrap());
                prop_assert!((prices(&all, kind)[at] - wanted).abs() < 1e-9);
            }
        }
    }
}
