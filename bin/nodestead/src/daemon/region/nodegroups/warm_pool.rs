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
