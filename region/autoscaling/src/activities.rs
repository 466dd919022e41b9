//! The history of groups, newest first.

use aws_autoscaling::activity::{ActivitiesType, DescribeScalingActivitiesRequest};
use aws_wire::Fault;
use region_store::Bucket;

use crate::{AutoScaling, Call, records::Activity, shape};

/// What is kept per group. Deviation: EC2 Auto Scaling keeps six weeks.
const KEPT: usize = 100;

/// The keys of a group's oldest lines, beyond what is kept when one more comes.
pub(crate) fn surplus(activities: &Bucket<Activity>, group: &str) -> Vec<String> {
    let mut of_group: Vec<_> = activities
        .entries()
        .into_iter()
        .filter(|(_, it)| it.group == group && it.status.is_over())
        .map(|(key, it)| (it.started_at, key))
        .collect();
    of_group.sort();
    let surplus = (of_group.len() + 1).saturating_sub(KEPT);
    of_group.into_iter().take(surplus).map(|(_, key)| key).collect()
}

pub(crate) async fn describe(
    service: &AutoScaling,
    _call: Call<'_>,
    request: DescribeScalingActivitiesRequest,
) -> Result<ActivitiesType, Fault> {
    if let Some(name) = &request.auto_scaling_group_name {
        service.group(name)?;
    }
    let mut found: Vec<_> = service
        .activities()
        .into_iter()
        .filter(|it| request.auto_scaling_group_name.as_ref().is_none_or(|name| it.group == *name))
        .filter(|it| request.activity_ids.is_empty() || request.activity_ids.contains(&it.id))
        .collect();
    // A page's key must ascend, and the newest comes first.
    let key = |it: &std::sync::Arc<Activity>| {
        format!("{:020}/{}", i64::MAX - it.started_at.as_microsecond(), it.id)
    };
    found.sort_by_key(key);
    let (found, next_token) =
        shape::page(found, request.max_records, request.next_token.as_deref(), key)?;
    let arn = |name: &str| service.group(name).ok().map(|it| it.arn.clone());
    let activities =
        found.iter().map(|it| shape::activity(it, arn(&it.group).as_deref())).collect();
    Ok(ActivitiesType { activities, next_token })
}
