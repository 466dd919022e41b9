//! The PolicyEndpoints that name pods of this node, and which of them are in force.
//!
//! A policy in several parts is in force as a whole: while its parts are of different states, or
//! some are missing, what was in force of it stays. Only what is there when the agent starts is
//! taken as it is: that there was a policy is known then, and to enforce none of it would open pods
//! that were closed.

use std::collections::{BTreeMap, BTreeSet};

use api_kube::policy_endpoint::{PolicyEndpoint, PolicyEndpointSpec};
use controller::Key;
use network_policy::Revision;

/// See the module.
#[derive(Clone, Debug)]
pub struct State {
    /// The node's primary address, as pods have it as their `hostIP`.
    host_ip: String,
    /// What is known, by policy. Of a policy of one part only what names pods of this node.
    known: BTreeMap<Key, BTreeMap<Key, Part>>,
    /// Which policy a PolicyEndpoint is of.
    policies: BTreeMap<Key, Key>,
    in_force: BTreeMap<Key, PolicyEndpointSpec>,
    /// The names of those in force, by policy.
    enforced: BTreeMap<Key, BTreeSet<Key>>,
    is_listed: bool,
}

#[derive(Clone, Debug)]
struct Part {
    revision: Option<Revision>,
    /// `None` where it names no pod of this node.
    spec: Option<PolicyEndpointSpec>,
}

impl State {
    pub fn new(host_ip: impl Into<String>) -> Self {
        Self {
            host_ip: host_ip.into(),
            known: BTreeMap::new(),
            policies: BTreeMap::new(),
            in_force: BTreeMap::new(),
            enforced: BTreeMap::new(),
            is_listed: false,
        }
    }

    /// Takes a PolicyEndpoint as it is now; whether that changes what is in force.
    pub fn set(&mut self, endpoint: PolicyEndpoint) -> bool {
        let key = Key::of(&endpoint);
        let revision = Revision::read(&endpoint.metadata);
        let mut spec = endpoint.spec;
        let policy = Key::new(spec.policy_ref.namespace.clone(), spec.policy_ref.name.clone());
        spec.pod_selector_endpoints.retain(|it| it.host_ip == self.host_ip);
        spec.pod_selector = None;
        let is_ours = !spec.pod_selector_endpoints.is_empty();
        if !is_ours && revision.is_none() {
            return self.remove(&key);
        }
        let moved = self.policies.get(&key).is_some_and(|it| *it != policy) && self.remove(&key);
        self.policies.insert(key.clone(), policy.clone());
        let part = Part { revision, spec: is_ours.then_some(spec) };
        self.known.entry(policy.clone()).or_default().insert(key, part);
        self.settle(&policy) || moved
    }

    pub fn remove(&mut self, key: &Key) -> bool {
        let Some(policy) = self.policies.remove(key) else { return false };
        if let Some(parts) = self.known.get_mut(&policy) {
            parts.remove(key);
        }
        self.settle(&policy)
    }

    /// Drops every one that is not in `present`: after a new list.
    pub fn retain(&mut self, present: &BTreeSet<Key>) -> bool {
        let gone: Vec<Key> =
            self.policies.keys().filter(|it| !present.contains(it)).cloned().collect();
        let mut is_changed = false;
        for key in &gone {
            is_changed |= self.remove(key);
        }
        if !self.is_listed {
            self.is_listed = true;
            let policies: Vec<Key> = self.known.keys().cloned().collect();
            for policy in policies {
                if !self.enforced.contains_key(&policy) {
                    is_changed |= self.enforce(&policy);
                }
            }
        }
        is_changed
    }

    /// What is in force.
    pub fn endpoints(&self) -> &BTreeMap<Key, PolicyEndpointSpec> {
        &self.in_force
    }

    /// Brings the policy's parts into force where they are whole; whether that changed anything.
    fn settle(&mut self, policy: &Key) -> bool {
        let parts = self.known.get(policy).into_iter().flat_map(BTreeMap::values);
        Revision::is_whole(parts.map(|it| it.revision.as_ref())) && self.enforce(policy)
    }

    fn enforce(&mut self, policy: &Key) -> bool {
        let parts = self.known.get(policy);
        let wanted: BTreeMap<Key, PolicyEndpointSpec> = parts
            .into_iter()
            .flatten()
            .filter_map(|(key, part)| Some((key.clone(), part.spec.clone()?)))
            .collect();
        if parts.is_some_and(BTreeMap::is_empty) {
            self.known.remove(policy);
        }
        let old = self.enforced.remove(policy).unwrap_or_default();
        if !wanted.is_empty() {
            self.enforced.insert(policy.clone(), wanted.keys().cloned().collect());
        }
        let is_same = old.len() == wanted.len()
            && wanted.iter().all(|(key, spec)| self.in_force.get(key) == Some(spec));
        if !is_same {
            old.iter().for_each(|key| drop(self.in_force.remove(key)));
            self.in_force.extend(wanted);
        }
        !is_same
    }
}

#[cfg(test)]
mod tests;
