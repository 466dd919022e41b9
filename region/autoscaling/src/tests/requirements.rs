//! Groups that name their instance types by attributes.

use aws_autoscaling::{
    group::{InstancesDistribution, LaunchTemplate, LaunchTemplateOverrides, MixedInstancesPolicy},
    instance_requirements::{InstanceRequirements, IntegerRange},
};

use super::*;

fn by_attributes(least_cpus: i64) -> CreateAutoScalingGroupRequest {
    let least = |it| Some(IntegerRange { min: Some(it), max: None });
    let requirements = InstanceRequirements {
        v_cpu_count: least(least_cpus),
        memory_mi_b: least(1),
        ..Default::default()
    };
    let with =
        LaunchTemplateOverrides { instance_requirements: Some(requirements), ..Default::default() };
    let mut request = create(1);
    request.mixed_instances_policy = Some(MixedInstancesPolicy {
        launch_template: Some(LaunchTemplate {
            launch_template_specification: request.launch_template.take(),
            overrides: vec![with],
        }),
        instances_distribution: Some(InstancesDistribution::default()),
    });
    request
}

fn policy(of: &mut CreateAutoScalingGroupRequest) -> &mut MixedInstancesPolicy {
    of.mixed_instances_policy.as_mut().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_cheapest_type_with_the_attributes_is_launched_and_then_the_next() {
    let region = region();
    region.ec2.change(|world| world.scarce = vec!["m5.large".to_owned()]);
    region.call::<CreateAutoScalingGroup>(by_attributes(2)).await;
    region.states().await;
    let types: Vec<_> = {
        let world = region.ec2.world.lock();
        world.instances.values().map(|(request, _)| request.instance_type.clone()).collect()
    };
    assert_eq!(types, [Some("m5d.large".to_owned())]);
    assert_eq!(region.ec2.world.lock().asked, 2, "what is far dearer is not asked for");
    let described = region.group().await.mixed_instances_policy.unwrap();
    assert_eq!(
        described.launch_template.unwrap().overrides[0].instance_requirements,
        policy(&mut by_attributes(2)).launch_template.as_ref().unwrap().overrides[0]
            .instance_requirements
    );
}

#[tokio::test(start_paused = true)]
async fn attributes_that_no_type_has_and_those_beside_names_are_refused() {
    let region = region();
    let none = by_attributes(3);
    let mut both = by_attributes(2);
    policy(&mut both).launch_template.as_mut().unwrap().overrides[0].instance_type =
        Some("m5.large".to_owned());
    let mut mixed = by_attributes(2);
    let named = LaunchTemplateOverrides {
        instance_type: Some("m5.large".to_owned()),
        ..Default::default()
    };
    policy(&mut mixed).launch_template.as_mut().unwrap().overrides.push(named);
    let mut prioritized = by_attributes(2);
    policy(&mut prioritized).instances_distribution = Some(InstancesDistribution {
        on_demand_allocation_strategy: Some("prioritized".to_owned()),
        ..Default::default()
    });
    for request in [none, both, mixed, prioritized] {
        assert_eq!(region.code::<CreateAutoScalingGroup>(request).await, "ValidationError");
    }
}
