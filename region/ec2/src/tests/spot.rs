//! Spot Instances: prices that a seed repeats, and interruptions from the recommendation to the end.

use std::time::Duration;

use aws_ec2::{
    instance_state::{StartInstances, StartInstancesRequest, StopInstances, StopInstancesRequest},
    run_instances::{InstanceMarketOptionsRequest, RunInstancesRequest},
    spot::{DescribeSpotPriceHistory, DescribeSpotPriceHistoryRequest},
};

use jiff::{SignedDuration, Timestamp};

use super::support::*;
use crate::{
    Config,
    records::{HostReport, InstanceState},
};

fn spot() -> RunInstancesRequest {
    let market = InstanceMarketOptionsRequest {
        market_type: text("spot"),
        ..InstanceMarketOptionsRequest::default()
    };
    RunInstancesRequest { instance_market_options: Some(market), ..launch() }
}

async fn running(region: &Region, request: RunInstancesRequest) -> String {
    let id = region.run(request).await.remove(0).instance_id.unwrap();
    region.report(&id, &HostReport::Started);
    id
}

fn interrupt(region: &Region, id: &str, minutes: i64) -> Result<Timestamp, String> {
    let ends = region.ec2.interrupt(&[id.to_owned()], SignedDuration::from_mins(minutes));
    ends.map(|it| it[0].1).map_err(|it| it.code.into_owned())
}

/// What was told of instances but their states.
fn told(region: &Region) -> Vec<String> {
    let events = region.ec2.unpublished().into_iter().map(|(_, it)| it.event.detail_type.clone());
    events.filter(|it| it != "EC2 Instance State-change Notification").collect()
}

fn state(region: &Region, id: &str) -> InstanceState {
    region.ec2.view().instances.get(id).unwrap().state
}

#[tokio::test(start_paused = true)]
async fn an_interruption_is_recommended_then_warned_of_and_comes_when_it_was_to() {
    let region = region();
    let id = running(&region, spot()).await;
    let at = interrupt(&region, &id, 5).unwrap();
    assert_eq!(at.to_string(), "2026-11-23T12:05:00Z");
    let (recommended, warned) =
        ("EC2 Instance Rebalance Recommendation", "EC2 Spot Instance Interruption Warning");
    assert_eq!(told(&region), [recommended]);
    tokio::time::sleep(Duration::from_secs(179)).await;
    let due = region.ec2.settle().unwrap().unwrap();
    assert_eq!(told(&region), [recommended]);
    assert_eq!(due.to_string(), "2026-11-23T12:03:00Z");
    tokio::time::sleep(Duration::from_secs(1)).await;
    region.ec2.settle().unwrap();
    region.ec2.settle().unwrap();
    assert_eq!(told(&region), [recommended, warned]);
    assert_eq!(state(&region, &id), InstanceState::Running);
    tokio::time::sleep(Duration::from_secs(120)).await;
    region.ec2.settle().unwrap();
    assert_eq!(state(&region, &id), InstanceState::ShuttingDown);
    let reason = region.ec2.view().instances.get(&id).unwrap().state_reason.clone().unwrap();
    assert_eq!(reason.code, "Server.SpotInstanceTermination");
}

#[tokio::test(start_paused = true)]
async fn only_running_spot_instances_can_be_interrupted_and_within_fifteen_minutes() {
    let region = region();
    let on_demand = running(&region, launch()).await;
    let pending = region.run(spot()).await.remove(0).instance_id.unwrap();
    let running = running(&region, spot()).await;
    for (id, minutes, code) in [
        (on_demand.as_str(), 2, "InvalidParameterValue"),
        (pending.as_str(), 2, "IncorrectInstanceState"),
        (running.as_str(), 1, "InvalidParameterValue"),
        (running.as_str(), 16, "InvalidParameterValue"),
        ("i-0123456789abcdef0", 2, "InvalidInstanceID.NotFound"),
    ] {
        assert_eq!(interrupt(&region, id, minutes).unwrap_err(), code, "{id} {minutes}");
    }
    assert!(told(&region).is_empty(), "a refused call tells nothing");
}

