//! The PolicyEndpoints that name pods of this node: of the others nothing is kept.

use std::collections::{BTreeMap, BTreeSet};

use api_kube::policy_endpoint::{PolicyEndpoint, PolicyEndpointSpec};
use controller::Key;

/// See the module.
#[derive(Clone, Debug)]
pub struct State {
    /// The node's primary address, as pods have it as their `hostIP`.
    host_ip: String,
    endpoints: BTreeMap<Key, PolicyEndpointSpec>,
}

impl State {
    pub fn new(host_ip: impl Into<String>) -> Self {
        Self { host_ip: host_ip.into(), endpoints: BTreeMap::new() }
    }

    /// Takes a PolicyEndpoint as it is now; whether that changes anything here.
    pub fn set(&mut self, endpoint: PolicyEndpoint) -> bool {
        let key = Key::of(&endpoint);
        let mut spec = endpoint.spec;
        spec.pod_selector_endpoints.retain(|it| it.host_ip == self.host_ip);
        spec.pod_selector = None;
        if spec.pod_selector_endpoints.is_empty() {
            return self.endpoints.remove(&key).is_some();
        }
        self.endpoints.insert(key, spec.clone()) != Some(spec)
    }

    pub fn remove(&mut self, key: &Key) -> bool {
        self.endpoints.remove(key).is_some()
    }

    /// Drops every one that is not in `present`: after a new list.
    pub fn retain(&mut self, present: &BTreeSet<Key>) -> bool {
        let before = self.endpoints.len();
        self.endpoints.retain(|key, _| present.contains(key));
        self.endpoints.len() != before
    }

    pub fn endpoints(&self) -> &BTreeMap<Key, PolicyEndpointSpec> {
        &self.endpoints
    }
}

#[cfg(test)]
mod tests {
    use api_kube::policy_endpoint::PodEndpoint;

    use super::*;

    fn endpoint(name: &str, hosts: &[&str]) -> PolicyEndpoint {
        let pod = |host: &&str| PodEndpoint { host_ip: (*host).into(), ..PodEndpoint::default() };
        let mut endpoint = PolicyEndpoint::new(
            Default::default(),
            PolicyEndpointSpec {
                pod_selector_endpoints: hosts.iter().map(pod).collect(),
                ..PolicyEndpointSpec::default()
            },
        );
        endpoint.metadata.name = Some(name.into());
        endpoint
    }

    #[test]
    fn only_what_names_pods_of_this_node_is_kept() {
        let mut state = State::new("192.168.0.5");
        assert!(state.set(endpoint("mine", &["192.168.0.5", "192.168.0.6"])));
        assert!(!state.set(endpoint("mine", &["192.168.0.5", "192.168.0.7"])));
        assert!(!state.set(endpoint("theirs", &["192.168.0.6"])));
        assert_eq!(state.endpoints().len(), 1);
        // Its pods went elsewhere.
        assert!(state.set(endpoint("mine", &["192.168.0.6"])));
        assert!(state.endpoints().is_empty());
    }

    #[test]
    fn a_new_list_drops_what_went_unseen() {
        let mut state = State::new("192.168.0.5");
        state.set(endpoint("a", &["192.168.0.5"]));
        state.set(endpoint("b", &["192.168.0.5"]));
        assert!(state.retain(&[Key::cluster("b")].into()));
        assert!(!state.retain(&[Key::cluster("b")].into()));
        assert!(state.remove(&Key::cluster("b")) && state.endpoints().is_empty());
    }
}
