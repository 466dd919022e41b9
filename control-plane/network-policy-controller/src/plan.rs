//! What turns the PolicyEndpoints that are there into those that should be.

use std::sync::Arc;

use api_kube::policy_endpoint::{PolicyEndpoint, PolicyEndpointSpec};
use controller::object;
use k8s_openapi::{
    api::networking::v1::NetworkPolicy, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use network_policy::Revision;

#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) create: Vec<PolicyEndpoint>,
    pub(crate) update: Vec<PolicyEndpoint>,
    pub(crate) delete: Vec<Arc<PolicyEndpoint>>,
}

/// What is right stays; the others become what is missing; the rest is made or goes.
pub(crate) fn plan(
    existing: &[Arc<PolicyEndpoint>],
    policy: Option<&NetworkPolicy>,
    mut wanted: Vec<PolicyEndpointSpec>,
) -> Plan {
    let mut plan = Plan::default();
    let uid = policy.map(object::uid).unwrap_or_default();
    let revision = Revision::of(&uid, &wanted);
    let revised = |endpoint: &PolicyEndpoint, spec: PolicyEndpointSpec| {
        let mut metadata = endpoint.metadata.clone();
        Revision::write(revision.as_ref(), &mut metadata);
        PolicyEndpoint::new(metadata, spec)
    };
    let mut free = Vec::new();
    for endpoint in existing.iter().filter(|it| !object::is_terminating(&***it)) {
        // One of an earlier policy of this name goes with its owner.
        if !object::is_controlled_by(&**endpoint, &uid) {
            plan.delete.push(endpoint.clone());
        } else if let Some(at) = wanted.iter().position(|it| *it == endpoint.spec) {
            let spec = wanted.remove(at);
            if Revision::read(&endpoint.metadata) != revision {
                plan.update.push(revised(endpoint, spec));
            }
        } else {
            free.push(endpoint);
        }
    }
    let mut free = free.into_iter();
    for spec in wanted {
        match (free.next(), policy) {
            (Some(endpoint), _) => plan.update.push(revised(endpoint, spec)),
            (None, Some(policy)) => plan.create.push(revised(&new(policy), spec)),
            (None, None) => {}
        }
    }
    plan.delete.extend(free.cloned());
    plan
}

fn new(policy: &NetworkPolicy) -> PolicyEndpoint {
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", policy.name_any())),
        namespace: policy.metadata.namespace.clone(),
        owner_references: Some(vec![object::controller_reference(policy)]),
        ..ObjectMeta::default()
    };
    PolicyEndpoint::new(metadata, PolicyEndpointSpec::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(uid: &str) -> NetworkPolicy {
        let metadata = ObjectMeta {
            name: Some("p".into()),
            namespace: Some("x".into()),
            uid: Some(uid.into()),
            ..ObjectMeta::default()
        };
        NetworkPolicy { metadata, ..NetworkPolicy::default() }
    }

    fn spec(types: &[&str]) -> PolicyEndpointSpec {
        let pod_isolation = types.iter().map(|it| (*it).to_owned()).collect();
        PolicyEndpointSpec { pod_isolation, ..PolicyEndpointSpec::default() }
    }

    fn existing(name: &str, uid: &str, spec: PolicyEndpointSpec) -> Arc<PolicyEndpoint> {
        let mut endpoint = new(&policy(uid));
        endpoint.spec = spec;
        endpoint.metadata.name = Some(name.into());
        Arc::new(endpoint)
    }

    #[test]
    fn what_is_right_stays_and_another_becomes_what_is_missing() {
        let there =
            [existing("p-1", "u", spec(&["Ingress"])), existing("p-2", "u", spec(&["Egress"]))];
        let wanted = vec![spec(&["Egress"]), spec(&["Ingress", "Egress"])];
        let first = plan(&there, Some(&policy("u")), wanted.clone());
        assert!(first.create.is_empty() && first.delete.is_empty());
        // The one that stays gets the revision of the two.
        assert_eq!(first.update.len(), 2);
        assert_eq!(first.update[0].metadata.name.as_deref(), Some("p-2"));
        assert_eq!(first.update[0].spec, spec(&["Egress"]));
        assert_eq!(first.update[1].metadata.name.as_deref(), Some("p-1"));
        assert_eq!(first.update[1].spec, spec(&["Ingress", "Egress"]));
        let there: Vec<_> = first.update.into_iter().map(Arc::new).collect();
        let again = plan(&there, Some(&policy("u")), wanted);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    }

    #[test]
    fn a_policy_that_fits_into_one_part_carries_no_revision() {
        let there = [existing("p-1", "u", spec(&["Ingress"])), existing("p-2", "u", spec(&[]))];
        let two = plan(&there, Some(&policy("u")), vec![spec(&["Ingress"]), spec(&[])]);
        assert!(two.update.iter().all(|it| Revision::read(&it.metadata).is_some()));
        let there: Vec<_> = two.update.into_iter().map(Arc::new).collect();
        let one = plan(&there, Some(&policy("u")), vec![spec(&["Ingress"])]);
        assert_eq!((one.create.len(), one.update.len(), one.delete.len()), (0, 1, 1));
        assert_eq!(one.update[0].metadata.annotations, None);
    }

    #[test]
    fn those_of_an_earlier_policy_of_the_name_are_not_taken_over() {
        let there = [existing("p-1", "old", spec(&["Ingress"]))];
        let plan = plan(&there, Some(&policy("new")), vec![spec(&["Ingress"])]);
        assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (1, 0, 1));
    }

    #[test]
    fn without_the_policy_all_go() {
        let there = [existing("p-1", "u", spec(&["Ingress"]))];
        let plan = plan(&there, None, Vec::new());
        assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 0, 1));
    }
}
