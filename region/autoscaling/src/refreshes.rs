//! Instance refreshes: begun, watched, called off, taken back. What they do is planned.

use aws_autoscaling::instance_refresh::{
    DescribeInstanceRefreshesRequest, DescribeInstanceRefreshesResponse, InstanceRefresh,
    InstanceRefreshId, OfGroup, RefreshPreferences, StartInstanceRefreshRequest,
};
use aws_wire::Fault;

use crate::{
    AutoScaling, Call, faults,
    records::{Group, Refresh, RefreshStatus},
    shape::{date, page},
    template,
};

/// Two days: for so long a refresh rests at most.
const MOST_BAKING: i64 = 172_800;
/// How many are remembered of a group.
const KEPT: usize = 20;

pub(crate) async fn start(
    service: &AutoScaling,
    call: Call<'_>,
    request: StartInstanceRefreshRequest,
) -> Result<InstanceRefreshId, Fault> {
    let group = service.group(&request.auto_scaling_group_name)?;
    if request.strategy.as_deref().is_some_and(|it| it != "Rolling") {
        return Err(faults::unsupported("Strategies but Rolling"));
    }
    let preferences = preferences(request.preferences.unwrap_or_default(), &group)?;
    let goes_back = preferences.auto_rollback == Some(true);
    let is_numbered = !group.source.template().version.starts_with('$');
    if goes_back && !(request.desired_configuration.is_some() && is_numbered) {
        return Err(faults::validation(
            "AutoRollback requires a desired configuration, and a group whose launch template has a \
             version number.",
        ));
    }
    let ec2 = service.ec2()?;
    let source = match request.desired_configuration.clone() {
        None => None,
        Some(it) => {
            Some(template::source(ec2, it.launch_template, it.mixed_instances_policy).await?)
        }
    };
    let named = source.as_ref().unwrap_or(&group.source).template();
    let wanted = template::resolve(ec2, Some(named.id.clone()), None, &named.version).await;
    let wanted = wanted.map_err(|it| faults::of_call(&it))?;
    let id = entropy::uuid();
    service.update(&request.auto_scaling_group_name, |group, _| {
        if group.refresh().is_some() {
            return Err(Fault::new(
                "InstanceRefreshInProgress",
                "An Instance Refresh is already in progress and blocks the execution of this \
                 Instance Refresh.",
            ));
        }
        let previous = source.map(|it| std::mem::replace(&mut group.source, it));
        group.refreshes.push(Refresh {
            id: id.clone(),
            status: RefreshStatus::Pending,
            reason: None,
            started_at: call.now,
            ended_at: None,
            preferences,
            desired: request.desired_configuration,
            wanted,
            previous,
            total: 0,
            left: Default::default(),
            surplus: 0,
            warm_at: None,
            is_waiting: false,
            blocked_since: None,
            passed: 0,
            resumes_at: None,
        });
        let surplus = group.refreshes.len().saturating_sub(KEPT);
        group.refreshes.drain(..surplus);
        Ok(())
    })?;
    Ok(InstanceRefreshId { instance_refresh_id: Some(id) })
}

/// With the defaults written out.
fn preferences(given: RefreshPreferences, group: &Group) -> Result<RefreshPreferences, Fault> {
    check_checkpoints(&given)?;
    let standby = given.standby_instances.as_deref().unwrap_or("Wait");
    if !["Terminate", "Ignore", "Wait"].contains(&standby) {
        return Err(faults::validation("Invalid value for StandbyInstances."));
    }
    if given.bake_time.is_some_and(|it| !(0..=MOST_BAKING).contains(&it)) {
        return Err(faults::validation(format!("BakeTime must be 0 to {MOST_BAKING} seconds.")));
    }
    let protected = given.scale_in_protected_instances.as_deref().unwrap_or("Wait");
    if !["Refresh", "Ignore", "Wait"].contains(&protected) {
        return Err(faults::validation("Invalid value for ScaleInProtectedInstances."));
    }
    let of_group =
        |pick: fn((i64, i64)) -> i64| group.healthy_percentages.map(pick).filter(|it| *it >= 0);
    let least = given.min_healthy_percentage.or_else(|| of_group(|it| it.0)).unwrap_or(90);
    let most = given.max_healthy_percentage.or_else(|| of_group(|it| it.1)).unwrap_or(100);
    if !(0..=100).contains(&least) || !(100..=200).contains(&most) || most - least > 100 {
        return Err(faults::validation(
            "MinHealthyPercentage must be 0 to 100, MaxHealthyPercentage 100 to 200, and their \
             difference 100 at most.",
        ));
    }
    let warmup = given.instance_warmup.filter(|it| *it >= 0).or(group.default_instance_warmup);
    Ok(RefreshPreferences {
        min_healthy_percentage: Some(least),
        // Who must not be missed and not be added to could never be replaced.
        max_healthy_percentage: Some(if least == 100 { most.max(110) } else { most }),
        instance_warmup: Some(warmup.unwrap_or(group.health_check_grace_period)),
        scale_in_protected_instances: Some(protected.to_owned()),
        standby_instances: Some(standby.to_owned()),
        // An hour, where there is any.
        checkpoint_delay: match given.checkpoint_percentages.is_empty() {
            true => None,
            false => Some(given.checkpoint_delay.unwrap_or(3600)),
        },
        ..given
    })
}

