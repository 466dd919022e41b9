//! Pod Identity associations that are made for an add-on, and go with it.

use aws_eks::{AddonPodIdentityAssociations, CreatePodIdentityAssociationRequest};
use aws_wire::Fault;
use region_gateway::Target;
use region_store::Transaction;

use super::{arn, catalog::Known};
use crate::{
    Eks, faults,
    pod_identity::{self, role_targets, validate},
    records::{Addon, PodIdentityAssociation},
};

/// Where the accounts of EKS's add-ons are.
const NAMESPACE: &str = "kube-system";

/// What the caller needs rights for, beside the add-on itself.
pub(super) fn targets(
    eks: &Eks,
    cluster: &str,
    wanted: Option<&[AddonPodIdentityAssociations]>,
) -> Vec<Target> {
    let wanted = wanted.unwrap_or_default();
    let cluster = eks.arn(&format!("cluster/{cluster}"));
    let create = Target::action("eks:CreatePodIdentityAssociation", cluster);
    let create = (!wanted.is_empty()).then_some(create);
    create.into_iter().chain(wanted.iter().flat_map(|it| role_targets(&it.role_arn))).collect()
}

/// Refuses accounts that the add-on does not have, and roles that pods cannot get.
pub(super) fn check(
    eks: &Eks,
    known: &Known,
    wanted: Option<&[AddonPodIdentityAssociations]>,
) -> Result<(), Fault> {
    for (number, it) in wanted.unwrap_or_default().iter().enumerate() {
        if !known.service_accounts.contains(&it.service_account.as_str()) {
            return Err(faults::invalid_parameter(format!(
                "Pod identity associations are not supported for service account {} of addon {}",
                it.service_account, known.name
            )));
        }
        let others = &wanted.unwrap_or_default()[number + 1..];
        if others.iter().any(|other| other.service_account == it.service_account) {
            return Err(faults::invalid_parameter(format!(
                "Service account {} is named twice",
                it.service_account
            )));
        }
        validate::role(eks, &it.role_arn)?;
    }
    Ok(())
}

/// ARNs of those that the add-on has.
pub(super) fn arns(eks: &Eks, addon: &Addon) -> Vec<String> {
    let owner = arn(eks, addon);
    let all = eks.0.associations.under(&format!("{}/", addon.cluster));
    let own = all.iter().filter(|(_, it)| it.owner_arn.as_deref() == Some(&owner));
    own.map(|(_, it)| eks.pod_identity_association_arn(it)).collect()
}

/// Makes the add-on's associations those that are wanted; `None`: they stay.
pub(super) fn write(
    eks: &Eks,
    transaction: &mut Transaction,
    addon: &Addon,
    wanted: Option<&[AddonPodIdentityAssociations]>,
) -> Result<(), Fault> {
    let Some(wanted) = wanted else { return Ok(()) };
    let owner = arn(eks, addon);
    let is_own = |it: &PodIdentityAssociation| it.owner_arn.as_deref() == Some(&owner);
    let all = transaction.list(&eks.0.associations);
    for left in all.iter().filter(|it| is_own(it)) {
        if !wanted.iter().any(|it| it.service_account == left.service_account) {
            transaction.delete(&eks.0.associations, &pod_identity::key(left));
        }
    }
    for it in wanted {
        let request = CreatePodIdentityAssociationRequest {
            cluster_name: addon.cluster.clone(),
            namespace: NAMESPACE.to_owned(),
            service_account: it.service_account.clone(),
            role_arn: it.role_arn.clone(),
            ..Default::default()
        };
        let mut new = eks.new_association(request, None);
        new.owner_arn = Some(owner.clone());
        let key = pod_identity::key(&new);
        match transaction.get(&eks.0.associations, &key) {
            Some(known) if !is_own(&known) => {
                let message = format!("Association already exists: {}", known.id);
                return Err(faults::in_use(message));
            }
            Some(known) => {
                let mut known = (*known).clone();
                known.role_arn = new.role_arn;
                known.modified_at = new.modified_at;
                transaction.put(&eks.0.associations, key, known);
            }
            None => transaction.put(&eks.0.associations, key, new),
        }
    }
    Ok(())
}
