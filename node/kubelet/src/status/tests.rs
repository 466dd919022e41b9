//! What must hold of `status`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, PodCondition, PodReadinessGate, PodSpec,
};

use super::*;
use crate::{
    observed::{RuntimeContainer, Sandbox, State, sorted},
    plan::ProbeState,
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn container(name: &str) -> Container {
    Container { name: name.to_owned(), ..Container::default() }
}

fn made(name: &str, state: State) -> RuntimeContainer {
    RuntimeContainer {
        id: name.to_owned(),
        sandbox_id: "s".to_owned(),
        name: name.to_owned(),
        restart_count: 0,
        hash: String::new(),
        image: String::new(),
        image_ref: "ref".to_owned(),
        created: at(1),
        state,
        message_path: None,
        log_path: String::new(),
        stop_signal: None,
        user: None,
        recursive_read_only: Default::default(),
    }
}

fn exited(code: i32) -> State {
    State::Exited {
        started: at(1),
        finished: at(2),
        code,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: String::new(),
    }
}

fn running() -> State {
    State::Running { started: at(1) }
}

#[derive(Default)]
struct World {
    policy: &'static str,
    init: Vec<Container>,
    /// Containers beside `a`.
    others: Vec<&'static str>,
    containers: Vec<RuntimeContainer>,
    ready: Vec<&'static str>,
    waiting: BTreeMap<String, Waiting>,
    gates: Vec<&'static str>,
    previous: PodStatus,
    is_over: bool,
    is_deleted: bool,
    /// Its volumes are not there.
    is_unprepared: bool,
    restarts_all: bool,
    verdict: Option<Verdict>,
}

impl World {
    fn status(&self) -> PodStatus {
        let spec = PodSpec {
            restart_policy: Some(self.policy.to_owned()),
            init_containers: Some(self.init.clone()),
            containers: [&["a"], self.others.as_slice()]
                .concat()
                .into_iter()
                .map(container)
                .collect(),
            readiness_gates: Some(
                self.gates
                    .iter()
                    .map(|it| PodReadinessGate { condition_type: (*it).to_owned() })
                    .collect(),
            ),
            ..PodSpec::default()
        };
        let mut pod = Pod { spec: Some(spec), ..Pod::default() };
        pod.metadata.deletion_timestamp = self.is_deleted.then(|| Time(at(90)));
        let sandbox = Sandbox {
            id: "s".to_owned(),
            attempt: 0,
            is_ready: true,
            created: at(0),
            ips: vec!["10.0.0.9".parse().unwrap()],
            is_host_network: false,
        };
        let observed = sorted(vec![sandbox], self.containers.clone());
        let state = |is_ready| ProbeState { is_started: true, is_ready, failure: None };
        let probes = self
            .containers
            .iter()
            .map(|it| (it.id.clone(), state(self.ready.contains(&it.name.as_str()))))
            .collect();
        generate(&Input {
            pod: &pod,
            observed: &observed,
            probes: &probes,
            waiting: &self.waiting,
            verdict: self.verdict.as_ref(),
            is_over: self.is_over,
            previous: &self.previous,
            host_ips: &["192.168.0.4".parse().unwrap()],
            messages: &BTreeMap::new(),
            is_prepared: !self.is_unprepared,
            restarts_all: self.restarts_all,
            resize: &ResizeState::default(),
            actuated: &Resources::new(),
            tells_stop_signals: false,
            now: at(100),
        })
    }
}

fn phase(world: &World) -> String {
    world.status().phase.unwrap()
}

fn condition(status: &PodStatus, kind: &str) -> (String, Option<String>, Timestamp) {
    let all = status.conditions.as_ref().unwrap();
    let found = all.iter().find(|it| it.type_ == kind).unwrap();
    let since = found.last_transition_time.clone().unwrap().0;
    (found.status.clone(), found.reason.clone(), since)
}

#[test]
fn the_phase_follows_the_containers_and_the_policy() {
    let cases = [
        ("Always", vec![], false, "Pending"),
        ("Always", vec![made("a", running())], false, "Running"),
        ("Always", vec![made("a", exited(1))], false, "Running"),
        ("OnFailure", vec![made("a", exited(1))], false, "Running"),
        ("OnFailure", vec![made("a", exited(0))], true, "Succeeded"),
        ("Never", vec![made("a", exited(1))], true, "Failed"),
        ("Never", vec![made("a", exited(0))], true, "Succeeded"),
        ("Never", vec![made("a", exited(0))], false, "Running"),
    ];
    for (policy, containers, is_over, expected) in cases {
        let world = World { policy, containers, is_over, ..World::default() };
        assert_eq!(phase(&world), expected, "{policy} over={is_over}");
    }
}

#[test]
fn a_pod_that_initializes_is_pending_and_says_what_it_waits_for() {
    let world = World {
        policy: "Always",
        init: vec![container("i")],
        containers: vec![made("i", running())],
        ..World::default()
    };
    let status = world.status();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let (is, reason, _) = condition(&status, "Initialized");
    assert_eq!((is.as_str(), reason.as_deref()), ("False", Some("ContainersNotInitialized")));
    let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
}

#[test]
fn ready_needs_every_container_and_every_gate() {
    let mut world =
        World { policy: "Always", containers: vec![made("a", running())], ..World::default() };
    let (is, reason, _) = condition(&world.status(), "Ready");
    assert_eq!((is.as_str(), reason.as_deref()), ("False", Some("ContainersNotReady")));
    world.ready = vec!["a"];
    assert_eq!(condition(&world.status(), "Ready").0, "True");
    world.gates = vec!["example.com/lb"];
    let (is, reason, _) = condition(&world.status(), "Ready");
    assert_eq!((is.as_str(), reason.as_deref()), ("False", Some("ReadinessGatesNotReady")));
    assert_eq!(condition(&world.status(), "ContainersReady").0, "True");
}

#[test]
fn a_transition_time_is_kept_while_nothing_changes() {
    let mut world = World {
        policy: "Always",
        containers: vec![made("a", running())],
        ready: vec!["a"],
        ..World::default()
    };
    world.previous = world.status();
    for it in world.previous.conditions.iter_mut().flatten() {
        it.last_transition_time = Some(Time(at(50)));
    }
    assert_eq!(condition(&world.status(), "Ready").2, at(50));
    world.ready.clear();
    assert_eq!(condition(&world.status(), "Ready").2, at(100));
}

#[test]
fn a_crash_loop_is_waiting_with_the_exit_as_last_state() {
    let reason = "CrashLoopBackOff".to_owned();
    let waiting = Waiting { reason: reason.clone(), message: "back-off".to_owned() };
    let world = World {
        policy: "Always",
        containers: vec![made("a", exited(3))],
        waiting: [("a".to_owned(), waiting)].into(),
        ..World::default()
    };
    let status = world.status();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.state.clone().unwrap().waiting.unwrap().reason, Some(reason));
    assert_eq!(container.last_state.clone().unwrap().terminated.unwrap().exit_code, 3);
}

