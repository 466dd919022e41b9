//! Which group grows, by each expander.

use super::*;
use crate::{
    options::Options,
    testing::{group, pod, sized, world},
};

/// A group of so large nodes, of which so many would hold these pods.
fn candidate(name: &str, cpu: &str, nodes: i64, pods: &[u32]) -> Candidate {
    let mut of = group(name, (0, 9), &[]);
    of.blueprint = Some(sized("x", cpu, "8Gi", &serde_json::json!({})).into());
    let template = Template::of(&world(vec![], vec![], vec![]), &of, &Options::default()).unwrap();
    let pods = pods.iter().enumerate().map(|(at, cpu)| pod(&format!("p{at}"), *cpu, None));
    Candidate { group: name.to_owned(), nodes, pods: pods.collect(), template }
}

fn chosen(candidates: &[Candidate], expanders: &[Expander], lot: u64) -> String {
    let candidates = candidates.iter().collect();
    choose(candidates, expanders, None, lot).unwrap().0.group.clone()
}

#[test]
fn each_expander_has_its_own_idea_of_the_best() {
    let candidates = [
        candidate("large", "16", 1, &[1000, 1000]),
        candidate("small", "2", 2, &[1000, 1000]),
        candidate("many", "4", 2, &[1000, 1000, 1000]),
    ];
    assert_eq!(chosen(&candidates, &[Expander::LeastNodes], 0), "large");
    assert_eq!(chosen(&candidates, &[Expander::MostPods], 0), "many");
    assert_eq!(chosen(&candidates, &[Expander::LeastWaste], 0), "small");
    let by_chance: Vec<_> =
        (0..3).map(|lot| chosen(&candidates, &[Expander::Random], lot)).collect();
    assert_eq!(by_chance, ["large", "small", "many"]);
}

#[test]
fn the_next_expander_chooses_among_the_best_of_the_one_before() {
    let candidates = [
        candidate("a", "16", 2, &[1000]),
        candidate("b", "16", 1, &[1000]),
        candidate("c", "2", 2, &[1000]),
    ];
    assert_eq!(chosen(&candidates, &[Expander::MostPods, Expander::LeastNodes], 0), "b");
}

#[test]
fn priorities_are_patterns_and_the_highest_that_matches_wins() {
    let candidates = [
        candidate("od-a", "2", 1, &[100]),
        candidate("spot-a", "2", 1, &[100]),
        candidate("spot-b", "2", 1, &[100]),
    ];
    let all: Vec<&Candidate> = candidates.iter().collect();
    let priorities = Priorities::parse("10:\n- .*\n50:\n- .*spot.*\n").unwrap();
    let names =
        |found: Vec<&Candidate>| found.iter().map(|it| it.group.clone()).collect::<Vec<_>>();
    assert_eq!(names(priorities.best(all.clone())), ["spot-a", "spot-b"]);
    let none = Priorities::parse("10: [nothing]").unwrap();
    assert_eq!(none.best(all.clone()).len(), 3, "who matches nothing chooses nothing");
    assert!(Priorities::parse("10: ['(']").is_err());
    assert!(Priorities::parse("ten: [a]").is_err());
    let expanders = [Expander::Priority];
    let (found, _) = choose(all, &expanders, None, 2).unwrap();
    assert_eq!(found.group, "spot-b", "without a configuration chance decides");
}
