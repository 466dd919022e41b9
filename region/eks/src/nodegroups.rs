//! Managed node groups: created, described, listed, changed, deleted.
//!
//! Handlers check and write records; [`reconcile`] makes the launch template, the Auto Scaling
//! group, the instance profile and the access entry, waits for nodes, and drains what leaves.

mod aws_auth;
mod bottlerocket;
mod config_update;
mod drain;
pub(crate) mod reconcile;
pub(crate) mod records;
mod remote_access;
mod resources;
pub(crate) mod rollout;
mod shape;
pub(crate) mod template;
mod user_data;
mod validate;
mod version_update;
mod warm_pool;

use std::sync::Arc;

use aws_eks::{
    CreateNodegroup, CreateNodegroupRequest, CreateNodegroupResponse, DeleteNodegroup,
    DeleteNodegroupRequest, DeleteNodegroupResponse, DescribeNodegroup, DescribeNodegroupRequest,
    DescribeNodegroupResponse, LaunchTemplateSpecification, ListNodegroups, ListNodegroupsRequest,
    ListNodegroupsResponse, UpdateNodegroupConfig, UpdateNodegroupConfigRequest,
    UpdateNodegroupConfigResponse, UpdateNodegroupVersion, UpdateNodegroupVersionRequest,
    UpdateNodegroupVersionResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};

pub(crate) use self::{records::Nodegroup, shape::arn};
use self::{records::State, rollout::Rollout};
use crate::{
    Eks, faults,
    records::Asked,
    tags, targets,
    updates::{self, NewUpdate},
};

pub(crate) fn key_of(cluster: &str, name: &str) -> String {
    format!("{cluster}/{name}")
}

pub(crate) fn key(group: &Nodegroup) -> String {
    key_of(&group.cluster, &group.name)
}

impl Eks {
    pub(crate) fn nodegroups_of(&self, cluster: &str) -> usize {
        self.0.nodegroups.under(&format!("{cluster}/")).len()
    }

    pub(crate) fn find_nodegroup(&self, cluster: &str, name: &str) -> Result<Nodegroup, Fault> {
        self.find(cluster)?;
        let found = self.0.nodegroups.get(&key_of(cluster, name));
        found.map(|it| (*it).clone()).ok_or_else(|| no_nodegroup(cluster, name))
    }

    /// Writes a changed copy of the group's record; one that is gone stays gone.
    pub(crate) fn change_nodegroup(
        &self,
        group: &Nodegroup,
        change: impl FnOnce(&mut Nodegroup),
    ) -> Result<(), Fault> {
        let now = self.now();
        self.0.store.transaction(|transaction| {
            transaction.update(&self.0.nodegroups, &key(group), |it| {
                change(it);
                it.modified_at = now;
            });
            Ok(())
        })
    }

    /// The same for what a pass has come to, unless the group was told otherwise meanwhile: one that
    /// is to go does not become active again.
    pub(crate) fn conclude_nodegroup(
        &self,
        group: &Nodegroup,
        change: impl FnOnce(&mut Nodegroup),
    ) -> Result<(), Fault> {
        self.change_nodegroup(group, |it| {
            if it.state == group.state {
                change(it);
            }
        })
    }

    /// Writes the record of an update, and the group as it is while that is under way: unless the
    /// group has become another than what the update was made for. The same call may have begun it
    /// meanwhile.
    pub(crate) fn begin_update(
        &self,
        group: &Nodegroup,
        new: NewUpdate,
        change: impl FnOnce(&mut Nodegroup),
    ) -> Result<aws_eks::Update, Fault> {
        let now = self.now();
        self.0.store.transaction(|transaction| {
            if let Some(known) = self.begun_before(&group.cluster, new.asked.as_ref())? {
                return Ok(known);
            }
            let current = transaction.get(&self.0.nodegroups, &key(group));
            let mut current = match current.filter(|it| it.id == group.id) {
                Some(it) => Nodegroup::clone(&it),
                None => return Err(no_nodegroup(&group.cluster, &group.name)),
            };
            check_updatable(&current)?;
            let update = self.put_update(
                transaction,
                NewUpdate {
                    cluster: group.cluster.clone(),
                    nodegroup: Some(group.name.clone()),
                    ..new
                },
            );
            change(&mut current);
            current.state = State::Updating;
            current.update_id = Some(update.id.clone());
            current.modified_at = now;
            transaction.put(&self.0.nodegroups, key(group), current);
            Ok(updates::shape(&update))
        })
    }

