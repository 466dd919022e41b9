//! EC2NodeClasses: what their selectors find, the instance profile, and whether they can be used.
//!
//! Deviation: no dry runs of the permissions. Capacity reservations are refused by
//! `ValidationSucceeded` while their gate is shut.

use std::{collections::BTreeMap, time::Duration};

use api_kube::karpenter::{Ec2NodeClass, Ec2NodeClassStatus, TERMINATION_FINALIZER, annotations};
use aws_wire::client::CallError;
use controller::ApplyError;
use jiff::{SignedDuration, Timestamp};
use karpenter_core::disruption::{HASH_VERSION, class_hash};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::warn;

use super::{Context, class_rules, conditions, merge, placement_groups};
use crate::{cloud, user_data};

/// How often the selectors are looked at again.
const PERIOD: Duration = Duration::from_secs(10);
/// How long prices are taken to hold.
const PRICES: SignedDuration = SignedDuration::from_hours(1);
/// Passes from one look at the launch templates to the next.
const SWEEP_EACH: u64 = 6;
/// Of classes; a NodeClaim's is another one.
const FINALIZER: &str = "karpenter.k8s.aws/termination";
/// A launch template that no launch has named for so long is of no use any more.
const UNUSED: SignedDuration = SignedDuration::from_mins(10);
const RESERVATIONS: &str = "CapacityReservationsReady";
/// Of classes that select one alone.
const GROUP: &str = "PlacementGroupReady";
/// What `Ready` depends on.
pub(super) const PARTS: [&str; 7] = [
    "AMIsReady",
    "SubnetsReady",
    "SecurityGroupsReady",
    "InstanceProfileReady",
    RESERVATIONS,
    GROUP,
    "ValidationSucceeded",
];

