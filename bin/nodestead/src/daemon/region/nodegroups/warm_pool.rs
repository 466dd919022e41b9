//! A node group's warm pool over the region's own Auto Scaling.

use aws_autoscaling::{
    capacity::{SetDesiredCapacity, SetDesiredCapacityRequest},
    warm_pool::{DescribeWarmPool, DescribeWarmPoolRequest},
};

use super::*;

impl Simulation {
    async fn set_pool(&self, config: WarmPoolConfig) {
        self.call::<UpdateNodegroupConfig>(UpdateNodegroupConfigRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
            warm_pool_config: Some(config),
            ..Default::default()
        })
        .await;
        tokio::time::sleep(MINUTE).await;
        assert_eq!(self.until("ACTIVE", MINUTE).await, Vec::<String>::new());
    }

    /// Ids and states of what waits.
    async fn pool(&self) -> Vec<(String, String)> {
        let request = DescribeWarmPoolRequest {
            auto_scaling_group_name: self.scaling().await.auto_scaling_group_name.unwrap(),
            ..Default::default()
        };
        let found = self.call::<DescribeWarmPool>(request).await.instances;
        found.into_iter().map(|it| (it.instance_id.unwrap(), it.lifecycle_state.unwrap())).collect()
    }

    async fn desire(&self, size: i64) {
        let request = SetDesiredCapacityRequest {
            auto_scaling_group_name: self.scaling().await.auto_scaling_group_name.unwrap(),
            desired_capacity: size,
            ..Default::default()
        };
        self.call::<SetDesiredCapacity>(request).await;
        tokio::time::sleep(MINUTE).await;
    }
}

fn enabled() -> WarmPoolConfig {
    WarmPoolConfig { enabled: Some(true), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_a_pool_is_no_node_until_the_group_grows() {
    let simulation = Simulation::new().await;
    simulation.create_group().await;
    let before = simulation.world.nodes();
    simulation.set_pool(enabled()).await;
    let waiting = simulation.pool().await;
    assert_eq!(waiting.len(), 1, "up to the group's most");
    assert_eq!(waiting[0].1, "Warmed:Stopped");
    assert_eq!(simulation.world.nodes(), before, "it is no node");

    simulation.desire(4).await;
    let now = simulation.world.nodes();
    assert_eq!(now.len(), 4);
    assert!(now.contains(&waiting[0].0), "it came from the pool: {now:?}");
    assert_eq!(simulation.pool().await, []);

    let running = Some("RUNNING".to_owned());
    simulation
        .set_pool(WarmPoolConfig { min_size: Some(2), pool_state: running, ..enabled() })
        .await;
    let states: Vec<String> = simulation.pool().await.into_iter().map(|it| it.1).collect();
    assert_eq!(states, ["Warmed:Running", "Warmed:Running"]);
    assert_eq!(simulation.world.nodes(), now, "they run, and are no nodes");
    simulation.set_pool(WarmPoolConfig { enabled: Some(false), ..Default::default() }).await;
    assert_eq!(simulation.pool().await, []);
    assert_eq!(simulation.world.nodes(), now);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_made_anew_by_a_version_update_and_goes_with_its_group() {
    let simulation = Simulation::new().await;
    simulation.create_group().await;
    simulation.set_pool(enabled()).await;
    let old = simulation.pool().await;
    let update = simulation.update(false).await;
    assert_eq!((update.status.as_str(), update.errors), ("Successful", Vec::new()));
    tokio::time::sleep(MINUTE).await;
    let new = simulation.pool().await;
    assert_eq!(new.len(), 1);
    assert_ne!(new[0].0, old[0].0, "what waits is of the new release");
    assert_eq!(simulation.world.nodes().len(), 3);

    simulation
        .call::<DeleteNodegroup>(DeleteNodegroupRequest {
            cluster_name: "stead".to_owned(),
            nodegroup_name: "g".to_owned(),
        })
        .await;
    tokio::time::sleep(3 * MINUTE).await;
    assert_eq!(simulation.group().await, None);
    assert_eq!(simulation.world.nodes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_for_the_pool_is_drained_goes_and_comes_back() {
    let simulation = Simulation::new().await;
    simulation.create_group().await;
    simulation.set_pool(WarmPoolConfig { reuse_on_scale_in: Some(true), ..enabled() }).await;
    let before = simulation.world.nodes();
    simulation.world.change(|it| it.stuck.clone_from(&before));
    simulation.desire(2).await;
    let held = simulation.pool().await;
    assert!(held.iter().any(|(_, it)| it == "Warmed:Pending:Wait"), "its budget holds: {held:?}");
    assert_eq!(simulation.world.nodes(), before);
    simulation.world.change(|it| it.stuck.clear());
    tokio::time::sleep(MINUTE).await;
    let now = simulation.world.nodes();
    assert_eq!(now.len(), 2);
    let gone = before.iter().find(|it| !now.contains(it)).unwrap();
    let pool = simulation.pool().await;
    assert_eq!(pool.len(), 2);
    assert!(pool.contains(&(gone.clone(), "Warmed:Stopped".to_owned())), "{pool:?}");
    simulation.desire(4).await;
    assert!(simulation.world.nodes().contains(gone), "it is a node again");
    assert_eq!(simulation.pool().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_hibernated_pool_is_filled_from_a_template_that_is_made_for_it() {
    let simulation = Simulation::new().await;
    simulation.create_group().await;
    let before = simulation.world.nodes();
    let hibernated = Some("HIBERNATED".to_owned());
    simulation
        .set_pool(WarmPoolConfig {
            pool_state: hibernated,
            reuse_on_scale_in: Some(true),
            ..enabled()
        })
        .await;
    let pool = simulation.pool().await;
    assert_eq!(pool.len(), 1);
    assert_eq!(pool[0].1, "Warmed:Hibernated");
    let hibernates = |id: &str| simulation.world.instance(id).is_hibernated;
    assert!(hibernates(&pool[0].0));
    simulation.desire(4).await;
    assert!(simulation.world.nodes().contains(&pool[0].0));
    assert_eq!(simulation.world.instance(&pool[0].0).boot, 1, "it went on, and did not boot");

    simulation.desire(2).await;
    let states: Vec<String> = simulation.pool().await.into_iter().map(|it| it.1).collect();
    assert_eq!(states.len(), 2);
    // Those from before were not launched for it.
    let can = |id: &String| simulation.world.instance(id).can_hibernate;
    assert!(before.iter().all(|it| !can(it)));
    let now = simulation.world.nodes();
    for (id, state) in simulation.pool().await {
        let expected = if can(&id) { "Warmed:Hibernated" } else { "Warmed:Stopped" };
        assert_eq!(state, expected);
        assert!(!now.contains(&id));
    }
    assert_eq!(simulation.until("ACTIVE", MINUTE).await, Vec::<String>::new());
}
