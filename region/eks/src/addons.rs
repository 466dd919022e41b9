//! Add-ons: what EKS installs into a cluster and looks after.
//!
//! An add-on is applied when it is created or updated; what users change in between
//! (`kubectl set env ds/aws-node …`) stays. An add-on is `ACTIVE` once its workload is.
//!
//! Deviation: add-ons have no role of their own (`serviceAccountRoleArn` is refused), as no webhook
//! gives pods the credentials of their service accounts.

mod catalog;
mod health;
mod manifest;

use aws_eks::{
    AddonHealth, AddonIssue, CreateAddon, CreateAddonRequest, CreateAddonResponse, DeleteAddon,
    DeleteAddonRequest, DeleteAddonResponse, DescribeAddon, DescribeAddonRequest,
    DescribeAddonResponse, DescribeAddonVersions, DescribeAddonVersionsRequest,
    DescribeAddonVersionsResponse, ListAddons, ListAddonsRequest, ListAddonsResponse, UpdateAddon,
    UpdateAddonRequest, UpdateAddonResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};

pub(crate) use self::{
    health::watch_health,
    manifest::{ManifestError, apply, remove},
};
use crate::{
    Eks, faults,
    records::{Addon, Status},
    tags,
    updates::{self, NewUpdate},
};

/// The images that the add-ons' manifests name: what the registry must hold.
pub fn images(registry: &str) -> Vec<String> {
    let images =
        catalog::ADDONS.iter().flat_map(|it| it.images.iter().map(move |image| (it, image)));
    images.map(|(addon, image)| format!("{registry}/{image}:{}", addon.version)).collect()
}

pub(crate) fn key(addon: &Addon) -> String {
    key_of(&addon.cluster, &addon.name)
}

pub(crate) fn key_of(cluster: &str, name: &str) -> String {
    format!("{cluster}/{name}")
}

/// Nothing gives a pod the credentials of its service account's role by itself.
fn refuse_role(role_arn: Option<&str>) -> Result<(), Fault> {
    match role_arn.filter(|it| !it.is_empty()) {
        None => Ok(()),
        Some(_) => Err(faults::invalid_parameter(
            "serviceAccountRoleArn is not supported in this region: add-ons use the node's role.",
        )),
    }
}

/// What every new cluster gets.
pub(crate) fn defaults(eks: &Eks, cluster: &str) -> Vec<Addon> {
    catalog::ADDONS.iter().map(|it| new(eks, cluster, it.name, it.version)).collect()
}

fn new(eks: &Eks, cluster: &str, name: &str, version: &str) -> Addon {
    let now = eks.now();
    Addon {
        cluster: cluster.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        status: Status::Creating,
        id: entropy::uuid(),
        created_at: now,
        modified_at: now,
        role_arn: None,
        configuration: None,
        tags: Default::default(),
        issues: Vec::new(),
        preserve: false,
        update_id: None,
        applied_at: None,
    }
}

fn describe(eks: &Eks, addon: &Addon) -> aws_eks::Addon {
    let issue = |(code, message): &(String, String)| AddonIssue {
        code: Some(code.clone()),
        message: Some(message.clone()),
        resource_ids: Vec::new(),
    };
    aws_eks::Addon {
        addon_name: addon.name.clone(),
        cluster_name: addon.cluster.clone(),
        status: addon.status.name().to_owned(),
        addon_version: addon.version.clone(),
        health: Some(AddonHealth { issues: addon.issues.iter().map(issue).collect() }),
        addon_arn: eks.arn(&format!("addon/{}/{}/{}", addon.cluster, addon.name, addon.id)),
        created_at: Eks::seconds(addon.created_at),
        modified_at: Eks::seconds(addon.modified_at),
        service_account_role_arn: addon.role_arn.clone(),
        tags: addon.tags.clone(),
        publisher: Some("eks".to_owned()),
        owner: Some("aws".to_owned()),
        configuration_values: addon.configuration.clone(),
    }
}

impl Eks {
    fn find_addon(&self, cluster: &str, name: &str) -> Result<Addon, Fault> {
        self.find(cluster)?;
        let found = self.0.addons.get(&key_of(cluster, name));
        found.map(|it| (*it).clone()).ok_or_else(|| {
            faults::not_found(format!("No addon: {name} found in cluster: {cluster}"))
        })
    }

    pub(crate) fn save_addon(&self, addon: Addon) -> Result<(), Fault> {
        self.0.store.transaction(|transaction| {
            transaction.put(&self.0.addons, key(&addon), addon);
            Ok(())
        })
    }

    fn addon_target(&self, cluster: &str, name: &str) -> Vec<Target> {
        match self.0.addons.get(&key_of(cluster, name)) {
            Some(addon) => {
                let rest = format!("addon/{cluster}/{name}/{}", addon.id);
                vec![Target::resource(self.arn(&rest))]
            }
            None => self.cluster_target(cluster),
        }
    }
}

