//! Of several Karpenters one works: the one that holds the lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use karpenter_aws::{Config, command};
use kube::Api;

use crate::{MANY, support::World};

async fn holder(world: &World) -> Option<String> {
    let leases = Api::<Lease>::namespaced(world.admin.clone(), "x");
    let lease = leases.get_opt("karpenter-leader-election").await.unwrap();
    lease.and_then(|it| it.spec).and_then(|it| it.holder_identity)
}

async fn leads(world: &World, name: &str) {
    let is_it = || async { (holder(world).await.as_deref() == Some(name)).then_some(()) };
    world.until(&format!("{name} leads"), is_it).await;
}

async fn launched(world: &World) -> usize {
    let claims = world.claims().await;
    claims.iter().filter(|it| it.is_true("Launched")).count()
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_there_is_not_is_refused_before_anything_is_done() {
    let world = World::new(MANY).await;
    let ask = async |queue: Option<&str>| {
        let mut config = Config::new("stead");
        config.interruption_queue = queue.map(str::to_owned);
        command::verify(&world.aws, &config).await.map_err(|it| it.to_string())
    };
    assert_eq!(ask(None).await, Ok(()));
    let said = ask(Some("nope")).await.unwrap_err();
    assert!(said.starts_with("--interruption-queue: "), "{said}");
    world.queue("there").await;
    assert_eq!(ask(Some("there")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn of_two_karpenters_one_works_and_a_lost_one_is_followed_by_the_other() {
    let mut world = World::new(MANY).await;
    world.stop();
    let (_told, power) = world.replica("one");
    leads(&world, "one").await;
    let _second = world.replica("two");
    world.pending("web", "1").await;
    world
        .until("it has an instance", || async { (launched(&world).await == 1).then_some(()) })
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.claims().await.len(), world.instances().await.len()), (1, 1));
    assert_eq!(holder(&world).await.as_deref(), Some("one"));
    power.cancel();
    leads(&world, "two").await;
    world.pending("more", "2").await;
    world.until("the second works", || async { (launched(&world).await == 2).then_some(()) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_karpenter_that_is_told_to_end_lets_the_other_begin_at_once() {
    let mut world = World::new(MANY).await;
    world.stop();
    let (told, _power) = world.replica("one");
    leads(&world, "one").await;
    let _second = world.replica("two");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(holder(&world).await.as_deref(), Some("one"));
    told.cancel();
    // Fifteen seconds of the lease are left, and it is looked at every two.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(holder(&world).await.as_deref(), Some("two"));
}