#[tokio::test(start_paused = true)]
async fn a_market_with_a_seed_interrupts_whoever_runs_where_it_has_no_room_and_repeats_itself() {
    let mut ends = Vec::new();
    for _ in 0..2 {
        let region = configured_with(|it| Config { spot_seed: Some(3), ..it });
        let id = running(&region, spot()).await;
        let begun = tokio::time::Instant::now();
        while state(&region, &id) == InstanceState::Running {
            let due = region.ec2.settle().unwrap();
            assert!(due.is_some() || state(&region, &id) != InstanceState::Running);
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert!(begun.elapsed() < Duration::from_secs(30 * 24 * 3600), "never interrupted");
        }
        assert_eq!(told(&region).len(), 2);
        ends.push(begun.elapsed());
    }
    assert_eq!(ends[0], ends[1]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_spot_instance_is_not_started_while_the_market_has_no_room() {
    let with_seed = |it| Config { spot_seed: Some(3), ..it };
    let region = configured_with(with_seed);
    let market = with_seed(Config::new(ACCOUNT, "us-east-1")).market();
    let id = running(&region, spot()).await;
    let zone = region.ec2.view().instances.get(&id).unwrap().zone.clone();
    let has_room = || market.has_capacity("m5.large", &zone, region.clock.now());
    let ids = || vec![id.clone()];
    let stop = StopInstancesRequest { instance_ids: ids(), ..Default::default() };
    region.call::<StopInstances>(stop).await;
    region.report(&id, &HostReport::Stopped);
    let start = || StartInstancesRequest { instance_ids: ids(), ..Default::default() };
    for _ in 0..1000 {
        if !has_room() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let code = region.code::<StartInstances>(start()).await;
    assert_eq!(
        (code.as_str(), state(&region, &id)),
        ("InsufficientInstanceCapacity", InstanceState::Stopped)
    );
    for _ in 0..1000 {
        if has_room() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    region.call::<StartInstances>(start()).await;
}

#[tokio::test(start_paused = true)]
async fn prices_are_told_from_the_newest_to_the_one_that_held_at_the_beginning() {
    let region = region();
    let ask = |start: &str, max: Option<i64>, token: Option<String>| {
        let request = DescribeSpotPriceHistoryRequest {
            availability_zone: text("us-east-1a"),
            instance_types: vec!["m5.large".to_owned()],
            start_time: text(start),
            max_results: max,
            next_token: token,
            ..Default::default()
        };
        region.call::<DescribeSpotPriceHistory>(request)
    };
    let now = ask("2026-11-23T12:00:00Z", None, None).await;
    assert_eq!(now.spot_price_history.len(), 1);
    assert_eq!(now.next_token, None);
    let price: f64 = now.spot_price_history[0].spot_price.as_ref().unwrap().parse().unwrap();
    assert!((0.02..0.096).contains(&price), "{price}");
    // 12:00, 6:00, and 0:00, which held at 5:00.
    let since = ask("2026-11-23T05:00:00Z", None, None).await.spot_price_history;
    let times: Vec<_> = since.iter().map(|it| it.timestamp.clone().unwrap()).collect();
    let day = |hour: &str| format!("2026-11-23T{hour}:00:00.000Z");
    assert_eq!(times, [day("12"), day("06"), day("00")]);
    let first = ask("2026-11-23T05:00:00Z", Some(2), None).await;
    let rest = ask("2026-11-23T05:00:00Z", Some(2), first.next_token.clone()).await;
    let both = [first.spot_price_history, rest.spot_price_history].concat();
    assert_eq!(both, since);
    assert_eq!(rest.next_token, None);
    let all = region.call::<DescribeSpotPriceHistory>(DescribeSpotPriceHistoryRequest {
        start_time: text("2026-11-23T12:00:00Z"),
        product_descriptions: vec!["Windows".to_owned()],
        ..Default::default()
    });
    assert!(all.await.spot_price_history.is_empty());
}