    /// An update that is under way ends with it: nobody goes on with that.
    fn begin_deletion(&self, group: &Nodegroup) -> Result<(), Fault> {
        let now = self.now();
        self.0.store.transaction(|transaction| {
            transaction.update(&self.0.nodegroups, &key(group), |it| {
                it.state = State::Deleting;
                it.modified_at = now;
            });
            let current = transaction.get(&self.0.nodegroups, &key(group));
            if let Some(update) = current.and_then(|it| it.update_id.clone()) {
                self.cancel_update(transaction, &group.cluster, &update);
            }
            Ok(())
        })
    }

    /// What EKS notes of a group is no change of the group's: its time goes on.
    pub(crate) fn note_nodegroup(
        &self,
        group: &Nodegroup,
        change: impl FnOnce(&mut Nodegroup),
    ) -> Result<(), Fault> {
        self.0.store.transaction(|transaction| {
            transaction.update(&self.0.nodegroups, &key(group), change);
            Ok(())
        })
    }

    fn nodegroup_target(&self, cluster: &str, name: &str) -> Vec<Target> {
        match self.0.nodegroups.get(&key_of(cluster, name)) {
            Some(group) => vec![targets::tagged(arn(self, &group), &group.tags)],
            None => self.cluster_target(cluster),
        }
    }
}

impl Handle<CreateNodegroup> for Eks {
    fn targets(&self, _: &Caller, request: &CreateNodegroupRequest) -> Vec<Target> {
        let made = ("nodegroup", &*format!("{}/*", request.nodegroup_name));
        let mut targets = self.tagging_target(&request.cluster_name, made, &request.tags);
        // EKS hands it on to EC2, with rights of its own.
        targets.push(Target::pass_role(&request.node_role, "eks.amazonaws.com"));
        if let Some(template) = &request.launch_template {
            targets.extend(template_targets(self, template));
        }
        targets
    }

    async fn handle(
        &self,
        _: &Caller,
        request: CreateNodegroupRequest,
    ) -> Result<CreateNodegroupResponse, Fault> {
        let cluster = self.find(&request.cluster_name)?;
        let base = validate::create(self, &cluster, &request).await?;
        let group = records::new(self, &cluster, &request, base);
        let made = self.0.store.transaction(|transaction| {
            if let Some(known) = transaction.get(&self.0.nodegroups, &key(&group)) {
                let is_same = request.client_request_token.is_some()
                    && known.client_token == request.client_request_token;
                let used = format!(
                    "NodeGroup already exists with name {} and cluster name {}",
                    group.name, group.cluster
                );
                return if is_same { Ok(known) } else { Err(faults::in_use(used)) };
            }
            // It may have begun to go while what the group needs was looked at.
            let current = self.known(transaction, &group.cluster)?;
            validate::active(&current)?;
            transaction.put(&self.0.nodegroups, key(&group), group.clone());
            Ok(Arc::new(group))
        })?;
        Ok(CreateNodegroupResponse { nodegroup: Some(shape::describe(self, &made)) })
    }
}

