//! What passes over a group that fail again and again mean for the group: pure.

use std::time::Duration;

use aws_wire::CallError;

use super::{
    super::records::{Issue, Nodegroup, State},
    plan::Step,
};
use crate::reconcile::PassError;

/// A control plane that starts again is no issue.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do about passes that have failed for so long, the last with `error`. `waited` is since the
/// group was last changed, and `limit` how long that may take.
pub(crate) fn plan(
    group: &Nodegroup,
    error: &PassError,
    failing: Duration,
    waited: Duration,
    limit: Duration,
) -> Option<Step> {
    let issue = issue(group, error).filter(|_| failing >= PATIENCE)?;
    let is_known = group.issues.contains(&issue);
    match group.state {
        State::Deleting => Some(Step::Fail(issue)),
        State::Creating | State::Updating if waited > limit => Some(Step::Fail(issue)),
        State::Active => Some(Step::Degrade(vec![issue])),
        State::Creating | State::Updating | State::Degraded if !is_known => {
            Some(Step::Tell(vec![issue]))
        }
        _ => None,
    }
}

fn issue(group: &Nodegroup, error: &PassError) -> Option<Issue> {
    let of = |code: &str, message: String, resource: &str| {
        let resources = vec![resource.to_owned()];
        Some(Issue { code: code.to_owned(), message, resources })
    };
    let cluster = &group.cluster;
    match error {
        PassError::Kubernetes(kube::Error::Api(status)) if [401, 403].contains(&status.code) => of(
            "AccessDenied",
            format!("The API server of cluster {cluster} refuses EKS: {}", status.message),
            cluster,
        ),
        // What the API server says otherwise is about an object, and tried again.
        PassError::Kubernetes(kube::Error::Api(status)) if status.code < 500 => None,
        PassError::Kubernetes(_) | PassError::Late { .. } => of(
            "ClusterUnreachable",
            format!("The API server of cluster {cluster} cannot be reached."),
            cluster,
        ),
        PassError::Call(error) if group.state == State::Deleting => {
            let template = group.template();
            let is_of = |wanted: &str| matches!(error, CallError::Service { action, .. } if *action == wanted);
            let (code, resource) = match &group.remote_access_security_group {
                Some(id) if is_of("DeleteSecurityGroup") => ("Ec2SecurityGroupDeletionFailure", id),
                _ if is_of("DeleteLaunchTemplate") => {
                    ("Ec2LaunchTemplateDeletionFailure", &template)
                }
                _ => ("InternalFailure", &template),
            };
            of(code, telemetry::chain(error).to_string(), resource)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_wire::Fault;
    use kube::core::Status;

    use super::*;
    use crate::nodegroups::reconcile::plan::tests::group;

    const LIMIT: Duration = Duration::from_secs(1200);

    fn api(code: u16) -> PassError {
        let status = Status::failure("no", "No").with_code(code);
        PassError::Kubernetes(kube::Error::Api(Box::new(status)))
    }

    fn planned(state: State, error: &PassError, seconds: u64) -> Option<Step> {
        let failing = Duration::from_secs(seconds);
        plan(&group(state), error, failing, failing, LIMIT)
    }

    #[test]
    fn a_cluster_that_does_not_answer_for_a_minute_degrades_its_groups() {
        assert_eq!(planned(State::Active, &api(503), 59), None);
        let Some(Step::Degrade(issues)) = planned(State::Active, &api(503), 60) else { panic!() };
        assert_eq!(issues[0].code, "ClusterUnreachable");
        let Some(Step::Degrade(issues)) = planned(State::Active, &api(403), 60) else { panic!() };
        assert_eq!(
            (issues[0].code.as_str(), &issues[0].resources[..]),
            ("AccessDenied", &["c".to_owned()][..])
        );
        assert_eq!(planned(State::Active, &api(409), 600), None, "that is about an object");
    }

    #[test]
    fn what_is_under_way_is_told_of_it_and_fails_at_the_end_of_its_time() {
        let Some(Step::Tell(issues)) = planned(State::Updating, &api(503), 60) else { panic!() };
        let told = Nodegroup { issues: issues.clone(), ..group(State::Updating) };
        let failing = Duration::from_secs(100);
        assert_eq!(plan(&told, &api(503), failing, failing, LIMIT), None);
        let fails = Some(Step::Fail(issues[0].clone()));
        assert_eq!(planned(State::Creating, &api(503), 1201), fails);
        assert_eq!(planned(State::Deleting, &api(503), 60), fails);
    }

    #[test]
    fn what_cannot_be_deleted_is_named() {
        // What another call's message says is not what was called.
        let fault = Fault::new("DeleteConflict", "it is in use by DeleteLaunchTemplate");
        let error = PassError::Call(CallError::Service {
            service: "iam",
            action: "DeleteInstanceProfile",
            fault,
        });
        let Some(Step::Fail(issue)) = planned(State::Deleting, &error, 60) else { panic!() };
        assert_eq!(issue.code, "InternalFailure");
        let of_template = |fault: Fault| {
            let action = "DeleteLaunchTemplate";
            let error = PassError::Call(CallError::Service { service: "ec2", action, fault });
            let Some(Step::Fail(issue)) = planned(State::Deleting, &error, 60) else { panic!() };
            issue.code
        };
        let in_use = Fault::new("InvalidLaunchTemplate", "it is in use");
        assert_eq!(of_template(in_use), "Ec2LaunchTemplateDeletionFailure");
        let fault = Fault::new("DependencyViolation", "it has a dependent object");
        let kept = PassError::Call(CallError::Service {
            service: "ec2",
            action: "DeleteSecurityGroup",
            fault,
        });
        let mut shared = group(State::Deleting);
        shared.remote_access_security_group = Some("sg-1".to_owned());
        let (failing, waited) = (Duration::from_secs(60), Duration::from_secs(60));
        let Some(Step::Fail(issue)) = plan(&shared, &kept, failing, waited, LIMIT) else {
            panic!()
        };
        assert_eq!(issue.code, "Ec2SecurityGroupDeletionFailure");
        assert_eq!(issue.resources, ["sg-1"]);
        assert_eq!(planned(State::Active, &error, 600), None);
    }
}
