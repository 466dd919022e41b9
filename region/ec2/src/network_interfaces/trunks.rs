//! Trunks and branches: interfaces that get into an instance by another interface, each on a VLAN.
//!
//! Any interface that is nowhere else can become a branch; it is shown as one, `in-use` and without
//! an attachment, for as long as it is associated. What the instance's type allows is checked where a
//! trunk and an instance meet; a trunk in no instance takes as many branches as there are VLANs.
//! A branch can be deleted while it is associated (the association goes with it), a trunk cannot.
//!
//! Upstream: EC2's API reference; amazon-vpc-resource-controller-k8s for what EC2 answers where the
//! reference is silent (`InvalidVlanId.Duplicate`, `InvalidAssociationID.NotFound`, the deletion of
//! a branch that is associated).
//! Deviation: no GRE. Codes of refusals that neither source names are those of like ones.

use aws_ec2::trunk_interface::{
    self, AssociateTrunkInterfaceRequest, AssociateTrunkInterfaceResponse,
    DescribeTrunkInterfaceAssociationsRequest, DescribeTrunkInterfaceAssociationsResponse,
    DisassociateTrunkInterfaceRequest, DisassociateTrunkInterfaceResponse,
};
use aws_wire::Fault;
use instance_types::InstanceType;

use super::refuse_foreign;
use crate::{
    Call,
    client_tokens::mismatch,
    faults,
    query::{self, Values, maybe, no_tags, one},
    records::{NetworkInterface, Tags, Token, TrunkAssociation},
    state::State,
};

/// The highest VLAN id, and with that the most branches of any trunk.
const LAST_VLAN: u8 = 120;

pub(crate) fn associate_trunk(
    call: &Call<'_>,
    state: &mut State,
    request: AssociateTrunkInterfaceRequest,
) -> Result<AssociateTrunkInterfaceResponse, Fault> {
    let client_token = request.client_token.clone();
    if let Some(known) = repeated(state, &request)? {
        let interface_association = Some(answer(known));
        return Ok(AssociateTrunkInterfaceResponse { interface_association, client_token });
    }
    let (trunk_id, branch_id) = (&request.trunk_interface_id, &request.branch_interface_id);
    let trunk = state.network_interfaces.find(trunk_id)?;
    let branch = state.network_interfaces.find(branch_id)?;
    refuse_foreign(call, trunk)?;
    refuse_foreign(call, branch)?;
    let vlan_id = vlan(&request)?;
    check_pair(trunk, branch)?;
    check_trunk(state, trunk, vlan_id)?;
    let made = TrunkAssociation {
        id: entropy::aws_id("trunk-assoc"),
        trunk_interface_id: trunk_id.clone(),
        branch_interface_id: branch_id.clone(),
        vlan_id,
        client_token: client_token.clone(),
    };
    state.network_interfaces.edit(branch_id)?.trunk = Some(made.clone());
    let interface_association = Some(answer(&made));
    Ok(AssociateTrunkInterfaceResponse { interface_association, client_token })
}

/// What a call with the same token has made.
fn repeated<'a>(
    state: &'a State,
    request: &AssociateTrunkInterfaceRequest,
) -> Result<Option<&'a TrunkAssociation>, Fault> {
    let Some(token) = &request.client_token else { return Ok(None) };
    let known = associations(state).find(|it| it.client_token.as_ref() == Some(token));
    let is_same = |it: &TrunkAssociation| {
        it.trunk_interface_id == request.trunk_interface_id
            && it.branch_interface_id == request.branch_interface_id
            && Some(i64::from(it.vlan_id)) == request.vlan_id
    };
    match known {
        Some(known) if !is_same(known) => Err(mismatch()),
        known => Ok(known),
    }
}

fn vlan(request: &AssociateTrunkInterfaceRequest) -> Result<u8, Fault> {
    if request.gre_key.is_some() {
        return Err(faults::unsupported("GRE is not supported in this region."));
    }
    let asked = request.vlan_id.ok_or_else(|| faults::missing("VlanId"))?;
    let vlan = u8::try_from(asked).ok().filter(|it| (1..=LAST_VLAN).contains(it));
    vlan.ok_or_else(|| faults::invalid_value("vlanId", asked))
}

fn check_pair(trunk: &NetworkInterface, branch: &NetworkInterface) -> Result<(), Fault> {
    if !trunk.is_trunk() {
        return Err(faults::invalid(format!(
            "The network interface '{}' is not a trunk network interface.",
            trunk.id
        )));
    }
    if !matches!(branch.interface_type.as_str(), "interface" | "branch") {
        return Err(faults::invalid(format!(
            "The network interface '{}' of type {} cannot be a branch network interface.",
            branch.id, branch.interface_type
        )));
    }
    if branch.attachment.is_some() || branch.trunk.is_some() {
        return Err(in_use(&branch.id));
    }
    if trunk.zone != branch.zone || trunk.vpc_id != branch.vpc_id {
        return Err(faults::combination(format!(
            "You may not associate a branch network interface with a trunk network interface if \
             they are not in the same availability zone and VPC: {} and {}",
            branch.id, trunk.id
        )));
    }
    Ok(())
}

fn check_trunk(state: &State, trunk: &NetworkInterface, vlan: u8) -> Result<(), Fault> {
    let mut taken = state.branches_of(&trunk.id).filter_map(|it| it.trunk.as_ref());
    if taken.any(|it| it.vlan_id == vlan) {
        let message = format!("VlanId '{vlan}' is in use");
        return Err(Fault::new("InvalidVlanId.Duplicate", message));
    }
    let instance = trunk.attachment.as_ref().and_then(|it| state.instances.get(&it.instance_id));
    let kind = instance.and_then(|it| instance_types::find(&it.instance_type));
    match kind {
        Some(kind) => check_count(state.branches_of(&trunk.id).count() + 1, kind),
        None => Ok(()),
    }
}

