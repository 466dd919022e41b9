//! Clusters: created, described, listed, changed, deleted.

mod config_update;
mod shape;
mod validate;

use std::sync::Arc;

use aws_eks::{
    CreateCluster, CreateClusterRequest, CreateClusterResponse, DeleteCluster,
    DeleteClusterRequest, DeleteClusterResponse, DescribeCluster, DescribeClusterRequest,
    DescribeClusterResponse, ListClusters, ListClustersRequest, ListClustersResponse,
    UpdateClusterConfig, UpdateClusterConfigRequest, UpdateClusterConfigResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};

use self::config_update::Change;
use crate::{
    Eks, access, addons, faults,
    records::{Asked, Cluster, Status},
    service::{KUBERNETES_VERSION, is_in_vpc},
    targets::{self, WithSome},
    updates::NewUpdate,
};

impl Handle<CreateCluster> for Eks {
    fn targets(&self, _: &Caller, request: &CreateClusterRequest) -> Vec<Target> {
        let access = request.access_config.clone().unwrap_or_default();
        let is_admin = access.bootstrap_cluster_creator_admin_permissions.unwrap_or(true);
        let mode = access.authentication_mode.unwrap_or_else(|| "CONFIG_MAP".to_owned());
        // A cluster of the name that there is already is not what is made.
        let arn = self.arn(&format!("cluster/{}", request.name));
        let cluster = Target::resource(&*arn)
            .with("eks:authenticationMode", [mode])
            .with("eks:bootstrapClusterCreatorAdminPermissions", [is_admin.to_string()]);
        let role = Target::pass_role(&request.role_arn, "eks.amazonaws.com");
        let cluster = targets::tagging(cluster, &request.tags);
        let tagged = cluster.and_tagging("eks:TagResource", arn);
        tagged.into_iter().chain([role]).collect()
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: CreateClusterRequest,
    ) -> Result<CreateClusterResponse, Fault> {
        let place = validate::place(self, &request).await?;
        let cluster = self.new_cluster(&request, place)?;
        let wants_addons = request.bootstrap_self_managed_addons.unwrap_or(true);
        let made = self.0.store.transaction(|transaction| {
            if let Some(known) = transaction.get(&self.0.clusters, &request.name) {
                let is_same = request.client_request_token.is_some()
                    && known.client_token == request.client_request_token;
                let used = format!("Cluster already exists with name: {}", request.name);
                return if is_same { Ok(known) } else { Err(faults::in_use(used)) };
            }
            transaction.put(&self.0.clusters, cluster.name.clone(), cluster.clone());
            if cluster.bootstrap_creator_admin {
                let entry = access::creator(self, &cluster.name, caller);
                transaction.put(&self.0.entries, access::key(&entry), entry);
            }
            if wants_addons {
                for addon in addons::defaults(self, &cluster.name) {
                    transaction.put(&self.0.addons, addons::key(&addon), addon);
                }
            }
            Ok(Arc::new(cluster))
        })?;
        Ok(CreateClusterResponse { cluster: Some(shape::describe(self, &made, is_in_vpc(caller))) })
    }
}

impl Eks {
    fn new_cluster(
        &self,
        request: &CreateClusterRequest,
        place: validate::Place,
    ) -> Result<Cluster, Fault> {
        let access = request.access_config.clone().unwrap_or_default();
        let network = request.kubernetes_network_config.clone().unwrap_or_default();
        let config = &request.resources_vpc_config;
        let mode = validate::authentication_mode(access.authentication_mode.as_deref())?;
        Ok(Cluster {
            name: request.name.clone(),
            id: entropy::hex(32),
            version: request.version.clone().unwrap_or_else(|| KUBERNETES_VERSION.to_owned()),
            role_arn: request.role_arn.clone(),
            vpc_id: place.vpc_id,
            subnet_ids: config.subnet_ids.clone(),
            security_group_ids: config.security_group_ids.clone(),
            cluster_security_group_id: None,
            endpoint_public_access: config.endpoint_public_access.unwrap_or(true),
            endpoint_private_access: config.endpoint_private_access.unwrap_or(false),
            public_access_cidrs: if config.public_access_cidrs.is_empty() {
                vec!["0.0.0.0/0".to_owned()]
            } else {
                config.public_access_cidrs.clone()
            },
            public_address: None,
            service_cidr: validate::service_cidr(&network)?,
            bootstrap_creator_admin: validate::creator_is_admin(
                &mode,
                access.bootstrap_cluster_creator_admin_permissions,
            )?,
            authentication_mode: mode,
            deletion_protection: request.deletion_protection.unwrap_or(false),
            support_type: Some(validate::support_type(request.upgrade_policy.as_ref())?),
            status: Status::Creating,
            created_at: self.now(),
            tags: request.tags.clone(),
            client_token: request.client_request_token.clone(),
            interfaces: Vec::new(),
            certificate_authority_pem: None,
            host_endpoint: None,
            issues: Vec::new(),
        })
    }
}

