//! The e2e tier: one region, brought up once and shared; real kubectl and aws as clients.
//!
//! A harness of our own, because the order matters (the tests that kill things come late, the one
//! that takes the region down comes last) and because a region costs seconds. Arguments filter by
//! name. It needs root; without root or the binary it says so and counts nothing as passed.

mod access;
mod addresses;
mod bad_input;
mod boto3;
mod clients;
mod guestbook;
mod kills;
mod lifecycle;
mod missing_rights;
mod nodes;
mod policies;
mod region;
mod scaling;
mod terminal;
mod terraform;
mod traffic;
mod updates;
mod webhooks;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use region::Region;

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
        addresses::TESTS,
        policies::TESTS,
        webhooks::TESTS,
        scaling::TESTS,
        updates::TESTS,
        missing_rights::TESTS,
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
    let is_wanted = |name: &str| filters.is_empty() || filters.iter().any(|it| name.contains(*it));
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
    let mut failed = run_all(&region, &chosen);
    let (name, count) = ("down_leaves_nothing_of_a_used_region", chosen.len() + 1);
    match before.and_then(|before| lifecycle::down_leaves_nothing(region, &before)) {
        Ok(()) => println!("ok      {name}"),
        Err(error) => {
            failed += 1;
            println!("FAILED  {name}\n{error:?}");
        }
    }
    println!("{} passed, {failed} failed", count - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(region: &Region, chosen: &[Test]) -> usize {
    let mut failed = 0;
    for (name, test) in chosen {
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| test(region)));
        let seconds = started.elapsed().as_secs_f32();
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:?}")),
            Err(_) => Some("panicked".to_owned()),
        };
        match error {
            None => println!("ok      {name} ({seconds:.1} s)"),
            Some(error) => {
                failed += 1;
                println!("FAILED  {name} ({seconds:.1} s)\n{error}");
                region.explain();
            }
        }
    }
    failed
}