impl Context {
    pub(super) async fn watch_classes(&self) {
        for pass in 0_u64.. {
            if let Err(error) = self.learn_types().await {
                warn!(error = %telemetry::chain(&error), "failed to learn types and prices");
            }
            for class in self.classes.all() {
                if let Err(error) = self.reconcile_class(&class).await {
                    warn!(class = class.name(), error = %telemetry::chain(&error), "pass failed");
                }
                if pass % SWEEP_EACH == 0
                    && let Err(error) = self.sweep_templates(&class).await
                {
                    warn!(class = class.name(), error = %telemetry::chain(&error), "sweep failed");
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Which types can be had, and what Spot costs.
    pub(super) async fn learn_types(&self) -> Result<(), CallError> {
        if self.offered.lock().is_none() {
            let names = self.cloud.instance_types().await?;
            *self.offered.lock() = Some(names.into());
        }
        let now = self.clock.now();
        let is_fresh = |at: Timestamp| now.duration_since(at) < PRICES;
        if self.spot.lock().as_ref().is_none_or(|(at, _)| !is_fresh(*at)) {
            let prices = self.cloud.spot_prices(now).await?;
            *self.spot.lock() = Some((now, prices));
        }
        Ok(())
    }

    async fn reconcile_class(&self, class: &Ec2NodeClass) -> Result<(), ApplyError> {
        let api = Api::<Ec2NodeClass>::all(self.client.clone());
        let failed = |error| ApplyError::new::<Ec2NodeClass>("patch", class.name(), error);
        if class.metadata.deletion_timestamp.is_some() {
            return self.finish_class(class).await;
        }
        let known = class.metadata.annotations.clone().unwrap_or_default();
        let hash = class_hash(class);
        let mut finalizers = class.metadata.finalizers.clone().unwrap_or_default();
        let has_finalizer = finalizers.iter().any(|it| it == FINALIZER);
        if !has_finalizer || known.get(annotations::NODE_CLASS_HASH) != Some(&hash) {
            if !has_finalizer {
                finalizers.push(FINALIZER.to_owned());
            }
            // Others' finalizers stay: those of an older class would not.
            let patch = json!({ "metadata": {
                "resourceVersion": class.metadata.resource_version,
                "finalizers": finalizers,
                "annotations": { annotations::NODE_CLASS_HASH: hash,
                    annotations::NODE_CLASS_HASH_VERSION: HASH_VERSION } } });
            let patched =
                api.patch(class.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map_err(failed)?;
        }
        let status = self.class_status(class).await;
        if class.status.as_ref() != Some(&status) {
            let patch = merge::status(class.status.as_ref(), &status);
            let patched = api
                .patch_status(class.name(), &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            patched.map_err(failed)?;
        }
        Ok(())
    }

    async fn class_status(&self, class: &Ec2NodeClass) -> Ec2NodeClassStatus {
        let mut status = class.status.clone().unwrap_or_default();
        let (now, generation) = (self.clock.now(), class.metadata.generation);
        let mut all = std::mem::take(&mut status.conditions);
        let mut set = |kind: &str, outcome: Result<bool, String>, none: &str| {
            let (is_true, reason, message) = match outcome {
                Ok(true) => (Some(true), kind.to_owned(), String::new()),
                Ok(false) => (Some(false), none.to_owned(), no_match(class, none)),
                Err(message) => (None, "ReconcilingFailed".to_owned(), message),
            };
            conditions::set(&mut all, kind, is_true, &reason, &message, generation, now);
        };
        let said = |error: CallError| telemetry::chain(&error).to_string();
        let subnets = self.cloud.subnets(&class.spec.subnet_selector_terms).await;
        let subnets = subnets.map_err(said);
        if let Ok(found) = &subnets {
            status.subnets = found.iter().filter_map(cloud::subnet_status).collect();
        }
        set("SubnetsReady", subnets.map(|it| !it.is_empty()), "SubnetsNotFound");
        let groups = self.cloud.security_groups(&class.spec.security_group_selector_terms).await;
        let groups = groups.map_err(said);
        if let Ok(found) = &groups {
            status.security_groups.clone_from(found);
        }
        set("SecurityGroupsReady", groups.map(|it| !it.is_empty()), "SecurityGroupsNotFound");
        let has_alias = class.spec.ami_selector_terms.iter().any(|it| it.alias.is_some());
        let version = match has_alias {
            true => self.cloud.cluster().await.map(|it| it.version).map_err(said),
            false => Ok(String::new()),
        };
        let amis = match version {
            Ok(version) => {
                self.cloud.amis(&class.spec.ami_selector_terms, &version).await.map_err(said)
            }
            Err(error) => Err(error),
        };
        if let Ok(found) = &amis {
            status.amis.clone_from(found);
        }
        set("AMIsReady", amis.map(|it| !it.is_empty()), "AMINotFound");
        let profile = self.cloud.profile(class).await.map_err(said);
        if let Ok(found) = &profile {
            // What was named until now may be on its way with a claim.
            for it in status.instance_profile.iter().chain(found) {
                self.protect_profile(it);
            }
            status.instance_profile.clone_from(found);
        }
        set("InstanceProfileReady", profile.map(|it| it.is_some()), "InstanceProfileNotFound");
        let has_reservations = self.config.gates.reserved_capacity;
        if has_reservations {
            let found = self.find_reservations(class, &mut status).await;
            set(RESERVATIONS, found, "CapacityReservationsNotFound");
        } else {
            // Nobody looks after what an earlier Karpenter has found.
            status.capacity_reservations.clear();
        }
        let selector = class.spec.placement_group_selector.as_ref();
        if let Some(selector) = selector {
            set(GROUP, self.find_group(selector).await, "PlacementGroupNotFound");
        }
        let faults = class_rules::faults(class).join("; ");
        let (is_valid, why) = match unsupported(class, has_reservations, !status.amis.is_empty()) {
            _ if !faults.is_empty() => (false, "EC2NodeClassValidationFailed"),
            None => (true, "ValidationSucceeded"),
            Some(why) => (false, why),
        };
        let kind = "ValidationSucceeded";
        conditions::set(&mut all, kind, Some(is_valid), why, &faults, generation, now);
        let parts = PARTS.into_iter().filter(|it| match *it {
            RESERVATIONS => has_reservations,
            GROUP => selector.is_some(),
            _ => true,
        });
        if selector.is_none() {
            all.retain(|it| it.type_ != GROUP);
        }
        conditions::set_ready(&mut all, &parts.collect::<Vec<_>>(), generation, now);
        status.conditions = all;
        status
    }

    /// Deletes the launch templates that the class is done with: its user data or images have changed.
    async fn sweep_templates(&self, class: &Ec2NodeClass) -> Result<(), CallError> {
        let now = self.clock.now();
        let is_old = |at: Option<Timestamp>| at.is_none_or(|it| now.duration_since(it) > UNUSED);
        let used: BTreeMap<String, Timestamp> = {
            let mut used = self.templates.lock();
            used.retain(|_, at| !is_old(Some(*at)));
            used.clone()
        };
        let is_useless =
            |name: &str, made: Option<Timestamp>| is_old(made) && !used.contains_key(name);
        self.cloud.delete_templates(class.name(), is_useless).await
    }

    /// A class goes when no NodeClaim needs it, and its profile and launch templates with it.
    async fn finish_class(&self, class: &Ec2NodeClass) -> Result<(), ApplyError> {
        let is_of = |name: &str| name == class.name();
        let mut finalizers = class.metadata.finalizers.clone().unwrap_or_default();
        // The claims' finalizer was the classes' too before there was one of their own.
        let is_ours = |it: &String| it == FINALIZER || it == TERMINATION_FINALIZER;
        if !finalizers.iter().any(is_ours) {
            return Ok(());
        }
        let mut claims = self.claims.all();
        claims.retain(|it| is_of(&it.spec.node_class_ref.name));
        if !claims.is_empty() {
            self.events.waiting_on_claims(class, claims.iter().map(|it| it.name()));
            return Ok(());
        }
        let failed = |error: CallError| ApplyError::other(telemetry::chain(&error).to_string());
        self.cloud.delete_templates(class.name(), |_, _| true).await.map_err(failed)?;
        self.cloud.delete_profiles(class).await.map_err(failed)?;
        let api = Api::<Ec2NodeClass>::all(self.client.clone());
        finalizers.retain(|it| !is_ours(it));
        let patch = json!({ "metadata": { "finalizers": finalizers } });
        let patched = api.patch(class.name(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        let patched = patched.map(drop);
        patched.map_err(|error| ApplyError::new::<Ec2NodeClass>("patch", class.name(), error))
    }
}

/// What upstream says of a selector that finds nothing.
fn no_match(class: &Ec2NodeClass, reason: &str) -> String {
    let alias = class.spec.ami_selector_terms.iter().find_map(|it| it.alias.as_deref());
    match (reason, alias) {
        ("SubnetsNotFound", _) => "SubnetSelector did not match any Subnets".to_owned(),
        ("SecurityGroupsNotFound", _) => {
            "SecurityGroupSelector did not match any SecurityGroups".to_owned()
        }
        ("AMINotFound", Some(alias)) => {
            format!("failed to discover any AMIs for alias (alias={alias})")
        }
        ("PlacementGroupNotFound", _) => {
            let selector = class.spec.placement_group_selector.clone().unwrap_or_default();
            placement_groups::not_found(&selector)
        }
        ("AMINotFound", None) => "AMISelector did not match any AMIs".to_owned(),
        _ => format!("{reason}: no match"),
    }
}

/// What this Karpenter cannot do for a class.
fn unsupported(
    class: &Ec2NodeClass,
    has_reservations: bool,
    has_images: bool,
) -> Option<&'static str> {
    let spec = &class.spec;
    // There is no Windows among the region's images: one that was found is none.
    if user_data::family(class).starts_with("Windows") && has_images {
        return Some("AMIFamilyNotSupported");
    }
    if !has_reservations && !spec.capacity_reservation_selector_terms.is_empty() {
        return Some("CapacityReservationsNotSupported");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(family: Option<&str>, alias: &str) -> Ec2NodeClass {
        let spec =
            json!({ "amiFamily": family, "amiSelectorTerms": [{ "alias": alias }], "role": "r" });
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec })).unwrap()
    }

    #[test]
    fn an_alias_that_stands_for_nothing_is_named() {
        for alias in ["al2@latest", "windows2022@latest", "bottlerocket@v0.0.1"] {
            let message = no_match(&class(None, alias), "AMINotFound");
            assert_eq!(message, format!("failed to discover any AMIs for alias (alias={alias})"));
        }
    }

    #[test]
    fn windows_is_refused_where_something_was_taken_for_its_image() {
        let class = class(None, "windows2025@latest");
        assert_eq!(unsupported(&class, true, true), Some("AMIFamilyNotSupported"));
        assert_eq!(unsupported(&class, true, false), None, "then its images are missing");
    }
}
