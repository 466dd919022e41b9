//! Makes groups what they shall be: observe, plan, write down, call EC2; again whenever something
//! changed or falls due.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_ec2::{
    common::Filter,
    instance::{DescribeInstances, DescribeInstancesRequest},
    instance_state::{
        DescribeInstanceStatus, DescribeInstanceStatusRequest, StartInstances,
        StartInstancesRequest, StopInstances, StopInstancesRequest, TerminateInstances,
        TerminateInstancesRequest,
    },
};
use aws_wire::{CallError, Client, Fault};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    AutoScaling, launch,
    plan::{self, Ec2Call, Observed},
    records::MemberState,
};

/// At the latest: for changes that nobody announced.
const RESYNC: Duration = Duration::from_secs(15);

impl AutoScaling {
    /// Keeps all groups at their size until it is dropped. `ec2_changes` tells when instances may
    /// have changed; without it they are looked at every few seconds.
    pub async fn run(self, mut ec2_changes: watch::Receiver<u64>) {
        loop {
            let wake_at = self.pass().await;
            let pause = wake_at.map_or(RESYNC, |at| self.clock().until(at).min(RESYNC));
            tokio::select! {
                () = self.changed() => tokio::time::sleep(self.latency().scaling).await,
                changed = ec2_changes.changed() => {
                    // Without anyone to announce changes, only the others wake us.
                    if changed.is_err() {
                        tokio::time::sleep(pause).await;
                    }
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look at every group. Answers when the next one is due.
    pub(crate) async fn pass(&self) -> Option<Timestamp> {
        let ec2 = match self.ec2() {
            Ok(ec2) => ec2.clone(),
            Err(fault) => {
                tracing::warn!(%fault, "groups are not kept");
                return None;
            }
        };
        let mut wake_at: Option<Timestamp> = None;
        for group in self.groups() {
            match self.reconcile(&ec2, &group.name).await {
                Ok(at) => wake_at = wake_at.into_iter().chain(at).min(),
                Err(error) => {
                    tracing::warn!(group = group.name, %error, "a group could not be reconciled");
                }
            }
        }
        wake_at
    }

    async fn reconcile(
        &self,
        ec2: &Client,
        name: &str,
    ) -> Result<Option<Timestamp>, ReconcileError> {
        let Ok(group) = self.group(name) else { return Ok(None) };
        let ids: Vec<String> = group.members.keys().cloned().collect();
        let mut observed =
            observe(ec2, ids).await.map_err(|source| ReconcileError::Observe { source })?;
        if group.capacity_rebalance {
            observed.at_risk = self.at_risk();
        }
        let now = self.now();
        let wake_at = self
            .update(name, |group, history| {
                let plan = plan::plan(group, &observed, now);
                *group = plan.group;
                for activity in plan.activities {
                    history.add(activity);
                }
                for ending in plan.endings {
                    history.change(&ending.activity, |it| {
                        it.status = ending.status;
                        it.message = ending.message.clone();
                        it.ended_at = ending.status.is_over().then_some(now);
                    });
                }
                Ok(plan.wake_at)
            })
            .map_err(|source| ReconcileError::Write { source })?;
        let group = self.group(name).map_err(|source| ReconcileError::Write { source })?;
        if group.is_deleting && group.members.is_empty() && group.launches.is_empty() {
            self.remove(name).map_err(|source| ReconcileError::Write { source })?;
            return Ok(None);
        }
        // What EC2 has refused in a zone is not asked for once more in the same breath: the others
        // wait for the next try, which is later after each failure.
        let mut refused = BTreeSet::new();
        // One that EC2 has no room to start keeps nobody else waiting.
        let mut not_warmed = None;
        for call in plan::calls(&group, &observed, now) {
            match call {
                Ec2Call::Launch(launch) if refused.contains(&launch.zone) => {}
                Ec2Call::Launch(launch) => {
                    let zone = launch.zone.clone();
                    if !launch::launch(self, ec2, &group, *launch).await {
                        refused.insert(zone);
                    }
                }
                Ec2Call::Terminate(id) => {
                    let request =
                        TerminateInstancesRequest { instance_ids: vec![id], ..Default::default() };
                    let outcome = ec2.call::<TerminateInstances>(request).await;
                    outcome.map_err(|source| ReconcileError::Terminate { source })?;
                }
                Ec2Call::Stop(id) => {
                    let request =
                        StopInstancesRequest { instance_ids: vec![id], ..Default::default() };
                    not_warmed = ec2.call::<StopInstances>(request).await.err().or(not_warmed);
                }
                Ec2Call::Hibernate(id) => {
                    not_warmed = self.hibernate(ec2, name, id).await.err().or(not_warmed);
                }
                Ec2Call::Start(id) => {
                    let request =
                        StartInstancesRequest { instance_ids: vec![id], ..Default::default() };
                    not_warmed = ec2.call::<StartInstances>(request).await.err().or(not_warmed);
                }
            }
        }
        match not_warmed {
            Some(source) => Err(ReconcileError::Warm { source }),
            None => Ok(wake_at),
        }
    }
}

impl AutoScaling {
    /// One that was not launched for it is stopped instead.
    async fn hibernate(&self, ec2: &Client, group: &str, id: String) -> Result<(), CallError> {
        let request = StopInstancesRequest {
            instance_ids: vec![id.clone()],
            hibernate: Some(true),
            ..Default::default()
        };
        match ec2.call::<StopInstances>(request).await {
            Err(error) if error.is("UnsupportedHibernationConfiguration") => {
                tracing::warn!(group, instance = id, %error, "an instance is stopped instead");
                let written = self.update(group, |group, _| {
                    if let Some(member) = group.members.get_mut(&id) {
                        member.state = MemberState::WarmedStopped;
                    }
                    Ok(())
                });
                let failed = |fault| CallError::Service {
                    service: "autoscaling",
                    action: "Hibernate",
                    fault,
                };
                written.map_err(failed)
            }
            result => result.map(drop),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("failed to describe the group's instances")]
    Observe {
        #[source]
        source: CallError,
    },
    #[error("failed to terminate an instance")]
    Terminate {
        #[source]
        source: CallError,
    },
    #[error("failed to stop or start an instance of the warm pool")]
    Warm {
        #[source]
        source: CallError,
    },
    #[error("failed to write the group down")]
    Write {
        #[source]
        source: Fault,
    },
}

/// What EC2 says about these instances; a filter, because an unknown id is no fault there.
async fn observe(ec2: &Client, ids: Vec<String>) -> Result<Observed, CallError> {
    let mut states = BTreeMap::new();
    for some in ids.chunks(200) {
        let filter = Filter { name: Some("instance-id".to_owned()), values: some.to_vec() };
        let request = DescribeInstancesRequest { filters: vec![filter], ..Default::default() };
        let response = ec2.call::<DescribeInstances>(request).await?;
        for instance in response.reservations.into_iter().flat_map(|it| it.instances) {
            let state = instance.state.and_then(|it| it.name);
            if let (Some(id), Some(state)) = (instance.instance_id, state) {
                states.insert(id, state);
            }
        }
    }
    let impaired = if ids.is_empty() { BTreeSet::new() } else { impaired(ec2).await? };
    Ok(Observed { asked: ids.into_iter().collect(), states, impaired, ..Observed::default() })
}

/// All that fail their status checks, whoever's they are: there are few.
async fn impaired(ec2: &Client) -> Result<BTreeSet<String>, CallError> {
    let filter = Filter {
        name: Some("instance-status.status".to_owned()),
        values: vec!["impaired".to_owned()],
    };
    let request = DescribeInstanceStatusRequest { filters: vec![filter], ..Default::default() };
    let found = ec2.call::<DescribeInstanceStatus>(request).await?.instance_statuses;
    Ok(found.into_iter().filter_map(|it| it.instance_id).collect())
}