impl Handle<DescribeCluster> for Eks {
    fn targets(&self, _: &Caller, request: &DescribeClusterRequest) -> Vec<Target> {
        self.cluster_target(&request.name)
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: DescribeClusterRequest,
    ) -> Result<DescribeClusterResponse, Fault> {
        let cluster = self.find(&request.name)?;
        let cluster = shape::describe(self, &cluster, is_in_vpc(caller));
        Ok(DescribeClusterResponse { cluster: Some(cluster) })
    }
}

impl Handle<ListClusters> for Eks {
    async fn handle(
        &self,
        _: &Caller,
        request: ListClustersRequest,
    ) -> Result<ListClustersResponse, Fault> {
        let names = self.clusters().iter().map(|it| it.name.clone()).collect();
        let (clusters, next_token) =
            crate::tags::page(names, request.max_results, request.next_token.as_deref())?;
        Ok(ListClustersResponse { clusters, next_token })
    }
}

impl Handle<DeleteCluster> for Eks {
    fn targets(&self, _: &Caller, request: &DeleteClusterRequest) -> Vec<Target> {
        self.cluster_target(&request.name)
    }

    async fn handle(
        &self,
        caller: &Caller,
        request: DeleteClusterRequest,
    ) -> Result<DeleteClusterResponse, Fault> {
        let cluster = self.0.store.transaction(|transaction| {
            let mut cluster = Cluster::clone(&*self.known(transaction, &request.name)?);
            if cluster.deletion_protection {
                return Err(faults::invalid_request(
                    "Cluster deletion is not allowed because deletion protection is enabled",
                ));
            }
            if self.nodegroups_of(&request.name) > 0 {
                return Err(faults::in_use("Cluster has nodegroups attached")
                    .with_field("clusterName", request.name.as_str()));
            }
            if !self.fargate_profiles(&request.name).is_empty() {
                return Err(faults::in_use("Cluster has Fargate profiles attached")
                    .with_field("clusterName", request.name.as_str()));
            }
            cluster.status = Status::Deleting;
            transaction.put(&self.0.clusters, request.name.clone(), cluster.clone());
            Ok(cluster)
        })?;
        let cluster = shape::describe(self, &cluster, is_in_vpc(caller));
        Ok(DeleteClusterResponse { cluster: Some(cluster) })
    }
}

impl Handle<UpdateClusterConfig> for Eks {
    fn targets(&self, _: &Caller, request: &UpdateClusterConfigRequest) -> Vec<Target> {
        let mode = request.access_config.as_ref().and_then(|it| it.authentication_mode.clone());
        let targets = self.cluster_target(&request.name).into_iter();
        targets.map(|it| it.with_some("eks:authenticationMode", mode.clone())).collect()
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UpdateClusterConfigRequest,
    ) -> Result<UpdateClusterConfigResponse, Fault> {
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        // What is allowed follows from what the cluster is: no other change comes in between.
        let update = self.0.store.transaction(|transaction| {
            let mut cluster = Cluster::clone(&*self.known(transaction, &request.name)?);
            if let Some(known) = self.begun_before(&request.name, asked.as_ref())? {
                return Ok(known);
            }
            if cluster.status != Status::Active {
                return Err(faults::in_use(format!(
                    "Cannot update cluster {} while it is {}",
                    cluster.name,
                    cluster.status.name()
                )));
            }
            let update = config_update::update(&cluster, &request)?;
            if let Change::AuthenticationMode(_) = update.change {
                self.put_node_entries(transaction, &request.name);
            }
            update.change.apply(&mut cluster);
            transaction.put(&self.0.clusters, request.name.clone(), cluster);
            // The change is a matter of records: it has taken effect with these, but for the
            // routers, whose next pass it begins.
            let new = NewUpdate {
                cluster: request.name,
                kind: update.kind.to_owned(),
                params: update.params,
                status: "Successful".to_owned(),
                asked,
                ..NewUpdate::default()
            };
            Ok(crate::updates::shape(&self.put_update(transaction, new)))
        })?;
        Ok(UpdateClusterConfigResponse { update: Some(update) })
    }
}

impl Eks {
    /// Writes a changed copy of the cluster's record.
    pub(crate) fn change_cluster(
        &self,
        name: &str,
        change: impl FnOnce(&mut Cluster),
    ) -> Result<(), Fault> {
        self.0.store.transaction(|transaction| {
            if transaction.update(&self.0.clusters, name, change) {
                Ok(())
            } else {
                Err(faults::no_cluster(name))
            }
        })
    }
}
