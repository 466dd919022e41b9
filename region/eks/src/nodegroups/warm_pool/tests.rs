//! What may be asked of a warm pool, and what becomes of it.

use aws_autoscaling::warm_pool::WarmPoolConfiguration;

use super::*;

const AL2023: Kind<'_> = Kind { ami_type: "AL2023_x86_64_STANDARD", capacity_type: "ON_DEMAND" };

fn enabled() -> WarmPoolConfig {
    WarmPoolConfig { enabled: Some(true), ..Default::default() }
}

fn whole() -> WarmPoolConfig {
    WarmPoolConfig {
        enabled: Some(true),
        min_size: Some(0),
        max_group_prepared_capacity: None,
        pool_state: Some("STOPPED".to_owned()),
        reuse_on_scale_in: Some(false),
    }
}

#[test]
fn what_is_not_asked_of_a_pool_stays_as_it_is_or_is_the_default() {
    assert_eq!(merged(None, &enabled(), AL2023).unwrap(), Some(whole()));
    let limit = |it| WarmPoolConfig { max_group_prepared_capacity: Some(it), ..Default::default() };
    let limited = merged(Some(&whole()), &limit(5), AL2023).unwrap().unwrap();
    assert_eq!(limited, WarmPoolConfig { max_group_prepared_capacity: Some(5), ..whole() });
    let running = WarmPoolConfig { pool_state: Some("RUNNING".to_owned()), ..Default::default() };
    let both = merged(Some(&limited), &running, AL2023).unwrap().unwrap();
    assert_eq!(
        (both.max_group_prepared_capacity, both.pool_state.as_deref()),
        (Some(5), Some("RUNNING"))
    );
    let unlimited = merged(Some(&limited), &limit(-1), AL2023).unwrap();
    assert_eq!(unlimited, Some(whole()), "-1 takes the limit away");
}

#[test]
fn a_pool_is_there_while_it_is_enabled() {
    let disabled = WarmPoolConfig { enabled: Some(false), ..Default::default() };
    assert_eq!(merged(Some(&whole()), &disabled, AL2023).unwrap(), None);
    assert_eq!(merged(None, &WarmPoolConfig::default(), AL2023).unwrap(), None);
    let of_none = WarmPoolConfig { min_size: Some(1), ..Default::default() };
    assert_eq!(merged(None, &of_none, AL2023).unwrap_err().code, "InvalidParameterException");
    assert!(merged(Some(&whole()), &of_none, AL2023).unwrap().is_some());
}

#[test]
fn pools_that_eks_does_not_have_are_refused() {
    let state = |it: &str| WarmPoolConfig { pool_state: Some(it.to_owned()), ..enabled() };
    let custom = Kind { ami_type: CUSTOM, ..AL2023 };
    let spot = Kind { capacity_type: "SPOT", ..AL2023 };
    let bottlerocket = Kind { ami_type: BOTTLEROCKET, ..AL2023 };
    let reuse = WarmPoolConfig { reuse_on_scale_in: Some(true), ..enabled() };
    let small = WarmPoolConfig { min_size: Some(-1), ..enabled() };
    let limit = WarmPoolConfig { max_group_prepared_capacity: Some(-2), ..enabled() };
    for (asked, kind, message) in [
        (state("Stopped"), AL2023, "poolState must be one of STOPPED, RUNNING, HIBERNATED"),
        (small, AL2023, "minSize of warmPoolConfig must be 0 or more"),
        (limit, AL2023, "maxGroupPreparedCapacity must be -1 or more"),
        (enabled(), custom, "Warm pools are not supported for node groups with a custom AMI"),
        (enabled(), spot, "Warm pools are not supported for node groups of capacityType SPOT"),
        (
            state("HIBERNATED"),
            bottlerocket,
            "poolState HIBERNATED is not supported for Bottlerocket",
        ),
        (reuse, bottlerocket, "reuseOnScaleIn is not supported for Bottlerocket AMIs"),
    ] {
        let fault = merged(None, &asked, kind).unwrap_err();
        assert_eq!(fault.code, "InvalidParameterException");
        assert!(fault.message.starts_with(message), "{}", fault.message);
    }
    assert!(merged(None, &state("RUNNING"), bottlerocket).is_ok());
    let disabled = WarmPoolConfig { enabled: Some(false), ..Default::default() };
    assert_eq!(merged(None, &disabled, custom).unwrap(), None, "it has none");
}

/// The Auto Scaling group after `PutWarmPool`.
fn given(request: PutWarmPoolRequest) -> AutoScalingGroup {
    let pool = WarmPoolConfiguration {
        max_group_prepared_capacity: request.max_group_prepared_capacity,
        min_size: request.min_size,
        pool_state: request.pool_state,
        status: None,
        instance_reuse_policy: request.instance_reuse_policy,
    };
    AutoScalingGroup { warm_pool_configuration: Some(pool), ..Default::default() }
}

#[test]
fn the_pool_that_auto_scaling_was_given_is_the_one_that_is_wanted() {
    let given = |pool: &WarmPoolConfig| given(put("eks-g-1".to_owned(), pool));
    let running = WarmPoolConfig { pool_state: Some("RUNNING".to_owned()), ..whole() };
    let limited =
        WarmPoolConfig { min_size: Some(2), max_group_prepared_capacity: Some(7), ..whole() };
    let hibernated = WarmPoolConfig {
        pool_state: Some("HIBERNATED".to_owned()),
        reuse_on_scale_in: Some(true),
        ..whole()
    };
    for pool in [whole(), running, limited, hibernated] {
        assert_eq!(observed(&given(&pool)), Some(pool));
    }
    assert_eq!(observed(&AutoScalingGroup::default()), None);
    let mut leaving = given(&whole());
    leaving.warm_pool_configuration.as_mut().unwrap().status = Some("PendingDelete".to_owned());
    assert_eq!(observed(&leaving), None);
}

#[test]
fn what_hibernates_is_launched_with_an_encrypted_root() {
    let root_of = |data: &RequestLaunchTemplateData| data.block_device_mappings[0].ebs.clone();
    let mut data = RequestLaunchTemplateData::default();
    configure_hibernation(&mut data);
    configure_hibernation(&mut data);
    assert_eq!(data.hibernation_options.as_ref().unwrap().configured, Some(true));
    assert_eq!(data.block_device_mappings.len(), 1);
    assert_eq!(root_of(&data).unwrap().encrypted, Some(true));
    let ebs = aws_ec2::launch_template_request::LaunchTemplateEbsBlockDeviceRequest {
        volume_size: Some(64),
        ..Default::default()
    };
    data.block_device_mappings[0].ebs = Some(ebs);
    configure_hibernation(&mut data);
    let root = root_of(&data).unwrap();
    assert_eq!((root.encrypted, root.volume_size), (Some(true), Some(64)));
}