#[test]
fn what_could_not_be_started_and_never_starts_again_has_ended_and_does_not_wait() {
    let waiting = Waiting { reason: "RunContainerError".to_owned(), message: String::new() };
    let mut world = World {
        policy: "Never",
        containers: vec![made("a", exited(128))],
        waiting: [("a".to_owned(), waiting)].into(),
        ..World::default()
    };
    let state = |world: &World| world.status().container_statuses.unwrap().remove(0).state.unwrap();
    assert_eq!(state(&world).terminated.unwrap().exit_code, 128);
    world.is_over = true;
    assert_eq!(state(&world).terminated.unwrap().exit_code, 128);
    world.policy = "OnFailure";
    world.is_over = false;
    assert_eq!(state(&world).waiting.unwrap().reason.as_deref(), Some("RunContainerError"));
}

#[test]
fn a_container_that_never_ended_has_an_empty_last_state() {
    let world = World { containers: vec![made("a", running())], ..World::default() };
    let container = world.status().container_statuses.unwrap().remove(0);
    assert_eq!(container.last_state, Some(ContainerState::default()));
}

#[test]
fn the_image_of_a_container_is_the_one_that_runs() {
    let runs =
        RuntimeContainer { image: "docker.io/library/a:1".to_owned(), ..made("a", running()) };
    let world = World { policy: "Always", containers: vec![runs], ..World::default() };
    assert_eq!(world.status().container_statuses.unwrap()[0].image, "docker.io/library/a:1");
}

