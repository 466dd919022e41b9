//! What a caller must be allowed, decided on real policies.

use aws_autoscaling::group::{LaunchTemplate, LaunchTemplateOverrides, MixedInstancesPolicy};
use region_gateway::Authorizer;
use serde_json::{Value, json};

use super::*;

const CREATE: &str = "autoscaling:CreateAutoScalingGroup";

/// Has the policy that the test gives it.
struct Only(Arc<iam_policy::Policy>);

impl Identities for Only {
    fn attached(&self, _: &CallerKind) -> Option<Attached> {
        let policy = iam_policy::Named { name: "ops".to_owned(), policy: self.0.clone() };
        Some(Attached { identity: vec![policy], boundary: None })
    }

    fn role(&self, _: &str) -> Option<Role> {
        None
    }

    fn managed_policy(&self, _: &str) -> Option<iam_policy::Named> {
        None
    }
}

fn ops() -> Caller {
    let at = "2026-11-23T12:00:00Z".parse().unwrap();
    Caller {
        arn: "arn:aws:iam::111122223333:user/ops".to_owned(),
        kind: CallerKind::User { name: "ops".to_owned() },
        ..Caller::root("111122223333", "us-east-1", at)
    }
}

/// The refusal of the first target that these statements do not allow.
fn denied<O: Operation>(
    service: &AutoScaling,
    statements: Value,
    request: &O::Request,
) -> Option<String>
where
    AutoScaling: Handle<O>,
{
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = iam_policy::Policy::parse(&text, iam_policy::Kind::Identity).unwrap();
    let authorizer = Authorizer::new(Arc::new(Only(Arc::new(policy))));
    let action = format!("{}:{}", O::SERVICE, O::ACTION);
    let targets = Handle::<O>::targets(service, &ops(), request);
    assert!(!targets.is_empty());
    let decided = targets.iter().map(|it| authorizer.decide(&ops(), &action, it));
    let mut refused = decided.filter(|it| !it.decision.is_allowed());
    refused.next().map(|it| it.denial(&ops(), O::SERVICE).message)
}

fn allow(action: &str, resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

#[tokio::test(start_paused = true)]
async fn who_gives_a_group_its_template_must_be_allowed_to_launch_from_it() {
    let region = region();
    let service = &region.service;
    let refused = Some("You are not authorized to use launch template: lt-1".to_owned());
    let create = create(1);
    let check = |statements| denied::<CreateAutoScalingGroup>(service, statements, &create);
    assert_eq!(check(json!([allow("autoscaling:*", "*")])), refused);
    assert_eq!(check(json!([allow("autoscaling:*", "*"), allow("ec2:*", "*")])), refused);
    let launch = allow("ec2:RunInstances", "*");
    let role = allow("iam:PassRole", "arn:aws:iam::111122223333:role/nodes");
    assert_eq!(check(json!([allow(CREATE, "*"), launch.clone(), role.clone()])), None);
    // Every subnet counts.
    let one = allow("ec2:RunInstances", "arn:aws:ec2:us-east-1:111122223333:subnet/subnet-a");
    assert_eq!(check(json!([allow(CREATE, "*"), one, role.clone()])), refused);

    region.call::<CreateAutoScalingGroup>(create.clone()).await;
    let resized = UpdateAutoScalingGroupRequest {
        auto_scaling_group_name: "nodes".to_owned(),
        max_size: Some(3),
        ..Default::default()
    };
    let check =
        |statements, request| denied::<UpdateAutoScalingGroup>(service, statements, request);
    assert_eq!(check(json!([allow("autoscaling:*", "*")]), &resized), None);
    let moved = UpdateAutoScalingGroupRequest {
        launch_template: create.launch_template.clone(),
        ..resized.clone()
    };
    assert_eq!(check(json!([allow("autoscaling:*", "*")]), &moved), refused);
    assert_eq!(check(json!([allow("autoscaling:*", "*"), launch, role]), &moved), None);
}

/// Whichever comes first: the next one is launched where there is no room for it.
#[tokio::test(start_paused = true)]
async fn every_type_of_a_policy_must_be_one_that_the_caller_may_launch() {
    let region = region();
    let of = |name: &&str| LaunchTemplateOverrides {
        instance_type: Some((*name).to_owned()),
        ..Default::default()
    };
    let check = |types: &[&str]| {
        let mut request = create(1);
        request.mixed_instances_policy = Some(MixedInstancesPolicy {
            launch_template: Some(LaunchTemplate {
                launch_template_specification: request.launch_template.take(),
                overrides: types.iter().map(of).collect(),
            }),
            instances_distribution: None,
        });
        let small = json!({
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:InstanceType": "t3.micro"}},
        });
        let statements = json!([allow(CREATE, "*"), small, allow("iam:PassRole", "*")]);
        denied::<CreateAutoScalingGroup>(&region.service, statements, &request)
    };
    assert_eq!(check(&["t3.micro"]), None);
    assert!(check(&["p5.48xlarge", "t3.micro"]).is_some());
    assert!(check(&["t3.micro", "p5.48xlarge"]).is_some());
}

/// The policy that the Cluster Autoscaler's documentation asks for.
#[tokio::test(start_paused = true)]
async fn a_policy_may_name_groups_by_arn_and_by_tag() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(1)).await;
    let service = &region.service;
    let arn = "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/nodes";
    let tagged = |team: &str| {
        json!({
            "Effect": "Allow",
            "Action": "autoscaling:*",
            "Resource": arn,
            "Condition": {"StringEquals": {"aws:ResourceTag/team": team}},
        })
    };
    let check = |team: &str| denied::<SetDesiredCapacity>(service, tagged(team), &desire(2));
    assert_eq!(check("blue"), None);
    let refusal = check("red").unwrap();
    assert!(refusal.contains("autoScalingGroupName/nodes because"), "{refusal}");

    let (id, _) = region.members().await.remove(0);
    let terminate = TerminateInstanceInAutoScalingGroupRequest {
        instance_id: id,
        should_decrement_desired_capacity: true,
    };
    let check = |team: &str| {
        denied::<TerminateInstanceInAutoScalingGroup>(service, tagged(team), &terminate)
    };
    assert_eq!(check("blue"), None);
    assert!(check("red").is_some());
}

/// EKS makes node groups as a service: it needs no policy, and its groups launch as before.
#[tokio::test(start_paused = true)]
async fn a_service_makes_groups_without_a_policy() {
    let region = region();
    region.call::<CreateAutoScalingGroup>(create(2)).await;
    assert_eq!(region.states().await, ["Pending"; 2]);
}
