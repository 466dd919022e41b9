//! Warm pools: made, described, deleted. How they are filled is planned.

use aws_autoscaling::warm_pool::{
    DeleteWarmPoolRequest, DeleteWarmPoolResponse, DescribeWarmPoolRequest,
    DescribeWarmPoolResponse, PutWarmPoolRequest, PutWarmPoolResponse,
};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, faults,
    groups::MOST,
    plan::mixed,
    records::WarmPool,
    shape::{self, page},
    template,
};

pub(crate) async fn put(
    service: &AutoScaling,
    _call: Call<'_>,
    request: PutWarmPoolRequest,
) -> Result<PutWarmPoolResponse, Fault> {
    let (runs, hibernates) = match request.pool_state.as_deref() {
        None | Some("Stopped") => (false, false),
        Some("Running") => (true, false),
        Some("Hibernated") => (false, true),
        Some(other) => return Err(faults::validation(format!("Invalid PoolState '{other}'"))),
    };
    let reuses = request.instance_reuse_policy.and_then(|it| it.reuse_on_scale_in);
    let group = service.group(&request.auto_scaling_group_name)?;
    if hibernates && !template::can_hibernate(service.ec2()?, &group).await? {
        return Err(faults::validation(
            "The launch template of the Auto Scaling group is not configured for hibernation.",
        ));
    }
    let min = request.min_size.unwrap_or(0);
    // -1 takes the limit away.
    let max_prepared = request.max_group_prepared_capacity.filter(|it| *it != -1);
    let sizes = 0..=MOST;
    if !sizes.contains(&min) || max_prepared.is_some_and(|it| !sizes.contains(&it)) {
        return Err(faults::validation(format!(
            "MinSize and MaxGroupPreparedCapacity must be 0 to {MOST}."
        )));
    }
    service.update(&request.auto_scaling_group_name, |group, _| {
        if mixed::asks_for_spot(group) {
            return Err(faults::validation(
                "You can't add a warm pool to an Auto Scaling group that requests Spot Instances.",
            ));
        }
        group.warm_pool = Some(WarmPool { min, max_prepared, runs, hibernates, reuses });
        Ok(())
    })?;
    Ok(PutWarmPoolResponse {})
}

/// Its instances go with it.
pub(crate) async fn delete(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DeleteWarmPoolRequest,
) -> Result<DeleteWarmPoolResponse, Fault> {
    service.update(&request.auto_scaling_group_name, |group, _| match group.warm_pool.take() {
        Some(_) => Ok(()),
        None => Err(faults::validation(format!(
            "No warm pool found for Auto Scaling group {}",
            group.name
        ))),
    })?;
    Ok(DeleteWarmPoolResponse {})
}

pub(crate) async fn describe(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DescribeWarmPoolRequest,
) -> Result<DescribeWarmPoolResponse, Fault> {
    let group = service.group(&request.auto_scaling_group_name)?;
    let warmed = group.members.values().filter(|it| it.state.is_warmed()).collect();
    let (found, next_token) =
        page(warmed, request.max_records, request.next_token.as_deref(), |it| {
            it.instance_id.clone()
        })?;
    Ok(DescribeWarmPoolResponse {
        warm_pool_configuration: group.warm_pool.as_ref().map(shape::warm_pool),
        instances: found.into_iter().map(shape::member).collect(),
        next_token,
    })
}