#[test]
fn a_container_that_is_lost_is_counted_unless_its_pod_is_deleted() {
    let mut world =
        World { policy: "Always", containers: vec![made("a", running())], ..World::default() };
    world.previous = world.status();
    world.containers.clear();
    let lost = |world: &World| world.status().container_statuses.unwrap().remove(0);
    let told = lost(&world);
    let ended = told.last_state.unwrap().terminated.unwrap();
    assert_eq!((told.restart_count, ended.exit_code), (1, 137));
    let words = "when the pod was deleted.  The container used to be Running";
    assert!(ended.message.unwrap().ends_with(words));
    world.is_deleted = true;
    assert_eq!(lost(&world).restart_count, 0);
}

#[test]
fn what_is_removed_to_start_anew_waits_for_that_and_is_counted_once() {
    let mut world = World { policy: "Never", restarts_all: true, ..World::default() };
    for before in [running(), exited(42)] {
        let containers = vec![made("a", before)];
        world.previous = World { policy: "Never", containers, ..World::default() }.status();
        let told = |world: &World| world.status().container_statuses.unwrap().remove(0);
        let status = told(&world);
        assert_eq!(status.restart_count, 1);
        let waiting = status.state.as_ref().unwrap().waiting.as_ref().unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("RestartingAllContainers"));
        assert_eq!(status.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 137);
        world.previous = world.status();
        let again = told(&world);
        assert_eq!((again.restart_count, again.last_state), (1, status.last_state));
    }
}

#[test]
fn the_messages_of_many_containers_fit_into_one_object() {
    let mut world = World { policy: "Always", is_over: true, ..World::default() };
    world.init = (0..23).map(|it| container(&format!("i{it}"))).collect();
    let text = "\u{e4}".repeat(2048);
    world.containers = world
        .init
        .iter()
        .map(|it| &it.name)
        .chain([&"a".to_owned()])
        .map(|name| {
            let mut it = made(name, exited(0));
            let State::Exited { message, .. } = &mut it.state else { unreachable!() };
            *message = text.clone();
            it
        })
        .collect();
    let status = world.status();
    let all = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    let lengths: Vec<_> = all
        .map(|it| {
            it.state.as_ref().unwrap().terminated.as_ref().unwrap().message.as_ref().unwrap().len()
        })
        .collect();
    assert_eq!(lengths, [12 * 1024 / 24; 24]);
}

#[test]
fn what_others_write_into_a_status_stays() {
    let others = serde_json::json!({
        "nominatedNodeName": "n",
        "extendedResourceClaimStatus": { "requestMappings": [], "resourceClaimName": "c" },
    });
    let previous: PodStatus = serde_json::from_value(others).unwrap();
    let status =
        World { policy: "Always", previous: previous.clone(), ..World::default() }.status();
    assert_eq!(status.extended_resource_claim_status, previous.extended_resource_claim_status);
    assert_eq!(status.nominated_node_name.as_deref(), Some("n"));
}

