//! Plans for node groups.

use super::*;

const LIMITS: Limits =
    Limits { creation: Duration::ZERO, join: Duration::from_secs(1200), drained: Duration::ZERO };
const SIZES: Scaling = Scaling { min: 0, max: 4, desired: 2 };

pub(crate) fn group(state: State) -> Nodegroup {
    Nodegroup {
        cluster: "c".into(),
        name: "g".into(),
        id: "1".into(),
        state,
        scaling: SIZES,
        subnets: Vec::new(),
        instance_types: Vec::new(),
        ami_type: String::new(),
        image_id: String::new(),
        capacity_type: String::new(),
        disk_size: 20,
        node_role: String::new(),
        labels: Default::default(),
        taints: Vec::new(),
        tags: Default::default(),
        max_unavailable: 1,
        version: String::new(),
        release_version: String::new(),
        source: None,
        remote_access: None,
        remote_access_security_group: None,
        client_token: None,
        issues: Vec::new(),
        created_at: Timestamp::UNIX_EPOCH,
        modified_at: Timestamp::UNIX_EPOCH,
        update_id: None,
        removed_labels: Vec::new(),
        removed_taints: Vec::new(),
        draining: Default::default(),
        max_unavailable_percentage: None,
        update_strategy: Default::default(),
        rollout: None,
        left: None,
        template_version: None,
        repair: None,
        repairs: Default::default(),
        warm_pool: None,
    }
}

fn observed(states: &[&str], ready: usize) -> Observed {
    let ids: Vec<String> = (0..states.len()).map(|it| format!("i-{it}")).collect();
    Observed {
        sizes: Some(SIZES),
        ready: ids.iter().take(ready).cloned().collect(),
        instances: ids.into_iter().zip(states.iter().map(|it| (*it).to_owned())).collect(),
        ..Observed::default()
    }
}

fn steps(group: &Nodegroup, observed: &Observed, seconds: u64) -> Vec<Step> {
    let now = Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
    plan(group, observed, now, LIMITS).steps
}

#[test]
fn a_new_group_gets_its_resources() {
    assert_eq!(steps(&group(State::Creating), &Observed::default(), 0), [Step::Create]);
}

#[test]
fn a_group_of_a_region_that_takes_its_time_waits_for_its_resources() {
    let at = |seconds| {
        let now = Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let limits = Limits { creation: Duration::from_secs(30), ..LIMITS };
        plan(&group(State::Creating), &Observed::default(), now, limits)
    };
    assert_eq!(at(12), Plan { steps: Vec::new(), wait: Some(Duration::from_secs(18)) });
    assert_eq!(at(30).steps, [Step::Create]);
}

#[test]
fn a_group_is_active_once_every_wanted_instance_is_a_ready_node() {
    let creating = group(State::Creating);
    assert_eq!(steps(&creating, &observed(&["InService", "InService"], 1), 0), []);
    assert_eq!(steps(&creating, &observed(&["InService", "Pending"], 2), 0), []);
    assert_eq!(steps(&creating, &observed(&["InService", "InService"], 2), 0), [Step::Activate]);
}

#[test]
fn instances_that_do_not_join_in_time_fail_the_group() {
    let creating = group(State::Creating);
    let late = observed(&["InService", "InService"], 1);
    assert_eq!(steps(&creating, &late, 1200), []);
    let failed = steps(&creating, &late, 1201);
    let [Step::Fail(issue)] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!(
        (issue.code.as_str(), issue.resources.as_slice()),
        ("NodeCreationFailure", &["i-1".to_owned()][..])
    );
}

#[test]
fn launches_that_fail_are_the_groups_health() {
    let failure = Some("Could not launch On-Demand Instances. VcpuLimitExceeded - …".to_owned());
    let short = Observed { launch_failure: failure.clone(), ..observed(&["InService"], 1) };
    let creating = group(State::Creating);
    let told = steps(&creating, &short, 0);
    let [Step::Tell(issues)] = told.as_slice() else { panic!("{told:?}") };
    let [issue] = issues.as_slice() else { panic!("{issues:?}") };
    assert_eq!(issue.code, "AsgInstanceLaunchFailures");
    assert_eq!(Some(&issue.message), failure.as_ref());
    // Once, and at the end of its time the group fails for it.
    let told = Nodegroup { issues: vec![issue.clone()], ..creating };
    assert_eq!(steps(&told, &short, 0), []);
    assert_eq!(steps(&told, &short, 1201), [Step::Fail(issue.clone())]);
    let degraded = [Step::Degrade(vec![issue.clone()])];
    assert_eq!(steps(&group(State::Active), &short, 0), degraded);
    let known = Nodegroup { issues: vec![issue.clone()], ..group(State::Degraded) };
    assert_eq!(steps(&known, &short, 0), []);
    // A failure that another launch has made good is none, also while nodes boot.
    let booting = observed(&["InService", "InService"], 1);
    assert_eq!(steps(&told, &booting, 0), [Step::Tell(Vec::new())]);
    let full = Observed { launch_failure: failure, ..observed(&["InService", "InService"], 2) };
    assert_eq!(steps(&told, &full, 0), [Step::Activate]);
    assert_eq!(steps(&group(State::Active), &full, 0), []);
}

