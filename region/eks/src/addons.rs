//! Add-ons: what EKS installs into a cluster and looks after.
//!
//! An add-on is applied when it is created or updated; what users change in between
//! (`kubectl set env ds/aws-node …`) stays until then, and further as [`field_management`] says. An add-on is `ACTIVE` once its workload is.
//!
//! A role of its own (`serviceAccountRoleArn`) is an annotation of the add-on's service account, which
//! the pod identity webhook reads. An update that names none takes the role away, as on EKS.
//!
//! Deviation: an update that comes while another is under way takes its place, and that one ends as
//! `Cancelled`; EKS refuses it. Where the role changes, the add-on's pods are restarted, so that they act as it says.

mod catalog;
mod configuration;
mod configure;
mod field_management;
mod health;
mod json_schema;
mod manifest;
mod pod_identity;

use std::sync::Arc;

use aws_eks::{
    AddonHealth, AddonInfo, AddonIssue, CreateAddon, CreateAddonRequest, CreateAddonResponse,
    DeleteAddon, DeleteAddonRequest, DeleteAddonResponse, DescribeAddon, DescribeAddonRequest,
    DescribeAddonResponse, DescribeAddonVersions, DescribeAddonVersionsRequest,
    DescribeAddonVersionsResponse, ListAddons, ListAddonsRequest, ListAddonsResponse, UpdateAddon,
    UpdateAddonRequest, UpdateAddonResponse,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};
use region_store::Transaction;

pub use self::field_management::ResolveConflicts;
pub(crate) use self::{
    health::watch_health,
    manifest::{ManifestError, apply, remove},
};
use crate::{
    Eks, faults,
    records::{Addon, Asked, Status},
    tags, targets,
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

/// The role of an add-on's service account, if it is one.
fn checked_role(eks: &Eks, role_arn: Option<&str>) -> Result<Option<String>, Fault> {
    let Some(arn) = role_arn.filter(|it| !it.is_empty()) else { return Ok(None) };
    let is_role = arn.split(':').nth(5).is_some_and(|it| it.starts_with("role/"));
    if !is_role || eks.0.config.roles.principal_id(arn).is_none() {
        let message = format!("The role with name {arn} cannot be found.");
        return Err(faults::invalid_parameter(message));
    }
    Ok(Some(arn.to_owned()))
}

/// Whoever gives an add-on a role hands it to EKS. An update that names the role it has does so too.
fn passed_role(role_arn: Option<&str>) -> Option<Target> {
    let arn = role_arn.filter(|it| !it.is_empty())?;
    Some(Target::pass_role(arn, "eks.amazonaws.com"))
}

/// What every new cluster gets.
pub(crate) fn defaults(eks: &Eks, cluster: &str) -> Vec<Addon> {
    let known = catalog::ADDONS.iter().filter(|it| it.is_default);
    let of_cluster = |it: &catalog::Known| Addon {
        is_bootstrapped: true,
        resolve_conflicts: ResolveConflicts::Overwrite,
        ..new(eks, cluster, it.name, it.version)
    };
    known.map(of_cluster).collect()
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
        applied_role: None,
        configuration: None,
        tags: Default::default(),
        issues: Vec::new(),
        preserve: false,
        update_id: None,
        applied_at: None,
        applied_configuration: None,
        is_bootstrapped: false,
        resolve_conflicts: ResolveConflicts::None,
        asked: None,
    }
}

pub(crate) fn arn(eks: &Eks, addon: &Addon) -> String {
    eks.arn(&format!("addon/{}/{}/{}", addon.cluster, addon.name, addon.id))
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
        addon_arn: arn(eks, addon),
        pod_identity_associations: pod_identity::arns(eks, addon),
        created_at: Eks::seconds(addon.created_at),
        modified_at: Eks::seconds(addon.modified_at),
        service_account_role_arn: addon.role_arn.clone(),
        tags: addon.tags.clone(),
        publisher: Some("eks".to_owned()),
        owner: Some("aws".to_owned()),
        configuration_values: addon.configuration.clone(),
    }
}

fn no_addon(cluster: &str, name: &str) -> Fault {
    faults::not_found(format!("No addon: {name} found in cluster: {cluster}"))
}