/// The JSON schema of an add-on's configuration.
pub(crate) fn schema(name: &str, version: &str) -> Result<String, Fault> {
    let known = catalog::find(name)?;
    catalog::check_version(known, Some(version))?;
    Ok(manifest::schema(known.name))
}

impl Handle<CreateAddon> for Eks {
    fn targets(&self, _: &Caller, request: &CreateAddonRequest) -> Vec<Target> {
        self.cluster_target(&request.cluster_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: CreateAddonRequest,
    ) -> Result<CreateAddonResponse, Fault> {
        self.find(&request.cluster_name)?;
        let known = catalog::find(&request.addon_name)?;
        catalog::check_version(known, request.addon_version.as_deref())?;
        manifest::check_configuration(known.name, request.configuration_values.as_deref())?;
        refuse_role(request.service_account_role_arn.as_deref())?;
        let mut addon = new(self, &request.cluster_name, known.name, known.version);
        addon.configuration = request.configuration_values;
        addon.tags = request.tags;
        self.0.store.transaction(|transaction| {
            if transaction.get(&self.0.addons, &key(&addon)).is_some() {
                return Err(faults::in_use("Addon already exists."));
            }
            transaction.put(&self.0.addons, key(&addon), addon.clone());
            Ok(())
        })?;
        Ok(CreateAddonResponse { addon: Some(describe(self, &addon)) })
    }
}

impl Handle<DescribeAddon> for Eks {
    fn targets(&self, _: &Caller, request: &DescribeAddonRequest) -> Vec<Target> {
        self.addon_target(&request.cluster_name, &request.addon_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DescribeAddonRequest,
    ) -> Result<DescribeAddonResponse, Fault> {
        let addon = self.find_addon(&request.cluster_name, &request.addon_name)?;
        Ok(DescribeAddonResponse { addon: Some(describe(self, &addon)) })
    }
}

impl Handle<ListAddons> for Eks {
    fn targets(&self, _: &Caller, request: &ListAddonsRequest) -> Vec<Target> {
        self.cluster_target(&request.cluster_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListAddonsRequest,
    ) -> Result<ListAddonsResponse, Fault> {
        self.find(&request.cluster_name)?;
        let all = self.0.addons.under(&format!("{}/", request.cluster_name));
        let names = all.iter().map(|(_, it)| it.name.clone()).collect();
        let (addons, next_token) =
            tags::page(names, request.max_results, request.next_token.as_deref())?;
        Ok(ListAddonsResponse { addons, next_token })
    }
}

impl Handle<DeleteAddon> for Eks {
    fn targets(&self, _: &Caller, request: &DeleteAddonRequest) -> Vec<Target> {
        self.addon_target(&request.cluster_name, &request.addon_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DeleteAddonRequest,
    ) -> Result<DeleteAddonResponse, Fault> {
        let mut addon = self.find_addon(&request.cluster_name, &request.addon_name)?;
        addon.status = Status::Deleting;
        addon.preserve = request.preserve.unwrap_or(false);
        self.save_addon(addon.clone())?;
        Ok(DeleteAddonResponse { addon: Some(describe(self, &addon)) })
    }
}

impl Handle<UpdateAddon> for Eks {
    fn targets(&self, _: &Caller, request: &UpdateAddonRequest) -> Vec<Target> {
        self.addon_target(&request.cluster_name, &request.addon_name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UpdateAddonRequest,
    ) -> Result<UpdateAddonResponse, Fault> {
        let mut addon = self.find_addon(&request.cluster_name, &request.addon_name)?;
        let known = catalog::find(&addon.name)?;
        catalog::check_version(known, request.addon_version.as_deref())?;
        manifest::check_configuration(known.name, request.configuration_values.as_deref())?;
        refuse_role(request.service_account_role_arn.as_deref())?;
        let mut params = vec![("AddonVersion".to_owned(), known.version.to_owned())];
        if let Some(values) = &request.configuration_values {
            params.push(("ConfigurationValues".to_owned(), values.clone()));
        }
        let update = self.record_update(NewUpdate {
            cluster: request.cluster_name,
            addon: Some(request.addon_name),
            kind: "AddonUpdate".to_owned(),
            params,
            ..NewUpdate::default()
        })?;
        addon.configuration = request.configuration_values.or(addon.configuration);
        addon.status = Status::Updating;
        addon.update_id = Some(update.id.clone());
        addon.applied_at = None;
        addon.modified_at = self.now();
        self.save_addon(addon)?;
        Ok(UpdateAddonResponse { update: Some(updates::shape(&update)) })
    }
}

impl Handle<DescribeAddonVersions> for Eks {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeAddonVersionsRequest,
    ) -> Result<DescribeAddonVersionsResponse, Fault> {
        let addons = catalog::describe(&request);
        Ok(DescribeAddonVersionsResponse { addons, next_token: None })
    }
}