#[test]
fn an_update_waits_until_what_leaves_is_gone() {
    let updating = group(State::Updating);
    let leaving = observed(&["InService", "InService", "Terminating:Wait"], 3);
    assert_eq!(steps(&updating, &leaving, 0), [Step::Drain { instance: "i-2".to_owned() }]);
    assert_eq!(steps(&updating, &observed(&["InService", "InService"], 2), 0), [Step::Activate]);
}

#[test]
fn what_returns_to_the_pool_is_drained_and_keeps_nobody_waiting() {
    let returning = vec!["i-9".to_owned()];
    let seen = Observed { returning, ..observed(&["InService", "InService"], 2) };
    let drained = Step::Return { instance: "i-9".to_owned() };
    assert_eq!(steps(&group(State::Active), &seen, 0), std::slice::from_ref(&drained));
    assert_eq!(steps(&group(State::Updating), &seen, 0), [drained, Step::Activate]);
}

#[test]
fn a_size_that_others_set_is_the_groups_until_somebody_asks_for_another() {
    let mut seen = observed(&["InService"], 1);
    let others = Scaling { desired: 1, ..SIZES };
    seen.sizes = Some(others);
    assert_eq!(steps(&group(State::Active), &seen, 0), [Step::Follow(others)]);
    let followed = Nodegroup { scaling: others, ..group(State::Active) };
    assert_eq!(steps(&followed, &seen, 0), []);
    assert_eq!(
        steps(&group(State::Updating), &seen, 0),
        [Step::Resize { min: 0, max: 4, desired: 2 }]
    );
}

#[test]
fn a_deleted_group_shrinks_drains_and_goes() {
    let deleting = group(State::Deleting);
    let full = observed(&["InService"], 1);
    assert_eq!(steps(&deleting, &full, 0), [Step::Resize { min: 0, max: 0, desired: 0 }]);
    let empty = Scaling { min: 0, max: 0, desired: 0 };
    let draining = Observed { sizes: Some(empty), ..observed(&["Terminating:Wait"], 1) };
    assert_eq!(steps(&deleting, &draining, 0), [Step::Drain { instance: "i-0".to_owned() }]);
    let gone = Observed { sizes: Some(empty), ..observed(&[], 0) };
    assert_eq!(steps(&deleting, &gone, 0), [Step::Remove]);
}

#[test]
fn a_group_whose_auto_scaling_group_is_gone_is_degraded_and_its_update_fails() {
    let gone = Observed::default();
    let steps_of = |state| steps(&group(state), &gone, 0);
    let [Step::Degrade(issues)] = &steps_of(State::Active)[..] else { panic!() };
    assert_eq!(issues[0].code, "AutoScalingGroupNotFound");
    assert_eq!(issues[0].resources, ["eks-g-1"]);
    assert_eq!(steps_of(State::Updating), [Step::Fail(issues[0].clone())]);
    let told = Nodegroup { issues: issues.clone(), ..group(State::Degraded) };
    assert_eq!(steps(&told, &gone, 0), []);
    assert_eq!(steps_of(State::Deleting), [Step::Remove]);
}

#[test]
fn what_others_take_away_degrades_a_group_until_it_is_back() {
    let mut seen = observed(&["InService", "InService"], 2);
    let mut around = surroundings::tests::sound();
    around.subnets.clear();
    seen.surroundings = Some(around.clone());
    assert_eq!(steps(&group(State::Active), &seen, 0), []);
    around.has_role = false;
    seen.surroundings = Some(around.clone());
    let [Step::Degrade(issues)] = &steps(&group(State::Active), &seen, 0)[..] else { panic!() };
    assert_eq!(issues[0].code, "IamNodeRoleNotFound");
    let degraded = Nodegroup { issues: issues.clone(), ..group(State::Degraded) };
    assert_eq!(steps(&degraded, &seen, 0), []);
    around.has_template = false;
    seen.surroundings = Some(around.clone());
    let [Step::Tell(issues)] = &steps(&degraded, &seen, 0)[..] else { panic!() };
    let codes: Vec<_> = issues.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, ["Ec2LaunchTemplateNotFound", "IamNodeRoleNotFound"]);
    (around.has_role, around.has_template) = (true, true);
    seen.surroundings = Some(around);
    assert_eq!(steps(&degraded, &seen, 0), [Step::Activate]);
}

