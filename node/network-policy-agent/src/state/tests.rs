//! What is kept of the API's PolicyEndpoints, and when it comes into force.

use api_kube::policy_endpoint::{EndpointInfo, PodEndpoint, PolicyReference};

use super::*;

const HERE: &str = "192.168.0.5";

fn endpoint(name: &str, policy: &str, hosts: &[&str]) -> PolicyEndpoint {
    let pod = |host: &&str| PodEndpoint { host_ip: (*host).into(), ..PodEndpoint::default() };
    let spec = PolicyEndpointSpec {
        policy_ref: PolicyReference { name: policy.into(), namespace: "x".into() },
        pod_selector_endpoints: hosts.iter().map(pod).collect(),
        ..PolicyEndpointSpec::default()
    };
    let mut endpoint = PolicyEndpoint::new(Default::default(), spec);
    endpoint.metadata.name = Some(name.into());
    endpoint
}

/// All parts of a policy that allows these peers, one in each.
fn parts(peers: &[&str]) -> Vec<PolicyEndpoint> {
    let mut parts: Vec<PolicyEndpoint> = peers
        .iter()
        .enumerate()
        .map(|(number, peer)| {
            let mut part = endpoint(&format!("p-{number}"), "p", &[HERE]);
            part.spec.ingress =
                vec![EndpointInfo { cidr: (*peer).into(), ..EndpointInfo::default() }];
            part
        })
        .collect();
    let specs: Vec<PolicyEndpointSpec> = parts.iter().map(|it| it.spec.clone()).collect();
    let revision = Revision::of("u", &specs);
    parts.iter_mut().for_each(|it| Revision::write(revision.as_ref(), &mut it.metadata));
    parts
}

fn allowed(state: &State) -> Vec<&str> {
    state.endpoints().values().flat_map(|it| &it.ingress).map(|it| it.cidr.as_str()).collect()
}

fn listed() -> State {
    let mut state = State::new(HERE);
    state.retain(&BTreeSet::new());
    state
}

#[test]
fn only_what_names_pods_of_this_node_is_kept() {
    let mut state = State::new(HERE);
    assert!(state.set(endpoint("mine", "p", &[HERE, "192.168.0.6"])));
    assert!(!state.set(endpoint("mine", "p", &[HERE, "192.168.0.7"])));
    assert!(!state.set(endpoint("theirs", "p", &["192.168.0.6"])));
    assert_eq!(state.endpoints().len(), 1);
    // Its pods went elsewhere.
    assert!(state.set(endpoint("mine", "p", &["192.168.0.6"])));
    assert!(state.endpoints().is_empty());
    assert!(state.known.is_empty() && state.policies.is_empty());
}

#[test]
fn a_new_list_drops_what_went_unseen() {
    let mut state = State::new(HERE);
    state.set(endpoint("a", "p", &[HERE]));
    state.set(endpoint("b", "q", &[HERE]));
    assert!(state.retain(&[Key::cluster("b")].into()));
    assert!(!state.retain(&[Key::cluster("b")].into()));
    assert!(state.remove(&Key::cluster("b")) && state.endpoints().is_empty());
}

#[test]
fn a_policy_that_comes_in_parts_is_in_force_when_the_last_is_there() {
    let mut state = listed();
    let [first, second, third] = parts(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]).try_into().unwrap();
    assert!(!state.set(third) && !state.set(first));
    assert!(state.endpoints().is_empty());
    assert!(state.set(second));
    assert_eq!(allowed(&state), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
}

#[test]
fn while_its_parts_change_what_was_in_force_stays() {
    let mut state = listed();
    parts(&["10.0.0.1", "10.0.0.2"]).into_iter().for_each(|it| {
        state.set(it);
    });
    // A peer that comes first moves the others on: in between one would be nowhere.
    let new = parts(&["10.0.0.0", "10.0.0.1", "10.0.0.2"]);
    for part in &new[..2] {
        assert!(!state.set(part.clone()));
        assert_eq!(allowed(&state), ["10.0.0.1", "10.0.0.2"]);
    }
    assert!(state.set(new[2].clone()));
    assert_eq!(allowed(&state), ["10.0.0.0", "10.0.0.1", "10.0.0.2"]);
    // From three parts to one, which has no revision.
    let mut one = endpoint("p-0", "p", &[HERE]);
    one.spec.ingress = vec![EndpointInfo { cidr: "10.0.0.9".into(), ..EndpointInfo::default() }];
    assert!(!state.set(one));
    assert!(!state.remove(&Key::cluster("p-1")));
    assert_eq!(allowed(&state), ["10.0.0.0", "10.0.0.1", "10.0.0.2"]);
    assert!(state.remove(&Key::cluster("p-2")));
    assert_eq!(allowed(&state), ["10.0.0.9"]);
}

#[test]
fn a_policy_that_is_deleted_part_by_part_ends_with_the_last() {
    let mut state = listed();
    parts(&["10.0.0.1", "10.0.0.2"]).into_iter().for_each(|it| {
        state.set(it);
    });
    assert!(!state.remove(&Key::cluster("p-0")));
    assert_eq!(state.endpoints().len(), 2);
    assert!(state.remove(&Key::cluster("p-1")));
    assert!(state.endpoints().is_empty() && state.known.is_empty());
}

#[test]
fn parts_that_concern_other_nodes_count_and_are_not_kept() {
    let mut state = listed();
    let mut all = parts(&["10.0.0.1", "10.0.0.2"]);
    all[1].spec.pod_selector_endpoints[0].host_ip = "192.168.0.6".into();
    let [first, second] = all.try_into().unwrap();
    assert!(!state.set(first));
    assert!(state.set(second));
    assert_eq!(allowed(&state), ["10.0.0.1"]);
}

#[test]
fn what_is_there_at_the_start_is_in_force_also_where_a_part_is_missing() {
    let mut state = State::new(HERE);
    let first = parts(&["10.0.0.1", "10.0.0.2"]).swap_remove(0);
    assert!(!state.set(first));
    assert!(state.retain(&[Key::cluster("p-0")].into()));
    assert_eq!(allowed(&state), ["10.0.0.1"]);
}

#[test]
fn an_endpoint_that_becomes_another_policys_leaves_nothing_of_the_first() {
    let mut state = listed();
    state.set(endpoint("e", "p", &[HERE]));
    assert!(state.set(endpoint("e", "q", &[HERE])));
    let names: Vec<_> = state.endpoints().values().map(|it| it.policy_ref.name.as_str()).collect();
    assert_eq!(names, ["q"]);
}
