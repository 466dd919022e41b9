//! The warm pool of a node group: what may be asked for, what a change makes of it, and the pool of the
//! Auto Scaling group that comes of it.
//!
//! Source: EKS API reference, `WarmPoolConfig`; EKS user guide, "Decrease latency for applications with
//! long boot times using warm pools with managed node groups". Messages are our own.
//! Deviation: what returns to a pool that does not stop its instances is rebooted, so that it is no node
//! there; how EKS has it leave the cluster is not documented.

use aws_autoscaling::{
    group::{AutoScalingGroup, Instance},
    warm_pool::{
        DeleteWarmPool, DeleteWarmPoolRequest, DescribeWarmPool, DescribeWarmPoolRequest,
        InstanceReusePolicy, PutWarmPool, PutWarmPoolRequest,
    },
};
use aws_ec2::launch_template_request::{
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateHibernationOptionsRequest,
    RequestLaunchTemplateData,
};
use aws_eks::WarmPoolConfig;
use aws_wire::Fault;

use super::{
    records::{Issue, Nodegroup},
    resources, template,
    validate::{BOTTLEROCKET, CUSTOM},
};
use crate::{Eks, faults, reconcile::PassError};

/// Of EKS's images.
const ROOT: &str = "/dev/xvda";
const STATES: [&str; 3] = ["STOPPED", "RUNNING", "HIBERNATED"];

/// What the pool of a group depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind<'a> {
    pub(crate) ami_type: &'a str,
    pub(crate) capacity_type: &'a str,
}

/// The pool as it shall be, whole: what is not asked for stays as it is, or is EKS's default. `None`:
/// there shall be none.
pub(crate) fn merged(
    current: Option<&WarmPoolConfig>,
    asked: &WarmPoolConfig,
    kind: Kind<'_>,
) -> Result<Option<WarmPoolConfig>, Fault> {
    check(asked, kind)?;
    if !asked.enabled.unwrap_or(current.is_some()) {
        let says_more = WarmPoolConfig { enabled: None, ..asked.clone() };
        return match asked.enabled.is_none() && says_more != WarmPoolConfig::default() {
            true => wrong("warmPoolConfig is for a warm pool that is enabled"),
            false => Ok(None),
        };
    }
    let current = current.cloned().unwrap_or_default();
    let prepared = asked.max_group_prepared_capacity.or(current.max_group_prepared_capacity);
    let state = asked.pool_state.clone().or(current.pool_state);
    Ok(Some(WarmPoolConfig {
        enabled: Some(true),
        min_size: asked.min_size.or(current.min_size).or(Some(0)),
        // -1 takes the limit away.
        max_group_prepared_capacity: prepared.filter(|it| *it != -1),
        pool_state: state.or_else(|| Some("STOPPED".to_owned())),
        reuse_on_scale_in: asked.reuse_on_scale_in.or(current.reuse_on_scale_in).or(Some(false)),
    }))
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(faults::invalid_parameter(message))
}

fn check(asked: &WarmPoolConfig, kind: Kind<'_>) -> Result<(), Fault> {
    let state = asked.pool_state.as_deref();
    let reuses = asked.reuse_on_scale_in == Some(true);
    let is_bottlerocket = kind.ami_type == BOTTLEROCKET;
    match () {
        () if state.is_some_and(|it| !STATES.contains(&it)) => {
            wrong(format!("poolState must be one of {}", STATES.join(", ")))
        }
        () if asked.min_size.is_some_and(|it| it < 0) => {
            wrong("minSize of warmPoolConfig must be 0 or more")
        }
        () if asked.max_group_prepared_capacity.is_some_and(|it| it < -1) => {
            wrong("maxGroupPreparedCapacity must be -1 or more")
        }
        // Who wants none may say so of any group.
        () if asked.enabled == Some(false) => Ok(()),
        () if kind.ami_type == CUSTOM => {
            wrong("Warm pools are not supported for node groups with a custom AMI")
        }
        () if kind.capacity_type == "SPOT" => {
            wrong("Warm pools are not supported for node groups of capacityType SPOT")
        }
        () if is_bottlerocket && state == Some("HIBERNATED") => {
            wrong("poolState HIBERNATED is not supported for Bottlerocket AMIs")
        }
        () if is_bottlerocket && reuses => {
            wrong("reuseOnScaleIn is not supported for Bottlerocket AMIs")
        }
        () => Ok(()),
    }
}

