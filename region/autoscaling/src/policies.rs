//! Scaling policies: kept, described, and carried out when somebody asks for it.
//!
//! Source: user guide, "Step and simple scaling policies for Amazon EC2 Auto Scaling".
//! Deviation: there is no CloudWatch: no alarm carries a policy out, and policies that make alarms (target
//! tracking, predictive scaling) are refused. The warm-up of step policies is kept and holds up nothing.

use aws_autoscaling::policy::{
    DeletePolicyRequest, DeletePolicyResponse, DescribePoliciesRequest, DescribePoliciesResponse,
    ExecutePolicyRequest, ExecutePolicyResponse, PutScalingPolicyRequest, PutScalingPolicyResponse,
    ScalingPolicy, StepAdjustment,
};
use aws_wire::Fault;
use jiff::SignedDuration;

use crate::{
    AutoScaling, Call, faults,
    plan::seconds,
    records::{AdjustmentType, Group, Policy, PolicyKind},
    shape::page,
};

const SIMPLE: &str = "SimpleScaling";
const STEP: &str = "StepScaling";

pub(crate) async fn put(
    service: &AutoScaling,
    call: Call<'_>,
    request: PutScalingPolicyRequest,
) -> Result<PutScalingPolicyResponse, Fault> {
    let kind = kind(&request)?;
    let named = request.adjustment_type.as_deref();
    let adjustment_type = AdjustmentType::ALL.into_iter().find(|it| Some(it.name()) == named);
    let adjustment_type = adjustment_type.ok_or_else(|| {
        faults::validation(
            "AdjustmentType must be one of ChangeInCapacity, ExactCapacity or \
                            PercentChangeInCapacity.",
        )
    })?;
    let least = request.min_adjustment_magnitude.or(request.min_adjustment_step);
    if least.is_some() && adjustment_type != AdjustmentType::PercentChangeInCapacity {
        return Err(faults::validation(
            "MinAdjustmentMagnitude is for the adjustment type PercentChangeInCapacity.",
        ));
    }
    let (region, account) = (&call.config.region, &call.config.account);
    let name = request.policy_name.clone();
    let arn = service.update(&request.auto_scaling_group_name, |group, _| {
        let arn = group.policies.get(&name).map_or_else(
            || {
                format!(
                    "arn:aws:autoscaling:{region}:{account}:scalingPolicy:{}:autoScalingGroupName/\
                     {}:policyName/{name}",
                    entropy::uuid(),
                    group.name
                )
            },
            |known| known.arn.clone(),
        );
        let is_enabled = request.enabled.unwrap_or(true);
        let policy = Policy {
            name: name.clone(),
            arn: arn.clone(),
            adjustment_type,
            least,
            kind,
            is_enabled,
        };
        group.policies.insert(name.clone(), policy);
        Ok(arn)
    })?;
    Ok(PutScalingPolicyResponse { policy_arn: Some(arn), alarms: Vec::new() })
}

fn kind(request: &PutScalingPolicyRequest) -> Result<PolicyKind, Fault> {
    let wrong = |message: String| Err(faults::validation(message));
    let is_simple = match request.policy_type.as_deref() {
        None | Some(SIMPLE) => true,
        Some(STEP) => false,
        Some("TargetTrackingScaling" | "PredictiveScaling") => {
            return Err(faults::unsupported("Scaling policies that need CloudWatch"));
        }
        Some(other) => return wrong(format!("Invalid PolicyType '{other}'")),
    };
    match (is_simple, request.scaling_adjustment, request.step_adjustments.is_empty()) {
        (true, Some(adjustment), true) => {
            Ok(PolicyKind::Simple { adjustment, cooldown: request.cooldown })
        }
        (false, None, false) => {
            check_steps(&request.step_adjustments)?;
            let aggregation = request.metric_aggregation_type.clone();
            Ok(PolicyKind::Step {
                steps: request.step_adjustments.clone(),
                aggregation: aggregation.unwrap_or_else(|| "Average".to_owned()),
                warmup: request.estimated_instance_warmup,
            })
        }
        (true, ..) => wrong(format!("{SIMPLE} policies need a ScalingAdjustment and no steps.")),
        (false, ..) => wrong(format!("{STEP} policies need StepAdjustments alone.")),
    }
}

/// Intervals have no gap and do not overlap.
fn check_steps(steps: &[StepAdjustment]) -> Result<(), Fault> {
    let mut bounds: Vec<(f64, f64)> = steps
        .iter()
        .map(|it| {
            let lower = it.metric_interval_lower_bound.unwrap_or(f64::NEG_INFINITY);
            (lower, it.metric_interval_upper_bound.unwrap_or(f64::INFINITY))
        })
        .collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let is_sound = bounds.iter().all(|(lower, upper)| lower < upper)
        && bounds.windows(2).all(|it| (it[0].1 - it[1].0).abs() < f64::EPSILON)
        && steps.iter().all(|it| it.scaling_adjustment.is_some());
    match is_sound {
        true => Ok(()),
        false => Err(faults::validation(
            "StepAdjustments must have adjustments, and intervals without gaps or overlaps.",
        )),
    }
}

pub(crate) async fn delete(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DeletePolicyRequest,
) -> Result<DeletePolicyResponse, Fault> {
    let (group, policy) =
        find(service, request.auto_scaling_group_name.as_deref(), &request.policy_name)?;
    service.update(&group, |group, _| {
        group.policies.remove(&policy);
        Ok(())
    })?;
    Ok(DeletePolicyResponse {})
}

