//! The e2e tier: one region, brought up once and shared; real kubectl and aws as clients.
//!
//! A harness of our own, because the order matters (the tests that kill things come late, the one
//! that takes the region down comes last) and because a region costs seconds. Arguments filter by
//! name. It needs root; without root or the binary it says so and counts nothing as passed. A test whose
//! client is not on this machine is "not run", which is a failure where `CI` is set: there, all are.

mod access;
mod addresses;
mod bad_input;
mod boto3;
mod broken_joins;
mod clients;
mod cluster_autoscaler;
mod custom_networking;
mod guestbook;
mod instances;
mod ipv6;
mod irsa;
mod karpenter;
mod karpenter_disruption;
mod kills;
mod lifecycle;
mod load_balancers;
mod missing_rights;
mod nodes;
mod pod_groups;
mod pod_identity;
mod policies;
mod region;
mod repair;
mod scaling;
mod self_managed;
mod sessions;
mod terminal;
mod terraform;
mod terraform_stack;
mod traces;
mod traffic;
mod updates;
mod webhooks;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use region::Region;

/// What a test fails with that cannot run here: why.
#[derive(Debug)]
struct NotRun(String);

impl std::fmt::Display for NotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotRun {}

/// How many tests did not pass.
#[derive(Default)]
struct Sum {
    failed: usize,
    not_run: usize,
}

/// Tests that run only when they are named (`make e2e E2E=NAME`), and are told of otherwise: they take
/// minutes.
const WHEN_NAMED: &[&str] = &[
    "a_node_whose_hardware_is_said_to_fail_is_drained_and_replaced",
    "a_pending_pod_brings_a_node_of_its_size_which_goes_with_it",
    "an_interrupted_spot_node_is_replaced_before_it_goes",
    "an_upgrade_of_three_nodes_under_a_budget_and_traffic_loses_no_request",
    "less_load_is_consolidated_onto_fewer_nodes_under_a_budget_and_traffic",
    "nodes_of_an_older_image_are_replaced_within_their_budget",
    "terraform_keeps_a_platform_teams_whole_stack",
];

/// A test: its name is a sentence of behaviour.
type Test = (&'static str, fn(&Region) -> anyhow::Result<()>);

/// In the order in which they run.
fn tests() -> Vec<Test> {
    [
        nodes::TESTS,
        guestbook::TESTS,
        clients::TESTS,
        access::TESTS,
        bad_input::TESTS,
        boto3::TESTS,
        terminal::TESTS,
        terraform::TESTS,
        terraform_stack::TESTS,
        addresses::TESTS,
        policies::TESTS,
        load_balancers::TESTS,
        webhooks::TESTS,
        irsa::TESTS,
        pod_identity::TESTS,
        // It needs the agent, which pod_identity's first test has to do without.
        cluster_autoscaler::TESTS,
        scaling::TESTS,
        updates::TESTS,
        self_managed::TESTS,
        instances::TESTS,
        sessions::TESTS,
        repair::TESTS,
        karpenter::TESTS,
        karpenter_disruption::TESTS,
        ipv6::TESTS,
        // A node's trunk takes the place of an interface for good.
        pod_groups::TESTS,
        missing_rights::TESTS,
        broken_joins::TESTS,
        custom_networking::TESTS,
        kills::TESTS,
        lifecycle::TESTS,
    ]
    .concat()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|it| it == "--list") {
        // cargo-nextest and editors ask; the tier is not theirs to run.
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|it| !it.starts_with('-')).collect();
    let is_wanted = |name: &str| match filters.is_empty() {
        true => !WHEN_NAMED.contains(&name),
        false => filters.iter().any(|it| name.contains(*it)),
    };
    if filters.is_empty() {
        WHEN_NAMED.iter().for_each(|it| println!("not asked for: {it}"));
    }
    let chosen: Vec<Test> = tests().into_iter().filter(|(name, _)| is_wanted(name)).collect();
    if chosen.is_empty() {
        eprintln!("e2e: no test has one of {filters:?} in its name");
        return ExitCode::FAILURE;
    }
    if let Some(reason) = region::cannot_run() {
        eprintln!("e2e tier not run: {reason}");
        return ExitCode::FAILURE;
    }
    let before = lifecycle::before_the_region();
    let region = match Region::up() {
        Ok(region) => region,
        Err(error) => {
            eprintln!("e2e: the region did not come up: {error:?}");
            println!("0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    let mut sum = run_all(&region, &chosen);
    let (name, count) = ("down_leaves_nothing_of_a_used_region", chosen.len() + 1);
    match before.and_then(|before| lifecycle::down_leaves_nothing(region, &before)) {
        Ok(()) => println!("ok      {name}"),
        Err(error) => {
            sum.failed += 1;
            println!("FAILED  {name}\n{error:?}");
        }
    }
    let Sum { failed, not_run } = sum;
    println!("{} passed, {failed} failed, {not_run} not run", count - failed - not_run);
    let must_all_run = std::env::var_os("CI").is_some();
    if failed == 0 && !(must_all_run && not_run > 0) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_all(region: &Region, chosen: &[Test]) -> Sum {
    let mut sum = Sum::default();
    for (name, test) in chosen {
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| test(region)));
        let seconds = started.elapsed().as_secs_f32();
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.is::<NotRun>() => {
                sum.not_run += 1;
                println!("not run {name}: {error}");
                continue;
            }
            Ok(Err(error)) => Some(format!("{error:?}")),
            Err(_) => Some("panicked".to_owned()),
        };
        match error {
            None => println!("ok      {name} ({seconds:.1} s)"),
            Some(error) => {
                sum.failed += 1;
                println!("FAILED  {name} ({seconds:.1} s)\n{error}");
                region.explain();
            }
        }
    }
    sum
}