impl Eks {
    fn find_addon(&self, cluster: &str, name: &str) -> Result<Addon, Fault> {
        self.find(cluster)?;
        let found = self.0.addons.get(&key_of(cluster, name));
        found.map(|it| (*it).clone()).ok_or_else(|| no_addon(cluster, name))
    }

    /// The add-on as it is now.
    fn current_addon(
        &self,
        transaction: &Transaction,
        cluster: &str,
        name: &str,
    ) -> Result<Addon, Fault> {
        let found = transaction.get(&self.0.addons, &key_of(cluster, name));
        found.map(|it| (*it).clone()).ok_or_else(|| no_addon(cluster, name))
    }

    fn addon_target(&self, cluster: &str, name: &str) -> Vec<Target> {
        match self.0.addons.get(&key_of(cluster, name)) {
            Some(addon) => vec![targets::tagged(arn(self, &addon), &addon.tags)],
            None => self.cluster_target(cluster),
        }
    }
}

/// The JSON schema of an add-on's configuration.
pub(crate) fn schema(name: &str, version: &str) -> Result<String, Fault> {
    let known = catalog::find(name)?;
    catalog::check_version(known, Some(version))?;
    Ok(configuration::schema(known.name).to_string())
}

impl Handle<CreateAddon> for Eks {
    fn targets(&self, _: &Caller, request: &CreateAddonRequest) -> Vec<Target> {
        let made = ("addon", &*format!("{}/*", request.addon_name));
        let mut targets = self.tagging_target(&request.cluster_name, made, &request.tags);
        targets.extend(passed_role(request.service_account_role_arn.as_deref()));
        let wanted = request.pod_identity_associations.as_deref();
        targets.extend(pod_identity::targets(self, &request.cluster_name, wanted));
        targets
    }

    async fn handle(
        &self,
        _: &Caller,
        request: CreateAddonRequest,
    ) -> Result<CreateAddonResponse, Fault> {
        self.find(&request.cluster_name)?;
        let known = catalog::find(&request.addon_name)?;
        catalog::check_version(known, request.addon_version.as_deref())?;
        configuration::check(known.name, request.configuration_values.as_deref())?;
        let role = checked_role(self, request.service_account_role_arn.as_deref())?;
        let mode = ResolveConflicts::of_creation(request.resolve_conflicts.as_deref())?;
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        let wanted = request.pod_identity_associations;
        pod_identity::check(self, known, wanted.as_deref())?;
        let mut addon = new(self, &request.cluster_name, known.name, known.version);
        addon.role_arn = role;
        addon.resolve_conflicts = mode;
        addon.configuration = request.configuration_values;
        addon.tags = request.tags;
        addon.asked = asked;
        let made = self.0.store.transaction(|transaction| {
            self.known(transaction, &request.cluster_name)?;
            // What the cluster began with is nobody's on AWS, and can be asked for.
            let known = transaction.get(&self.0.addons, &key(&addon));
            if let Some(known) = known.filter(|it| !it.is_bootstrapped) {
                return match Asked::made(known.asked.as_ref(), addon.asked.as_ref())? {
                    true => Ok(known),
                    false => Err(faults::in_use("Addon already exists.")),
                };
            }
            transaction.put(&self.0.addons, key(&addon), addon.clone());
            pod_identity::write(self, transaction, &addon, wanted.as_deref())?;
            Ok(Arc::new(addon))
        })?;
        Ok(CreateAddonResponse { addon: Some(describe(self, &made)) })
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
        let (cluster, name) = (&request.cluster_name, &request.addon_name);
        self.find(cluster)?;
        let addon = self.0.store.transaction(|transaction| {
            let mut addon = self.current_addon(transaction, cluster, name)?;
            addon.status = Status::Deleting;
            addon.preserve = request.preserve.unwrap_or(false);
            // Made anew before it is gone, it would go with the old one.
            addon.is_bootstrapped = false;
            if !addon.preserve {
                pod_identity::write(self, transaction, &addon, Some(&[]))?;
            }
            // Nobody goes on with that.
            if let Some(update) = addon.update_id.take() {
                self.cancel_update(transaction, cluster, &update);
            }
            transaction.put(&self.0.addons, key(&addon), addon.clone());
            Ok::<_, Fault>(addon)
        })?;
        Ok(DeleteAddonResponse { addon: Some(describe(self, &addon)) })
    }
}

