//! Flags as users and manifests write them.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
    Cli::try_parse_from(["cluster-autoscaler"].iter().chain(flags)).map(|it| it.args)
}

/// Every flag of upstream's and its default, as its source has them.
const UPSTREAM: &str = include_str!("upstream.csv");

#[test]
fn every_flag_of_upstream_is_known() {
    for line in UPSTREAM.lines() {
        let (name, default) = line.split_once(',').unwrap();
        let flag = format!("--{name}={default}");
        let parsed = parse(&[&flag]).unwrap_or_else(|error| panic!("{flag}: {error}"));
        assert_eq!(parsed.idle.refused(), None, "{flag}");
    }
    assert!(parse(&["--no-such-flag=1"]).is_err());
}

#[test]
fn the_defaults_are_upstreams() {
    let options = options(&parse(&[]).unwrap()).unwrap();
    assert_eq!(format!("{options:?}"), format!("{:?}", Options::default()));
}

#[test]
fn switches_durations_and_limits_are_written_as_upstreams() {
    let flags = [
        "--balance-similar-node-groups",
        "--scale-down-enabled=false",
        "--scale-down-unneeded-time=1m30s",
        "--cores-total=4:16",
        "--memory-total=8:64",
        "--expander=priority,least-waste",
        "--status-taint=said",
        "--emit-per-nodegroup-metrics",
        "--nodes=1:5:a",
        "--nodes=0:2:b",
    ];
    let args = parse(&flags).unwrap();
    let options = options(&args).unwrap();
    assert!(options.balance_similar && !options.scale_down.is_enabled);
    assert_eq!(options.scale_down.defaults.unneeded_time.as_secs(), 90);
    assert_eq!(options.cores, Limits { min: 4, max: 16 });
    assert_eq!(options.memory, Limits { min: 8 << 30, max: 64 << 30 });
    assert_eq!(options.expanders, [Expander::Priority, Expander::LeastWaste]);
    assert_eq!(options.status_taints, ["said"]);
    assert!(options.per_group_metrics && args.idle.without_effect().is_empty());
    assert_eq!(args.general.nodes.len(), 2);
    for wrong in ["--cores-total=4", "--scan-interval=often", "--cloud-provider=gce"] {
        assert!(parse(&[wrong]).is_err(), "{wrong}");
    }
    let price = parse(&["--expander=price"]).unwrap();
    assert!(super::options(&price).is_err(), "there are no prices on AWS");
}

#[test]
fn gpus_are_limited_by_their_type() {
    let flags = ["--gpu-total=nvidia-tesla-t4:1:4", "--gpu-total=nvidia-l4:0:2"];
    let gpus = options(&parse(&flags).unwrap()).unwrap().gpus;
    assert_eq!(gpus["nvidia-tesla-t4"], Limits { min: 1, max: 4 });
    assert_eq!(gpus["nvidia-l4"], Limits { min: 0, max: 2 });
    for wrong in ["--gpu-total=nvidia-l4", "--gpu-total=nvidia-l4:4:1", "--gpu-total=:0:1"] {
        assert!(options(&parse(&[wrong]).unwrap()).is_err(), "{wrong}");
    }
}

#[test]
fn pods_go_by_priority_or_within_the_longest_grace_period() {
    let both = ["--drain-priority-config=0:60,1000:30", "--max-graceful-termination-sec=10"];
    let drain = options(&parse(&both[..1]).unwrap()).unwrap().drain;
    assert_eq!(drain.priorities.iter().map(|it| it.priority).collect::<Vec<_>>(), [0, 1000]);
    for wrong in [&both[..], &["--drain-priority-config=0"]] {
        assert!(options(&parse(wrong).unwrap()).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let args = parse(&["--enable-provisioning-requests"]).unwrap();
    assert_eq!(args.idle.refused().unwrap(), "--enable-provisioning-requests=true");
    let args = parse(&["--grpc-expander-url=x:1"]).unwrap();
    assert_eq!(args.idle.refused().unwrap(), "--grpc-expander-url=x:1");
}

const DOCUMENTATION: &str = include_str!("../../../../docs/cluster-autoscaler.md");

#[test]
fn every_flag_that_does_nothing_is_documented_and_no_other() {
    let told = |name: &str| DOCUMENTATION.contains(&format!("`{name}`"));
    for line in UPSTREAM.lines() {
        let (name, _) = line.split_once(',').unwrap();
        // What no default is: a flag that acts does not refuse it as something that is not here.
        let given = [format!("--{name}=x"), format!("--{name}=7"), format!("--{name}=7s")];
        let parsed = given.iter().filter_map(|it| parse(&[it]).ok());
        let switches = [format!("--{name}=true"), format!("--{name}=false")];
        let switched = switches.iter().filter_map(|it| parse(&[it]).ok());
        let is_idle = parsed
            .chain(switched)
            .any(|it| it.idle.refused().is_some() || !it.idle.without_effect().is_empty());
        assert_eq!(told(name), is_idle, "{name}");
    }
}