/// Shares of the group, each larger than the one before.
fn check_checkpoints(given: &RefreshPreferences) -> Result<(), Fault> {
    let shares = &given.checkpoint_percentages;
    if shares.is_empty() && given.checkpoint_delay.is_some() {
        return Err(faults::validation("CheckpointDelay requires CheckpointPercentages."));
    }
    let is_ascending = shares.windows(2).all(|it| it[0] < it[1]);
    let is_good = is_ascending && shares.iter().all(|it| (1..=100).contains(it));
    let delay = given.checkpoint_delay.unwrap_or(0);
    match is_good && (0..=MOST_BAKING).contains(&delay) {
        true => Ok(()),
        false => Err(faults::validation(format!(
            "CheckpointPercentages must be unique, ascending, and 1 to 100, CheckpointDelay 0 to \
             {MOST_BAKING} seconds."
        ))),
    }
}

pub(crate) async fn cancel(
    service: &AutoScaling,
    _call: Call<'_>,
    request: OfGroup,
) -> Result<InstanceRefreshId, Fault> {
    change(service, &request.auto_scaling_group_name, |_, refresh| {
        refresh.status = RefreshStatus::Cancelling;
        refresh.surplus = 0;
        refresh.reason = Some("Cancelled due to user request.".to_owned());
        Ok(())
    })
}

/// Back to what the group launched from before.
pub(crate) async fn rollback(
    service: &AutoScaling,
    _call: Call<'_>,
    request: OfGroup,
) -> Result<InstanceRefreshId, Fault> {
    change(service, &request.auto_scaling_group_name, |group, refresh| {
        match refresh.roll_back(group) {
            true => Ok(()),
            false => Err(Fault::new(
                "IrreversibleInstanceRefresh",
                "The instance refresh has no desired configuration, or the group had a launch \
                 template without a version number before.",
            )),
        }
    })
}

fn change(
    service: &AutoScaling,
    name: &str,
    change: impl FnOnce(&mut Group, &mut Refresh) -> Result<(), Fault>,
) -> Result<InstanceRefreshId, Fault> {
    service.group(name)?;
    let id = service.update(name, |group, _| {
        let found = group.refreshes.pop_if(|it| !it.status.is_over());
        let mut refresh = found.ok_or_else(|| {
            Fault::new(
                "ActiveInstanceRefreshNotFound",
                format!(
                    "No in progress or pending Instance Refresh found for Auto Scaling group {}",
                    group.name
                ),
            )
        })?;
        change(group, &mut refresh)?;
        let id = refresh.id.clone();
        group.refreshes.push(refresh);
        Ok(id)
    })?;
    Ok(InstanceRefreshId { instance_refresh_id: Some(id) })
}

pub(crate) async fn describe(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DescribeInstanceRefreshesRequest,
) -> Result<DescribeInstanceRefreshesResponse, Fault> {
    let group = service.group(&request.auto_scaling_group_name)?;
    let wanted = &request.instance_refresh_ids;
    let newest_first = group.refreshes.iter().rev();
    let found: Vec<(usize, &Refresh)> = newest_first
        .enumerate()
        .filter(|(_, it)| wanted.is_empty() || wanted.contains(&it.id))
        .collect();
    let (found, next_token) =
        page(found, request.max_records, request.next_token.as_deref(), |(at, _)| {
            format!("{at:04}")
        })?;
    let instance_refreshes = found.into_iter().map(|(_, it)| shape(&group, it)).collect();
    Ok(DescribeInstanceRefreshesResponse { instance_refreshes, next_token })
}

fn shape(group: &Group, it: &Refresh) -> InstanceRefresh {
    let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
    let done = it.total - it.left.len().min(it.total);
    let percentage = match (it.total, it.status) {
        (_, RefreshStatus::Successful) if it.left.is_empty() => 100,
        (_, RefreshStatus::Baking | RefreshStatus::RollbackSuccessful) => 100,
        (0, _) => 0,
        (total, _) => count(done * 100 / total),
    };
    InstanceRefresh {
        instance_refresh_id: Some(it.id.clone()),
        auto_scaling_group_name: Some(group.name.clone()),
        status: Some(it.status.name().to_owned()),
        status_reason: it.reason.clone(),
        start_time: Some(date(it.started_at)),
        end_time: it.ended_at.map(date),
        percentage_complete: Some(percentage),
        instances_to_update: Some(count(it.left.len())),
        preferences: Some(it.preferences.clone()),
        desired_configuration: it.desired.clone(),
        strategy: Some("Rolling".to_owned()),
    }
}