impl Handle<UpdateAddon> for Eks {
    fn targets(&self, _: &Caller, request: &UpdateAddonRequest) -> Vec<Target> {
        let mut targets = self.addon_target(&request.cluster_name, &request.addon_name);
        targets.extend(passed_role(request.service_account_role_arn.as_deref()));
        let wanted = request.pod_identity_associations.as_deref();
        targets.extend(pod_identity::targets(self, &request.cluster_name, wanted));
        targets
    }

    async fn handle(
        &self,
        _: &Caller,
        request: UpdateAddonRequest,
    ) -> Result<UpdateAddonResponse, Fault> {
        let addon = self.find_addon(&request.cluster_name, &request.addon_name)?;
        let mode = ResolveConflicts::of_update(request.resolve_conflicts.as_deref())?;
        let asked = Asked::of(request.client_request_token.as_ref(), &request)?;
        let known = catalog::find(&addon.name)?;
        catalog::check_version(known, request.addon_version.as_deref())?;
        configuration::check(known.name, request.configuration_values.as_deref())?;
        let role = checked_role(self, request.service_account_role_arn.as_deref())?;
        let wanted = request.pod_identity_associations;
        pod_identity::check(self, known, wanted.as_deref())?;
        let mut params = vec![("AddonVersion".to_owned(), known.version.to_owned())];
        if let Some(mode) = &request.resolve_conflicts {
            params.push(("ResolveConflicts".to_owned(), mode.clone()));
        }
        if let Some(role) = &role {
            params.push(("ServiceAccountRoleArn".to_owned(), role.clone()));
        }
        if let Some(values) = &request.configuration_values {
            params.push(("ConfigurationValues".to_owned(), values.clone()));
        }
        let update = self.0.store.transaction(|transaction| {
            if let Some(known) = self.begun_before(&request.cluster_name, asked.as_ref())? {
                return Ok(known);
            }
            let mut addon =
                self.current_addon(transaction, &request.cluster_name, &request.addon_name)?;
            if addon.status == Status::Deleting {
                return Err(faults::in_use(format!(
                    "Addon {} cannot be updated as it is currently in DELETING state",
                    addon.name
                )));
            }
            pod_identity::write(self, transaction, &addon, wanted.as_deref())?;
            if let Some(before) = addon.update_id.take() {
                self.cancel_update(transaction, &request.cluster_name, &before);
            }
            let new = NewUpdate {
                cluster: request.cluster_name,
                addon: Some(request.addon_name),
                kind: "AddonUpdate".to_owned(),
                params,
                asked,
                ..NewUpdate::default()
            };
            let update = self.put_update(transaction, new);
            addon.configuration = request.configuration_values.or(addon.configuration);
            addon.role_arn = role;
            addon.resolve_conflicts = mode;
            addon.is_bootstrapped = false;
            addon.status = Status::Updating;
            addon.update_id = Some(update.id.clone());
            addon.applied_at = None;
            addon.modified_at = self.now();
            transaction.put(&self.0.addons, key(&addon), addon);
            Ok::<_, Fault>(updates::shape(&update))
        })?;
        Ok(UpdateAddonResponse { update: Some(update) })
    }
}

impl Handle<DescribeAddonVersions> for Eks {
    async fn handle(
        &self,
        _: &Caller,
        request: DescribeAddonVersionsRequest,
    ) -> Result<DescribeAddonVersionsResponse, Fault> {
        let found = catalog::describe(&request);
        let names = found.iter().filter_map(|it| it.addon_name.clone()).collect();
        let (page, next_token) =
            tags::page(names, request.max_results, request.next_token.as_deref())?;
        let is_on_page =
            |it: &AddonInfo| it.addon_name.as_ref().is_some_and(|it| page.contains(it));
        let addons = found.into_iter().filter(is_on_page).collect();
        Ok(DescribeAddonVersionsResponse { addons, next_token })
    }
}