#[test]
fn a_verdict_fails_the_pod_and_a_final_phase_stays() {
    let verdict = Verdict { reason: "Evicted".to_owned(), message: "low".to_owned() };
    let mut world = World {
        policy: "Always",
        containers: vec![made("a", running())],
        verdict: Some(verdict),
        ..World::default()
    };
    let told = |it: PodStatus| (it.phase.unwrap(), it.reason);
    // Others take the end as leave to start its successor.
    assert_eq!(told(world.status()), ("Running".to_owned(), None), "it has not ended yet");
    world.is_over = true;
    let failed = ("Failed".to_owned(), Some("Evicted".to_owned()));
    assert_eq!(told(world.status()), failed);
    world.previous = world.status();
    world.verdict = None;
    assert_eq!(told(world.status()), failed);
}

#[test]
fn a_pod_that_ended_before_it_ran_has_failed_and_its_containers_with_it() {
    let over = || World { policy: "Always", is_over: true, ..World::default() };
    let status = over().status();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    let state = |it: &[ContainerStatus]| it[0].state.clone().unwrap();
    let ended = state(&status.container_statuses.unwrap()).terminated.unwrap();
    let told = (ended.reason.as_deref(), ended.exit_code);
    assert_eq!(told, (Some("ContainerStatusUnknown"), 137));
    // Nothing is claimed of containers that cannot have run.
    let status = World { init: vec![container("i")], ..over() }.status();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    for it in [status.container_statuses.unwrap(), status.init_container_statuses.unwrap()] {
        assert!(state(&it).waiting.is_some(), "{it:?}");
    }
    let verdict = Some(Verdict::rejected("OutOfcpu", "no".to_owned()));
    let refused = World { verdict, ..over() }.status();
    assert_eq!((refused.reason.as_deref(), refused.container_statuses), (Some("OutOfcpu"), None));
}

#[test]
fn of_a_pod_that_was_not_admitted_nothing_is_told_but_that_and_what_others_say() {
    let says = |kind: &str| PodCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        ..PodCondition::default()
    };
    let verdict = Some(Verdict::rejected("OutOfcpu", "no".to_owned()));
    let conditions = Some(vec![says("PodScheduled"), says("example.com/gate")]);
    let previous = PodStatus { conditions, ..PodStatus::default() };
    let refused = World { previous, verdict, is_over: true, ..World::default() }.status();
    let expected = PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some("OutOfcpu".to_owned()),
        message: Some("Pod was rejected: no".to_owned()),
        start_time: Some(Time(at(100))),
        qos_class: Some("BestEffort".to_owned()),
        conditions: Some(vec![says("example.com/gate")]),
        ..PodStatus::default()
    };
    assert_eq!(refused, expected);
    // A kubelet that begins anew tells the same; one that knew the pod before keeps what it told.
    let again = World { previous: refused.clone(), is_over: true, ..World::default() }.status();
    assert_eq!(again, refused);
    let told = PodStatus { conditions: Some(vec![says("Initialized")]), ..refused };
    let again = World { previous: told, is_over: true, ..World::default() }.status();
    assert_eq!(condition(&again, "Ready").0, "False");
}

#[test]
fn containers_are_told_by_name_and_conditions_name_them_in_the_order_of_the_spec() {
    let world = World { policy: "Always", others: vec!["z", "b"], ..World::default() };
    let status = world.status();
    let names: Vec<_> = status.container_statuses.iter().flatten().map(|it| &*it.name).collect();
    assert_eq!(names, ["a", "b", "z"]);
    let unready = status.conditions.iter().flatten().find(|it| it.type_ == "ContainersReady");
    let message = unready.unwrap().message.as_deref();
    assert_eq!(message, Some("containers with unready status: [a z b]"));
}

#[test]
fn a_pod_whose_volumes_are_missing_is_not_ready_to_start_containers_whatever_its_sandbox_is() {
    let told = |is_unprepared, containers| {
        let world = World { policy: "Always", is_unprepared, containers, ..World::default() };
        condition(&world.status(), "PodReadyToStartContainers").0
    };
    assert_eq!(told(false, vec![]), "True");
    assert_eq!(told(true, vec![]), "False");
    // A kubelet that begins anew has not looked at the volumes of what runs.
    assert_eq!(told(true, vec![made("a", running())]), "True");
}
