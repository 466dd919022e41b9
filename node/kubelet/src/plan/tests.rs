//! What must hold of `plan`.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodSpec;

use super::*;
use crate::observed::{Sandbox, sorted};

fn at(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn container(name: &str) -> Container {
    Container { name: name.to_owned(), image: Some("i".to_owned()), ..Container::default() }
}

fn sidecar(name: &str) -> Container {
    Container { restart_policy: Some("Always".to_owned()), ..container(name) }
}

fn pod(policy: &str, init: Vec<Container>, containers: Vec<Container>) -> Pod {
    let spec = PodSpec {
        restart_policy: Some(policy.to_owned()),
        init_containers: Some(init),
        containers,
        ..PodSpec::default()
    };
    Pod { spec: Some(spec), ..Pod::default() }
}

fn sandbox(attempt: u32, is_ready: bool) -> Sandbox {
    Sandbox {
        id: format!("s{attempt}"),
        attempt,
        is_ready,
        created: at(u64::from(attempt)),
        ips: vec!["10.0.0.9".parse().unwrap()],
        is_host_network: false,
    }
}

fn made(name: &str, restart_count: u32, state: State) -> RuntimeContainer {
    RuntimeContainer {
        id: format!("{name}-{restart_count}"),
        sandbox_id: "s0".to_owned(),
        name: name.to_owned(),
        restart_count,
        hash: String::new(),
        image: "i".to_owned(),
        image_ref: String::new(),
        created: at(10 + u64::from(restart_count)),
        state,
        message_path: None,
        log_path: String::new(),
        stop_signal: None,
        user: None,
        recursive_read_only: Default::default(),
    }
}

fn running() -> State {
    State::Running { started: at(10) }
}

fn exited(code: i32) -> State {
    State::Exited {
        started: at(10),
        finished: at(20),
        code,
        reason: "Error".to_owned(),
        message: String::new(),
    }
}

struct World {
    pod: Pod,
    observed: RuntimePod,
    probes: ProbeStates,
    backoffs: ContainerBackoffs,
    actuated: Resources,
    held: BTreeMap<String, Held>,
    now: Timestamp,
}

impl World {
    fn new(pod: Pod, sandboxes: Vec<Sandbox>, containers: Vec<RuntimeContainer>) -> Self {
        Self {
            pod,
            observed: sorted(sandboxes, containers),
            probes: ProbeStates::new(),
            backoffs: ContainerBackoffs::default(),
            actuated: Resources::new(),
            held: BTreeMap::new(),
            now: at(30),
        }
    }

    fn plan(&self) -> Plan {
        plan(&Input {
            pod: &self.pod,
            observed: &self.observed,
            probes: &self.probes,
            backoffs: &self.backoffs,
            actuated: &self.actuated,
            held: &self.held,
            now: self.now,
        })
    }
}

fn starts(plan: &Plan) -> Vec<(&str, u32)> {
    plan.start.iter().map(|it| (it.name.as_str(), it.restart_count)).collect()
}

#[test]
fn a_new_pod_gets_a_sandbox_and_all_its_containers() {
    let world =
        World::new(pod("Always", vec![], vec![container("a"), container("b")]), vec![], vec![]);
    let plan = world.plan();
    assert_eq!(plan.create_sandbox, Some(0));
    assert_eq!(plan.kill_pod, None);
    assert_eq!(starts(&plan), [("a", 0), ("b", 0)]);
}

#[test]
fn a_running_pod_is_left_alone_also_by_a_restarted_kubelet() {
    let pod = pod("Always", vec![container("i")], vec![container("a")]);
    let world = World::new(
        pod,
        vec![sandbox(0, true)],
        vec![made("i", 0, exited(0)), made("a", 0, running())],
    );
    assert_eq!(world.plan(), Plan::default());
}

#[test]
fn init_containers_run_one_after_the_other_and_before_the_others() {
    let pod = pod("Always", vec![container("i"), container("j")], vec![container("a")]);
    let mut world = World::new(pod, vec![], vec![]);
    assert_eq!(starts(&world.plan()), [("i", 0)]);
    world.observed = sorted(vec![sandbox(0, true)], vec![made("i", 0, running())]);
    assert_eq!(starts(&world.plan()), []);
    world.observed = sorted(vec![sandbox(0, true)], vec![made("i", 0, exited(0))]);
    assert_eq!(starts(&world.plan()), [("j", 0)]);
    world.observed =
        sorted(vec![sandbox(0, true)], vec![made("i", 0, exited(0)), made("j", 0, exited(0))]);
    assert_eq!(starts(&world.plan()), [("a", 0)]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let init = vec![container("i")];
    let mut world = World::new(
        pod("Never", init.clone(), vec![container("a")]),
        vec![sandbox(0, true)],
        vec![made("i", 0, exited(1))],
    );
    assert!(world.plan().is_complete);
    world.pod = pod("OnFailure", init, vec![container("a")]);
    assert_eq!(starts(&world.plan()), [("i", 1)]);
}

#[test]
fn a_sidecar_holds_the_next_step_until_it_has_started() {
    let mut world = World::new(
        pod("Always", vec![sidecar("s")], vec![container("a")]),
        vec![sandbox(0, true)],
        vec![made("s", 0, running())],
    );
    assert_eq!(starts(&world.plan()), []);
    let started = ProbeState { is_started: true, ..ProbeState::default() };
    world.probes.insert("s-0".to_owned(), started);
    assert_eq!(starts(&world.plan()), [("a", 0)]);
}

#[test]
fn a_sidecar_that_crashes_later_holds_no_later_step_back() {
    let init = vec![sidecar("s"), container("i"), container("j")];
    let mut world = World::new(
        pod("Always", init, vec![container("a")]),
        vec![sandbox(0, true)],
        vec![made("s", 0, exited(1)), made("i", 0, exited(0))],
    );
    world.now = at(21);
    world.backoffs.note(backoff_key(&sidecar("s")), at(20), at(20));
    let plan = world.plan();
    assert_eq!(starts(&plan), [("j", 0)]);
    assert_eq!(plan.waiting["s"].reason, "CrashLoopBackOff");
    // And it comes back while a later step runs.
    world.now = at(300);
    world.observed = sorted(
        vec![sandbox(0, true)],
        vec![made("s", 0, exited(1)), made("i", 0, exited(0)), made("j", 0, running())],
    );
    assert_eq!(starts(&world.plan()), [("s", 1)]);
}

#[test]
fn an_init_container_whose_record_is_gone_does_not_run_again() {
    let init = vec![container("i"), container("j")];
    let world = World::new(
        pod("Always", init, vec![container("a")]),
        vec![sandbox(0, true)],
        vec![made("j", 0, exited(0))],
    );
    assert_eq!(starts(&world.plan()), [("a", 0)]);
}

#[test]
fn a_dead_sidecar_comes_back_beside_running_containers_but_keeps_no_pod_alive() {
    let job = pod("Never", vec![sidecar("s")], vec![container("a")]);
    let mut world = World::new(
        job,
        vec![sandbox(0, true)],
        vec![made("s", 0, exited(1)), made("a", 0, running())],
    );
    assert_eq!(starts(&world.plan()), [("s", 1)]);
    world.observed =
        sorted(vec![sandbox(0, true)], vec![made("s", 0, running()), made("a", 0, exited(0))]);
    assert!(world.plan().is_complete);
}

#[test]
fn restart_policies_decide_after_an_exit() {
    for (policy, code, is_restarted) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
    ] {
        let world = World::new(
            pod(policy, vec![], vec![container("a")]),
            vec![sandbox(0, true)],
            vec![made("a", 0, exited(code))],
        );
        let plan = world.plan();
        assert_eq!(!plan.start.is_empty(), is_restarted, "{policy} {code}");
        assert_eq!(plan.is_complete, !is_restarted, "{policy} {code}");
    }
}

#[test]
fn a_crashing_container_waits_and_says_so() {
    let mut world = World::new(
        pod("Always", vec![], vec![container("a")]),
        vec![sandbox(0, true)],
        vec![made("a", 3, exited(1))],
    );
    world.now = at(21);
    world.backoffs.note(backoff_key(&container("a")), at(20), at(20));
    let plan = world.plan();
    assert_eq!(starts(&plan), []);
    assert_eq!(plan.waiting["a"].reason, "CrashLoopBackOff");
    assert!(
        plan.waiting["a"].message.starts_with("back-off 10s restarting failed container=a pod=")
    );
    assert_eq!(plan.again_at, Some(at(30)));
    world.now = at(30);
    assert_eq!(starts(&world.plan()), [("a", 4)]);
}

#[test]
fn a_container_that_is_held_back_holds_no_other_back() {
    let mut world = World::new(
        pod("Always", vec![], vec![container("a"), container("b"), container("c")]),
        vec![sandbox(0, true)],
        vec![made("b", 0, exited(1)), made("c", 0, running())],
    );
    let failure = Some(ProbeFailure { kind: "liveness", grace: None });
    world.probes.insert("c-0".to_owned(), ProbeState { failure, ..ProbeState::default() });
    let waiting = Waiting { reason: "ImagePullBackOff".to_owned(), message: String::new() };
    world.held.insert("a".to_owned(), Held { waiting: waiting.clone(), until: at(300) });
    let plan = world.plan();
    assert_eq!(starts(&plan), [("b", 1)]);
    assert_eq!(plan.kill[0].name, "c");
    assert_eq!(plan.waiting["a"], waiting);
    assert_eq!(plan.again_at, Some(at(300)));
    world.now = at(300);
    assert_eq!(starts(&world.plan()), [("a", 0), ("b", 1)]);
}

#[test]
fn a_container_that_was_made_but_never_started_is_made_anew_not_counted() {
    let world = World::new(
        pod("Always", vec![], vec![container("a")]),
        vec![sandbox(0, true)],
        vec![made("a", 0, State::Created)],
    );
    let plan = world.plan();
    assert_eq!(plan.remove, ["a-0"]);
    assert_eq!(starts(&plan), [("a", 0)]);
}

#[test]
fn a_failed_liveness_probe_kills_first_and_starts_later() {
    let mut world = World::new(
        pod("Always", vec![], vec![container("a")]),
        vec![sandbox(0, true)],
        vec![made("a", 0, running())],
    );
    let failure = Some(ProbeFailure { kind: "liveness", grace: Some(Duration::from_secs(3)) });
    world.probes.insert("a-0".to_owned(), ProbeState { failure, ..ProbeState::default() });
    let plan = world.plan();
    assert_eq!(starts(&plan), []);
    assert_eq!(plan.kill[0].message, "Container a failed liveness probe, will be restarted");
    assert_eq!(plan.kill[0].grace, Some(Duration::from_secs(3)));
    assert!(!plan.is_complete);
}

#[test]
fn a_dead_sandbox_is_replaced_and_the_pod_with_it() {
    let world = World::new(
        pod("Always", vec![container("i")], vec![container("a")]),
        vec![sandbox(0, false)],
        vec![made("i", 0, exited(0)), made("a", 0, running())],
    );
    let plan = world.plan();
    assert!(plan.kill_pod.is_some());
    assert_eq!(plan.create_sandbox, Some(1));
    assert_eq!(starts(&plan), [("i", 1)], "the first one's name is taken in the runtime");
}

#[test]
fn a_finished_job_gets_no_new_sandbox() {
    let world = World::new(
        pod("OnFailure", vec![], vec![container("a")]),
        vec![sandbox(0, false)],
        vec![made("a", 0, exited(0))],
    );
    let plan = world.plan();
    assert!(plan.is_complete);
    assert_eq!(plan.create_sandbox, None);
}

#[test]
fn a_sandbox_without_an_address_is_no_sandbox() {
    let mut bare = sandbox(0, true);
    bare.ips.clear();
    let world = World::new(pod("Always", vec![], vec![container("a")]), vec![bare.clone()], vec![]);
    assert_eq!(world.plan().create_sandbox, Some(1));
    bare.is_host_network = true;
    let mut host = pod("Always", vec![], vec![container("a")]);
    host.spec.as_mut().unwrap().host_network = Some(true);
    let world = World::new(host, vec![bare], vec![]);
    assert_eq!(world.plan().create_sandbox, None);
}

#[test]
fn what_all_restart_is_killed_first_and_removed_with_its_cause_last() {
    let rule = k8s_openapi::api::core::v1::ContainerRestartRule {
        action: "RestartAllContainers".to_owned(),
        exit_codes: Some(k8s_openapi::api::core::v1::ContainerRestartRuleOnExitCodes {
            operator: "In".to_owned(),
            values: Some(vec![42]),
        }),
    };
    let cause = Container { restart_policy_rules: Some(vec![rule]), ..container("cause") };
    let pod = pod("Never", vec![container("i")], vec![cause, container("b")]);
    let containers =
        |b| vec![made("i", 0, exited(0)), made("cause", 0, exited(42)), made("b", 0, b)];
    let world = World::new(pod.clone(), vec![sandbox(0, true)], containers(running()));
    let plan = world.plan();
    assert!(plan.restart_all.is_some() && plan.remove.is_empty());
    let killed: Vec<_> = plan.kill.iter().map(|it| (it.name.as_str(), it.grace)).collect();
    assert_eq!(killed, [("b", Some(Duration::ZERO))]);
    let world = World::new(pod, vec![sandbox(0, true)], containers(exited(137)));
    assert_eq!(world.plan().remove.last().map(String::as_str), Some("cause-0"));
}

#[test]
fn a_container_is_resized_in_place_unless_its_policy_says_otherwise() {
    use k8s_openapi::{
        api::core::v1::{ContainerResizePolicy, ResourceRequirements},
        apimachinery::pkg::api::resource::Quantity,
    };
    let of = |cpu: &str, memory: &str| ResourceRequirements {
        limits: Some(
            [("cpu", cpu), ("memory", memory)]
                .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
                .into(),
        ),
        ..Default::default()
    };
    let policy = ContainerResizePolicy {
        resource_name: "memory".to_owned(),
        restart_policy: "RestartContainer".to_owned(),
    };
    let planned = |wanted: ResourceRequirements| {
        let container = Container {
            resources: Some(wanted),
            resize_policy: Some(vec![policy.clone()]),
            ..container("a")
        };
        let pod = pod("Always", vec![], vec![container]);
        let mut world = World::new(pod, vec![sandbox(0, true)], vec![made("a", 0, running())]);
        world.actuated.insert("a".to_owned(), of("1", "1Gi"));
        world.plan()
    };
    assert_eq!(planned(of("1000m", "1024Mi")), Plan::default(), "the same in other words");
    let plan = planned(of("2", "1Gi"));
    assert!(plan.kill.is_empty() && plan.resize.len() == 1);
    let plan = planned(of("2", "2Gi"));
    assert_eq!(plan.kill[0].reason, KillReason::Resize);
    assert_eq!(starts(&plan), [("a", 1)]);
    assert!(plan.resize.is_empty());
}