#[test]
fn a_group_in_a_public_subnet_without_public_addresses_is_never_made() {
    let mut around = surroundings::tests::sound();
    around.subnets[0].gives_public_addresses = false;
    let seen = Observed { surroundings: Some(around), ..Observed::default() };
    let [Step::Fail(issue)] = &steps(&group(State::Creating), &seen, 0)[..] else { panic!() };
    assert_eq!(issue.code, "Ec2SubnetInvalidConfiguration");
}

#[test]
fn nodes_are_repaired_where_that_is_asked_for() {
    let mut seen = observed(&["InService", "InService"], 1);
    let ill = repair::Unhealthy {
        condition: "Ready".to_owned(),
        reason: "NodeStatusUnknown".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    };
    let member =
        |id: &str, unhealthy| repair::Member { instance: id.to_owned(), has_node: true, unhealthy };
    seen.members = vec![member("i-0", Vec::new()), member("i-1", vec![ill])];
    let mut group = group(State::Active);
    assert_eq!(steps(&group, &seen, 3600), []);
    let config = aws_eks::NodeRepairConfig { enabled: Some(true), ..Default::default() };
    group.repair = Some(config);
    let repairs = steps(&group, &seen, 3600);
    let is_replaced = |it: &Step| matches!(it, Step::Repair(Repair::Replace { instance, .. }) if instance == "i-1");
    assert!(repairs.iter().any(is_replaced), "{repairs:?}");
    // Nobody repairs what an update is about to replace.
    group.state = State::Updating;
    assert!(!steps(&group, &seen, 60).iter().any(|it| matches!(it, Step::Repair(_))));
}

#[test]
fn an_image_or_a_type_that_is_not_there_is_the_groups_health() {
    let mut short = observed(&["InService"], 1);
    short.launch_failure = Some(
        "Could not launch On-Demand Instances. InvalidAMIID.NotFound - The image id '[ami-0]' does \
         not exist. Launching EC2 instance failed."
            .to_owned(),
    );
    let [Step::Tell(issues)] = &steps(&group(State::Creating), &short, 0)[..] else { panic!() };
    assert_eq!(issues[0].code, "AmiIdNotFound");
    short.launch_failure = Some(
        "Could not launch On-Demand Instances. InvalidParameterValue - Invalid value 'm5.huge' for \
         InstanceType. Launching EC2 instance failed."
            .to_owned(),
    );
    let [Step::Tell(issues)] = &steps(&group(State::Creating), &short, 0)[..] else { panic!() };
    assert_eq!(issues[0].code, "Ec2InstanceTypeDoesNotExist");
}

#[test]
fn the_auto_scaling_group_has_the_pool_of_its_node_group() {
    let pool = WarmPoolConfig {
        enabled: Some(true),
        min_size: Some(1),
        max_group_prepared_capacity: None,
        pool_state: Some("STOPPED".to_owned()),
        reuse_on_scale_in: Some(false),
    };
    let other = WarmPoolConfig { min_size: Some(2), ..pool.clone() };
    let of = |state, warm_pool: Option<&WarmPoolConfig>| Nodegroup {
        warm_pool: warm_pool.cloned(),
        ..group(state)
    };
    let seen = |warm_pool: Option<&WarmPoolConfig>| Observed {
        warm_pool: warm_pool.cloned(),
        ..observed(&["InService", "InService"], 2)
    };
    let given = |it: &WarmPoolConfig| Step::WarmPool(Some(it.clone()));
    let updating = of(State::Updating, Some(&pool));
    assert_eq!(steps(&updating, &seen(None), 0), [given(&pool), Step::Activate]);
    assert_eq!(steps(&updating, &seen(Some(&pool)), 0), [Step::Activate]);
    let disabled = of(State::Updating, None);
    assert_eq!(steps(&disabled, &seen(Some(&pool)), 0), [Step::WarmPool(None), Step::Activate]);
    // Somebody has changed it behind EKS's back.
    assert_eq!(steps(&of(State::Active, Some(&pool)), &seen(Some(&other)), 0), [given(&pool)]);
    assert_eq!(steps(&of(State::CreateFailed, Some(&pool)), &seen(None), 0), []);
}

#[test]
fn a_group_that_goes_gives_up_its_pool_first() {
    let pool = WarmPoolConfig { enabled: Some(true), ..Default::default() };
    let going = Nodegroup { warm_pool: Some(pool.clone()), ..group(State::Deleting) };
    let empty = Observed {
        sizes: Some(Scaling { min: 0, max: 0, desired: 0 }),
        warm_pool: Some(pool),
        ..observed(&[], 0)
    };
    assert_eq!(steps(&going, &empty, 0), [Step::WarmPool(None)]);
    assert_eq!(steps(&going, &Observed { warm_pool: None, ..empty }, 0), [Step::Remove]);
}