impl Handle<DescribeNodegroup> for Eks {
    fn targets(&self, _: &Caller, request: &DescribeNodegroupRequest) -> Vec<Target> {
        self.nodegroup_target(&request.cluster_name, &request.nodegroup_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DescribeNodegroupRequest,
    ) -> Result<DescribeNodegroupResponse, Fault> {
        let group = self.find_nodegroup(&request.cluster_name, &request.nodegroup_name)?;
        Ok(DescribeNodegroupResponse { nodegroup: Some(shape::describe(self, &group)) })
    }
}

impl Handle<ListNodegroups> for Eks {
    fn targets(&self, _: &Caller, request: &ListNodegroupsRequest) -> Vec<Target> {
        self.cluster_target(&request.cluster_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListNodegroupsRequest,
    ) -> Result<ListNodegroupsResponse, Fault> {
        self.find(&request.cluster_name)?;
        let all = self.0.nodegroups.under(&format!("{}/", request.cluster_name));
        let names = all.iter().map(|(_, it)| it.name.clone()).collect();
        let (nodegroups, next_token) =
            tags::page(names, request.max_results, request.next_token.as_deref())?;
        Ok(ListNodegroupsResponse { nodegroups, next_token })
    }
}

impl Handle<DeleteNodegroup> for Eks {
    fn targets(&self, _: &Caller, request: &DeleteNodegroupRequest) -> Vec<Target> {
        self.nodegroup_target(&request.cluster_name, &request.nodegroup_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DeleteNodegroupRequest,
    ) -> Result<DeleteNodegroupResponse, Fault> {
        let group = self.find_nodegroup(&request.cluster_name, &request.nodegroup_name)?;
        self.begin_deletion(&group)?;
        let group = self.find_nodegroup(&request.cluster_name, &request.nodegroup_name)?;
        Ok(DeleteNodegroupResponse { nodegroup: Some(shape::describe(self, &group)) })
    }
}

impl Handle<UpdateNodegroupConfig> for Eks {
    fn targets(&self, _: &Caller, request: &UpdateNodegroupConfigRequest) -> Vec<Target> {
        self.nodegroup_target(&request.cluster_name, &request.nodegroup_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UpdateNodegroupConfigRequest,
    ) -> Result<UpdateNodegroupConfigResponse, Fault> {
        let group = self.find_nodegroup(&request.cluster_name, &request.nodegroup_name)?;
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        if let Some(known) = self.begun_before(&request.cluster_name, asked.as_ref())? {
            return Ok(UpdateNodegroupConfigResponse { update: Some(known) });
        }
        check_updatable(&group)?;
        let change = config_update::plan(&group, &request)?;
        let (kind, params) = ("ConfigUpdate".to_owned(), change.params.clone());
        let new = NewUpdate { kind, params, asked, ..NewUpdate::default() };
        let update = self.begin_update(&group, new, |it| change.apply(it))?;
        Ok(UpdateNodegroupConfigResponse { update: Some(update) })
    }
}

impl Handle<UpdateNodegroupVersion> for Eks {
    fn targets(&self, _: &Caller, request: &UpdateNodegroupVersionRequest) -> Vec<Target> {
        let mut targets = self.nodegroup_target(&request.cluster_name, &request.nodegroup_name);
        if let Some(template) = &request.launch_template {
            targets.extend(template_targets(self, template));
        }
        targets
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UpdateNodegroupVersionRequest,
    ) -> Result<UpdateNodegroupVersionResponse, Fault> {
        let group = self.find_nodegroup(&request.cluster_name, &request.nodegroup_name)?;
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        if let Some(known) = self.begun_before(&request.cluster_name, asked.as_ref())? {
            return Ok(UpdateNodegroupVersionResponse { update: Some(known) });
        }
        check_updatable(&group)?;
        let (target, params) = version_update::plan(self, &group, &request).await?;
        let force = request.force == Some(true);
        let rollout = Rollout::new(target, force, &group, self.now());
        let kind = "VersionUpdate".to_owned();
        let new = NewUpdate { kind, params, asked, ..NewUpdate::default() };
        let update = self.begin_update(&group, new, |it| {
            it.rollout = Some(Box::new(rollout));
        })?;
        Ok(UpdateNodegroupVersionResponse { update: Some(update) })
    }
}

fn no_nodegroup(cluster: &str, name: &str) -> Fault {
    faults::not_found(format!("No node group found for name: {name}."))
        .with_field("clusterName", cluster)
        .with_field("nodegroupName", name)
}

fn check_updatable(group: &Nodegroup) -> Result<(), Fault> {
    if matches!(group.state, State::Active | State::Degraded) {
        return Ok(());
    }
    Err(faults::in_use(format!(
        "Nodegroup cannot be updated as it is currently not in Active State: {}",
        group.state.name()
    )))
}

/// EKS reads a customer's template and starts instances from it in the caller's name.
fn template_targets(eks: &Eks, template: &LaunchTemplateSpecification) -> [Target; 2] {
    let id = template.id.as_deref().unwrap_or("*");
    let arn = eks.arn(&format!("launch-template/{id}")).replacen(":eks:", ":ec2:", 1);
    [
        Target::action("ec2:DescribeLaunchTemplateVersions", "*"),
        Target::action("ec2:RunInstances", arn),
    ]
}