/// What is asked for, as parameters of the update's record.
pub(crate) fn params(asked: &WarmPoolConfig) -> Vec<(String, String)> {
    let said = [
        ("WarmPoolEnabled", asked.enabled.map(|it| it.to_string())),
        (
            "WarmPoolMaxGroupPreparedCapacity",
            asked.max_group_prepared_capacity.map(|it| it.to_string()),
        ),
        ("WarmPoolMinSize", asked.min_size.map(|it| it.to_string())),
        ("WarmPoolState", asked.pool_state.clone()),
        ("WarmPoolReuseOnScaleIn", asked.reuse_on_scale_in.map(|it| it.to_string())),
    ];
    said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// What the Auto Scaling group's pool is in EKS's words; `None` where there is none, or none for long.
pub(crate) fn observed(group: &AutoScalingGroup) -> Option<WarmPoolConfig> {
    let pool = group.warm_pool_configuration.as_ref()?;
    if pool.status.as_deref() == Some("PendingDelete") {
        return None;
    }
    let reuse = pool.instance_reuse_policy.as_ref().and_then(|it| it.reuse_on_scale_in);
    Some(WarmPoolConfig {
        enabled: Some(true),
        min_size: Some(pool.min_size.unwrap_or(0)),
        max_group_prepared_capacity: pool.max_group_prepared_capacity.filter(|it| *it != -1),
        pool_state: Some(pool.pool_state.as_deref().unwrap_or("Stopped").to_ascii_uppercase()),
        reuse_on_scale_in: Some(reuse.unwrap_or(false)),
    })
}

/// Whether what waits in the pool keeps its memory.
pub(crate) fn hibernates(pool: Option<&WarmPoolConfig>) -> bool {
    pool.is_some_and(|it| it.pool_state.as_deref() == Some("HIBERNATED"))
}

/// Whether what comes to the pool is stopped there: it is started anew when it leaves.
pub(crate) fn stops(pool: Option<&WarmPoolConfig>) -> bool {
    pool.is_none_or(|it| it.pool_state.as_deref().is_none_or(|state| state == "STOPPED"))
}

/// What hibernates was launched for it: EKS's own template says so, and that the root volume is
/// encrypted.
pub(crate) fn configure_hibernation(data: &mut RequestLaunchTemplateData) {
    data.hibernation_options =
        Some(LaunchTemplateHibernationOptionsRequest { configured: Some(true) });
    let devices = &mut data.block_device_mappings;
    let at = devices.iter().position(|it| it.device_name.as_deref() == Some(ROOT));
    let at = at.unwrap_or_else(|| {
        let root = LaunchTemplateBlockDeviceMappingRequest {
            device_name: Some(ROOT.to_owned()),
            ..Default::default()
        };
        devices.push(root);
        devices.len() - 1
    });
    devices[at].ebs.get_or_insert_default().encrypted = Some(true);
}

/// Gives the Auto Scaling group this pool, or takes away the one that it has.
pub(crate) async fn apply(
    eks: &Eks,
    group: &Nodegroup,
    pool: Option<WarmPoolConfig>,
) -> Result<Option<Issue>, PassError> {
    if hibernates(pool.as_ref()) {
        let cluster = eks.find(&group.cluster)?;
        let data = match template::own(eks, &cluster, group) {
            Ok(data) => data,
            Err(issue) => return Ok(Some(issue)),
        };
        let version = resources::ensure_template_version(eks, group, data).await?;
        if group.template_version != Some(version) {
            resources::launch_from(eks, group, version).await?;
            eks.note_nodegroup(group, |it| it.template_version = Some(version))?;
        }
    }
    set(eks, group, pool).await.map(|()| None)
}

/// Instances that were in service, are on their way into the pool, and are held by the hook on which EKS
/// drains them.
pub(crate) async fn returning(
    eks: &Eks,
    group: &AutoScalingGroup,
) -> Result<Vec<String>, PassError> {
    let pool = group.warm_pool_configuration.as_ref();
    let policy = pool.and_then(|it| it.instance_reuse_policy.as_ref());
    if policy.and_then(|it| it.reuse_on_scale_in) != Some(true) {
        return Ok(Vec::new());
    }
    let mut held = Vec::new();
    let mut request = DescribeWarmPoolRequest {
        auto_scaling_group_name: group.auto_scaling_group_name.clone().unwrap_or_default(),
        ..Default::default()
    };
    loop {
        let page = eks.0.config.client.call::<DescribeWarmPool>(request.clone()).await?;
        let waits = |it: &Instance| it.lifecycle_state.as_deref() == Some("Warmed:Pending:Wait");
        held.extend(page.instances.into_iter().filter(waits).filter_map(|it| it.instance_id));
        request.next_token = page.next_token;
        if request.next_token.is_none() {
            return Ok(held);
        }
    }
}

async fn set(eks: &Eks, group: &Nodegroup, pool: Option<WarmPoolConfig>) -> Result<(), PassError> {
    let (client, name) = (&eks.0.config.client, group.auto_scaling_group());
    match pool {
        Some(pool) => client.call::<PutWarmPool>(put(name, &pool)).await.map(drop)?,
        None => {
            let request = DeleteWarmPoolRequest {
                auto_scaling_group_name: name,
                // Nobody works on what waits there.
                force_delete: Some(true),
            };
            client.call::<DeleteWarmPool>(request).await.map(drop)?;
        }
    }
    Ok(())
}

fn put(name: String, pool: &WarmPoolConfig) -> PutWarmPoolRequest {
    let state = match pool.pool_state.as_deref() {
        Some("RUNNING") => "Running",
        Some("HIBERNATED") => "Hibernated",
        _ => "Stopped",
    };
    PutWarmPoolRequest {
        auto_scaling_group_name: name,
        // What is not said is kept: an earlier limit would stay.
        max_group_prepared_capacity: Some(pool.max_group_prepared_capacity.unwrap_or(-1)),
        min_size: pool.min_size,
        pool_state: Some(state.to_owned()),
        instance_reuse_policy: Some(InstanceReusePolicy {
            reuse_on_scale_in: pool.reuse_on_scale_in,
        }),
    }
}

#[cfg(test)]
mod tests;