/// By name in a group, or by ARN.
fn find(service: &AutoScaling, group: Option<&str>, name: &str) -> Result<(String, String), Fault> {
    let groups = match group {
        Some(group) => vec![service.group(group)?],
        None => service.groups(),
    };
    let is_meant = |it: &&Policy| it.arn == name || (group.is_some() && it.name == name);
    let found = groups.iter().find_map(|group| {
        let policy = group.policies.values().find(is_meant)?;
        Some((group.name.clone(), policy.name.clone()))
    });
    found.ok_or_else(|| {
        faults::validation(format!("PolicyName not found - policy {name} not found"))
    })
}

pub(crate) async fn execute(
    service: &AutoScaling,
    call: Call<'_>,
    request: ExecutePolicyRequest,
) -> Result<ExecutePolicyResponse, Fault> {
    let (group, name) =
        find(service, request.auto_scaling_group_name.as_deref(), &request.policy_name)?;
    service.update(&group, |group, _| {
        let Some(policy) = group.policies.get(&name).cloned() else { return Ok(()) };
        let by = adjustment(&policy, &request)?;
        let is_simple = matches!(policy.kind, PolicyKind::Simple { .. });
        let is_cooling = group.cools_until.is_some_and(|it| it > call.now);
        if is_simple && is_cooling && request.honor_cooldown == Some(true) {
            return Err(Fault::new(
                "ScalingActivityInProgress",
                "The policy cannot be carried out: the group is in its cooldown.",
            ));
        }
        change(&call, group, &policy, by);
        Ok(())
    })?;
    Ok(ExecutePolicyResponse {})
}

/// By how much: of a step policy, what the breach says.
fn adjustment(policy: &Policy, request: &ExecutePolicyRequest) -> Result<i64, Fault> {
    let steps = match &policy.kind {
        PolicyKind::Simple { adjustment, .. } => return Ok(*adjustment),
        PolicyKind::Step { steps, .. } => steps,
    };
    let Some((value, threshold)) = request.metric_value.zip(request.breach_threshold) else {
        return Err(faults::validation(
            "MetricValue and BreachThreshold are required for policies of the type StepScaling.",
        ));
    };
    let beyond = value - threshold;
    // At its threshold an alarm that looks up is breached, and so is one that looks down.
    let holds = |it: &&StepAdjustment| {
        let (lower, upper) = (it.metric_interval_lower_bound, it.metric_interval_upper_bound);
        match beyond >= 0.0 {
            true => lower.is_none_or(|it| it <= beyond) && upper.is_none_or(|it| beyond < it),
            false => lower.is_none_or(|it| it < beyond) && upper.is_none_or(|it| beyond <= it),
        }
    };
    let found = steps.iter().find(holds).and_then(|it| it.scaling_adjustment);
    found.ok_or_else(|| faults::validation("No step adjustment is for that breach."))
}

fn change(call: &Call<'_>, group: &mut Group, policy: &Policy, by: i64) {
    let before = group.desired;
    let desired = policy.adjusted(before, by).clamp(group.min, group.max);
    if desired == before || group.is_deleting {
        return;
    }
    group.last_change = format!(
        "At {} a user request executed policy {} changing the desired capacity from {before} to \
         {desired}.",
        seconds(call.now),
        policy.name
    );
    (group.desired, group.retry) = (desired, None);
    if let PolicyKind::Simple { cooldown, .. } = policy.kind {
        let pause = SignedDuration::from_secs(cooldown.unwrap_or(group.default_cooldown).max(0));
        group.cools_until = call.now.checked_add(pause).ok();
    }
}

pub(crate) async fn describe(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DescribePoliciesRequest,
) -> Result<DescribePoliciesResponse, Fault> {
    let groups = match &request.auto_scaling_group_name {
        Some(name) => vec![service.group(name)?],
        None => service.groups(),
    };
    let (names, kinds) = (&request.policy_names, &request.policy_types);
    let of_kind = |it: &Policy| kinds.is_empty() || kinds.iter().any(|kind| kind == name_of(it));
    let is_named = |it: &Policy| {
        names.is_empty() || names.iter().any(|name| *name == it.name || *name == it.arn)
    };
    let mut found: Vec<(&Group, &Policy)> = groups
        .iter()
        .flat_map(|group| group.policies.values().map(move |it| (&**group, it)))
        .filter(|(_, it)| is_named(it) && of_kind(it))
        .collect();
    let key = |(group, it): &(&Group, &Policy)| format!("{}/{}", group.name, it.name);
    found.sort_by_key(key);
    let (found, next_token) =
        page(found, request.max_records.or(Some(50)), request.next_token.as_deref(), key)?;
    let scaling_policies = found.into_iter().map(|(group, it)| answer(group, it)).collect();
    Ok(DescribePoliciesResponse { scaling_policies, next_token })
}

fn name_of(policy: &Policy) -> &'static str {
    match policy.kind {
        PolicyKind::Simple { .. } => SIMPLE,
        PolicyKind::Step { .. } => STEP,
    }
}

fn answer(group: &Group, policy: &Policy) -> ScalingPolicy {
    let base = ScalingPolicy {
        auto_scaling_group_name: Some(group.name.clone()),
        policy_name: Some(policy.name.clone()),
        policy_arn: Some(policy.arn.clone()),
        policy_type: Some(name_of(policy).to_owned()),
        adjustment_type: Some(policy.adjustment_type.name().to_owned()),
        min_adjustment_magnitude: policy.least,
        enabled: Some(policy.is_enabled),
        ..Default::default()
    };
    match &policy.kind {
        PolicyKind::Simple { adjustment, cooldown } => {
            ScalingPolicy { scaling_adjustment: Some(*adjustment), cooldown: *cooldown, ..base }
        }
        PolicyKind::Step { steps, aggregation, warmup } => ScalingPolicy {
            step_adjustments: steps.clone(),
            metric_aggregation_type: Some(aggregation.clone()),
            estimated_instance_warmup: *warmup,
            ..base
        },
    }
}
