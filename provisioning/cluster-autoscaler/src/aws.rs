//! Auto Scaling groups as node groups, through the APIs of EC2 Auto Scaling, EC2 and EKS.
//!
//! Upstream: `cloudprovider/aws`. What is known of groups is refreshed each minute, after each change
//! of ours, and in each pass while instances are on their way.
//! Deviation: no static list of instance types, and none of the instance requirements that a launch
//! template itself may have.

mod blueprint;
mod discovery;
mod source;
mod tags;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_autoscaling::{
    activity::{DescribeScalingActivities, DescribeScalingActivitiesRequest},
    capacity::{
        SetDesiredCapacity, SetDesiredCapacityRequest, TerminateInstanceInAutoScalingGroup,
        TerminateInstanceInAutoScalingGroupRequest,
    },
    group::AutoScalingGroup,
};
use aws_wire::{Client, client::CallError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::Mutex;

pub use self::discovery::{Discovery, FixedGroup};
use crate::{
    options::GroupOptions,
    world::{Failure, Group, Instance},
};

const REFRESH: Duration = Duration::from_secs(60);

/// See the module.
pub struct Cloud {
    client: Client,
    discovery: Vec<Discovery>,
    fixed: Vec<FixedGroup>,
    defaults: GroupOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: Vec<Group>,
    /// When they were asked about; none after a change of ours.
    refreshed: Option<Timestamp>,
    /// Blueprints by what they are made from.
    blueprints: BTreeMap<String, (Timestamp, Option<Arc<Node>>)>,
}

impl Cloud {
    pub fn new(
        client: Client,
        discovery: Vec<Discovery>,
        fixed: Vec<FixedGroup>,
        defaults: GroupOptions,
    ) -> Self {
        Self { client, discovery, fixed, defaults, state: Mutex::default() }
    }

    /// The groups as AWS has them.
    pub async fn groups(&self, now: Timestamp) -> Result<Vec<Group>, CallError> {
        let mut state = self.state.lock().await;
        let is_moving = state.groups.iter().any(|it| {
            it.missing() > 0 || it.instances.iter().any(|instance| instance.is_terminating)
        });
        let is_fresh = state.refreshed.is_some_and(|it| it + REFRESH > now);
        if is_fresh && !is_moving {
            return Ok(state.groups.clone());
        }
        let found = discovery::find(&self.client, &self.discovery, &self.fixed).await?;
        state.blueprints.retain(|_, (made, _)| *made + blueprint::KEPT > now);
        let mut groups = Vec::new();
        for (described, fixed) in found {
            groups.push(self.group(&mut state, described, fixed.as_ref(), now).await);
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        state.groups.clone_from(&groups);
        state.refreshed = Some(now);
        Ok(groups)
    }

    async fn group(
        &self,
        state: &mut State,
        described: AutoScalingGroup,
        fixed: Option<&FixedGroup>,
        now: Timestamp,
    ) -> Group {
        let name = described.auto_scaling_group_name.clone().unwrap_or_default();
        let options = tags::options(&described.tags, &self.defaults);
        let key = blueprint::key(&described);
        let blueprint = match state.blueprints.get(&key) {
            Some((_, known)) => known.clone(),
            None => match blueprint::make(&self.client, &described).await {
                Ok(made) => {
                    let made = made.map(Arc::new);
                    state.blueprints.insert(key, (now, made.clone()));
                    made
                }
                // No reason to leave the other groups alone; the next time it is asked again.
                Err(error) => {
                    let error = telemetry::chain(&error);
                    tracing::warn!(group = name, %error, "cannot foresee the nodes of a group");
                    None
                }
            },
        };
        let mut group = Group {
            min: fixed.map_or(described.min_size.unwrap_or(0), |it| it.min),
            max: fixed.map_or(described.max_size.unwrap_or(0), |it| it.max),
            target: described.desired_capacity.unwrap_or(0),
            instances: described.instances.iter().filter_map(instance).collect(),
            blueprint,
            options,
            failure: None,
            name,
        };
        if group.missing() > 0 {
            group.failure = match self.failure(&group.name).await {
                Ok(found) => found,
                // Without it a failed launch is found out by its time being up.
                Err(error) => {
                    let (name, error) = (&group.name, telemetry::chain(&error));
                    tracing::warn!(group = name, %error, "cannot ask for a group's activities");
                    None
                }
            };
        }
        group
    }

    /// The newest launch that failed, if none has begun after it.
    async fn failure(&self, group: &str) -> Result<Option<Failure>, CallError> {
        let request = DescribeScalingActivitiesRequest {
            auto_scaling_group_name: Some(group.to_owned()),
            max_records: Some(10),
            ..Default::default()
        };
        let found = self.client.call::<DescribeScalingActivities>(request).await?.activities;
        let launches = found
            .into_iter()
            .filter(|it| it.description.as_deref().is_some_and(|it| it.starts_with("Launching")));
        let newest = launches.into_iter().next();
        let failed = newest.filter(|it| it.status_code.as_deref() == Some("Failed"));
        Ok(failed.and_then(|it| {
            let at = it.start_time.as_deref()?.parse().ok()?;
            Some(Failure { at, message: it.status_message.unwrap_or_default() })
        }))
    }

    pub async fn set_target(&self, group: &str, target: i64) -> Result<(), CallError> {
        let request = SetDesiredCapacityRequest {
            auto_scaling_group_name: group.to_owned(),
            desired_capacity: target,
            honor_cooldown: Some(false),
        };
        let done = self.client.call::<SetDesiredCapacity>(request).await;
        self.state.lock().await.refreshed = None;
        done.map(drop)
    }

    /// Ends an instance and makes its group smaller by one.
    pub async fn terminate(&self, provider_id: &str) -> Result<(), CallError> {
        self.end(provider_id, true).await
    }

    /// Ends an instance, in whose place its group launches another.
    pub async fn replace(&self, provider_id: &str) -> Result<(), CallError> {
        self.end(provider_id, false).await
    }

    async fn end(&self, provider_id: &str, shrinks: bool) -> Result<(), CallError> {
        let instance_id = provider_id.rsplit('/').next().unwrap_or_default().to_owned();
        let request = TerminateInstanceInAutoScalingGroupRequest {
            instance_id,
            should_decrement_desired_capacity: shrinks,
        };
        let done = self.client.call::<TerminateInstanceInAutoScalingGroup>(request).await;
        self.state.lock().await.refreshed = None;
        done.map(drop)
    }
}

fn instance(it: &aws_autoscaling::group::Instance) -> Option<Instance> {
    let (zone, id) = (it.availability_zone.as_deref()?, it.instance_id.as_deref()?);
    let state = it.lifecycle_state.as_deref().unwrap_or_default();
    // Those of a warm pool do not work yet.
    (!state.starts_with("Warmed")).then(|| Instance {
        provider_id: format!("aws:///{zone}/{id}"),
        is_terminating: state.starts_with("Terminat"),
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use aws_wire::client::{Config, Endpoints, Exchange};
    use clock::Clock;
    use http::{Request, Response};

    use super::*;

    const GROUPS: &str = "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult>\
        <AutoScalingGroups><member><AutoScalingGroupName>g</AutoScalingGroupName>\
        <MinSize>0</MinSize><MaxSize>5</MaxSize><DesiredCapacity>2</DesiredCapacity></member>\
        </AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>";
    const DENIED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
        <Message>not authorized</Message></Error></ErrorResponse>";

    /// An account in which one may look at groups and at nothing else.
    async fn answer<B: AsRef<[u8]>>(
        request: Request<B>,
    ) -> Result<Response<transport::Body>, Infallible> {
        let asked = String::from_utf8_lossy(request.body().as_ref()).into_owned();
        let (code, text) = match asked.contains("Action=DescribeAutoScalingGroups") {
            true => (200, GROUPS),
            false => (403, DENIED),
        };
        let body = transport::full(text.as_bytes());
        Ok(Response::builder().status(code).body(body).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_denied_of_one_group_does_not_end_the_pass() {
        let now = "2026-11-29T12:00:00Z".parse().unwrap();
        let client = Client::new(Config {
            region: "us-east-1".to_owned(),
            endpoints: Endpoints::default(),
            exchange: Exchange::service(tower::service_fn(answer)),
            credentials: None,
            clock: Clock::simulated(now),
            attempts: 1,
        });
        let fixed = vec![FixedGroup::parse("0:5:g").unwrap()];
        let defaults = crate::Options::default().scale_down.defaults;
        let groups = Cloud::new(client, Vec::new(), fixed, defaults).groups(now).await.unwrap();
        let [group] = groups.as_slice() else { panic!("{groups:?}") };
        assert_eq!((group.missing(), &group.failure, &group.blueprint), (2, &None, &None));
    }
}