fn check_count(branches: usize, kind: &InstanceType) -> Result<(), Fault> {
    if branches <= usize::try_from(kind.branch_enis).unwrap_or(usize::MAX) {
        return Ok(());
    }
    Err(Fault::new(
        "AttachmentLimitExceeded",
        format!("Branch interface count {branches} exceeds the limit for {}", kind.name),
    ))
}

/// What an instance's type has to say about an interface that comes to those that it has.
pub(super) fn check_attachment(
    state: &State,
    interface: &NetworkInterface,
    attached: &[&NetworkInterface],
    kind: &InstanceType,
) -> Result<(), Fault> {
    if interface.interface_type == "branch" {
        return Err(faults::invalid(format!(
            "The network interface '{}' is a branch network interface: it takes a trunk.",
            interface.id
        )));
    }
    if !interface.is_trunk() {
        return Ok(());
    }
    if kind.branch_enis == 0 {
        return Err(faults::unsupported(format!(
            "Trunk network interfaces are not supported on {}.",
            kind.name
        )));
    }
    if attached.iter().any(|it| it.is_trunk()) {
        return Err(Fault::new(
            "AttachmentLimitExceeded",
            format!("Trunk interface count 2 exceeds the limit for {}", kind.name),
        ));
    }
    check_count(state.branches_of(&interface.id).count(), kind)
}

pub(super) fn in_use(interface: &str) -> Fault {
    Fault::new(
        "InvalidNetworkInterface.InUse",
        format!("The network interface '{interface}' is currently in use."),
    )
}

/// A trunk stays while something comes in by it.
pub(super) fn refuse_with_branches(state: &State, trunk: &str) -> Result<(), Fault> {
    if state.branches_of(trunk).next().is_some() { Err(in_use(trunk)) } else { Ok(()) }
}

/// Sets a trunk's branches free: its instance is gone, or it is itself.
pub(crate) fn release_branches(state: &mut State, trunk: &str) -> Result<(), Fault> {
    let branches: Vec<String> = state.branches_of(trunk).map(|it| it.id.clone()).collect();
    for branch in branches {
        state.network_interfaces.edit(&branch)?.trunk = None;
    }
    Ok(())
}

pub(crate) fn disassociate_trunk(
    call: &Call<'_>,
    state: &mut State,
    request: DisassociateTrunkInterfaceRequest,
) -> Result<DisassociateTrunkInterfaceResponse, Fault> {
    let id = request.association_id;
    let done =
        |client_token| DisassociateTrunkInterfaceResponse { r#return: Some(true), client_token };
    let token = request.client_token.as_ref().map(|it| format!("DisassociateTrunkInterface/{it}"));
    match token.as_ref().and_then(|it| state.tokens.get(it)) {
        None => {}
        Some(known) if known.digest == id => return Ok(done(request.client_token)),
        Some(_) => return Err(mismatch()),
    }
    let branch = find(state, &id)?.branch_interface_id.clone();
    refuse_foreign(call, state.network_interfaces.find(&branch)?)?;
    state.network_interfaces.edit(&branch)?.trunk = None;
    if let Some(token) = token {
        let (digest, tags) = (id.clone(), Tags::new());
        state.tokens.insert(Token { id: token, digest, made: id, at: call.now, tags });
    }
    Ok(done(request.client_token))
}

fn associations(state: &State) -> impl Iterator<Item = &TrunkAssociation> {
    state.network_interfaces.iter().filter_map(|it| it.trunk.as_ref())
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a TrunkAssociation, Fault> {
    associations(state).find(|it| it.id == id).ok_or_else(|| {
        Fault::new(
            "InvalidAssociationID.NotFound",
            format!("The association ID '{id}' does not exist"),
        )
    })
}

pub(crate) fn describe_trunk_associations(
    _call: &Call<'_>,
    state: &State,
    request: DescribeTrunkInterfaceAssociationsRequest,
) -> Result<DescribeTrunkInterfaceAssociationsResponse, Fault> {
    let ids = &request.association_ids;
    if !ids.is_empty() && request.max_results.is_some() {
        return Err(faults::combination(
            "The parameter MaxResults cannot be used together with a list of IDs",
        ));
    }
    let mut found: Vec<&TrunkAssociation> = match ids.as_slice() {
        [] => associations(state).collect(),
        _ => ids.iter().map(|it| find(state, it)).collect::<Result<_, _>>()?,
    };
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found.dedup_by(|one, other| one.id == other.id);
    let found = query::select(found, &request.filters, |_| no_tags(), attribute)?;
    let token = request.next_token.as_deref();
    let (page, next_token) = query::page(found, request.max_results, token, |it| it.id.as_str())?;
    let interface_associations = page.into_iter().map(answer).collect();
    Ok(DescribeTrunkInterfaceAssociationsResponse { interface_associations, next_token })
}

fn attribute(association: &TrunkAssociation, name: &str) -> Values {
    match name {
        "gre-key" => maybe(None::<u32>),
        "interface-protocol" => one("VLAN"),
        "trunk-interface-association.trunk-interface-id" => one(&association.trunk_interface_id),
        _ => None,
    }
}

fn answer(association: &TrunkAssociation) -> trunk_interface::TrunkInterfaceAssociation {
    trunk_interface::TrunkInterfaceAssociation {
        association_id: Some(association.id.clone()),
        branch_interface_id: Some(association.branch_interface_id.clone()),
        trunk_interface_id: Some(association.trunk_interface_id.clone()),
        interface_protocol: Some("VLAN".to_owned()),
        vlan_id: Some(association.vlan_id.into()),
        gre_key: None,
        tag_set: Vec::new(),
    }
}
