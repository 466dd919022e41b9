//! The association of an instance with its instance profile.

use aws_ec2::{
    instance::IamInstanceProfile,
    instance_attribute::{
        AssociateIamInstanceProfileRequest, AssociateIamInstanceProfileResponse,
        DescribeIamInstanceProfileAssociationsRequest,
        DescribeIamInstanceProfileAssociationsResponse, DisassociateIamInstanceProfileRequest,
        DisassociateIamInstanceProfileResponse, IamInstanceProfileAssociation,
    },
    instance_options::{
        ReplaceIamInstanceProfileAssociationRequest, ReplaceIamInstanceProfileAssociationResponse,
    },
    run_instances::IamInstanceProfileSpecification,
};
use aws_wire::Fault;
use region_gateway::{Caller, Target};

use super::run::find_profile;
use crate::{
    Call, Ec2, faults,
    query::{self, one},
    records::{Instance, Profile},
    state::State,
};

pub(crate) fn associate(
    call: &Call<'_>,
    state: &mut State,
    request: AssociateIamInstanceProfileRequest,
) -> Result<AssociateIamInstanceProfileResponse, Fault> {
    let profile = new_profile(call, request.iam_instance_profile)?;
    let instance = state.instances.edit(&request.instance_id)?;
    if instance.profile.is_some() {
        return Err(Fault::new(
            "IncorrectState",
            format!("There is an existing association for instance {}", instance.id),
        ));
    }
    instance.profile = Some(profile);
    let iam_instance_profile_association = answer(instance, "associating");
    Ok(AssociateIamInstanceProfileResponse { iam_instance_profile_association })
}

pub(crate) fn targets(
    ec2: &Ec2,
    caller: &Caller,
    request: &AssociateIamInstanceProfileRequest,
) -> Vec<Target> {
    let mut targets = crate::targets::of_ids(ec2, caller, &[&request.instance_id]);
    targets.extend(passed_role(ec2, caller, &request.iam_instance_profile));
    targets
}

fn new_profile(call: &Call<'_>, named: IamInstanceProfileSpecification) -> Result<Profile, Fault> {
    let named = named.arn.or(named.name).ok_or_else(|| faults::missing("IamInstanceProfile"))?;
    let found = find_profile(call, &named)?;
    let association_id = entropy::aws_id("iip-assoc");
    Ok(Profile { association_id, arn: found.arn, id: found.id })
}

fn passed_role(
    ec2: &Ec2,
    caller: &Caller,
    named: &IamInstanceProfileSpecification,
) -> Option<Target> {
    let named = named.arn.as_deref().or(named.name.as_deref())?;
    let role = ec2.call(caller).environment.instance_profile(named)?.role_arn?;
    Some(Target::pass_role(&role, "ec2.amazonaws.com"))
}

/// The instance of an association.
fn holder(state: &State, association: &str) -> Result<String, Fault> {
    let is_it =
        |it: &&Instance| it.profile.as_ref().is_some_and(|it| it.association_id == association);
    state.instances.iter().find(is_it).map(|it| it.id.clone()).ok_or_else(|| {
        Fault::new(
            "InvalidAssociationID.NotFound",
            format!("An invalid association-id of '{association}' was given"),
        )
    })
}

/// The association that takes the place of another has an id of its own.
pub(crate) fn replace(
    call: &Call<'_>,
    state: &mut State,
    request: ReplaceIamInstanceProfileAssociationRequest,
) -> Result<ReplaceIamInstanceProfileAssociationResponse, Fault> {
    let profile = new_profile(call, request.iam_instance_profile)?;
    let instance_id = holder(state, &request.association_id)?;
    let instance = state.instances.edit(&instance_id)?;
    instance.profile = Some(profile);
    let iam_instance_profile_association = answer(instance, "associating");
    Ok(ReplaceIamInstanceProfileAssociationResponse { iam_instance_profile_association })
}

pub(crate) fn replace_targets(
    ec2: &Ec2,
    caller: &Caller,
    request: &ReplaceIamInstanceProfileAssociationRequest,
) -> Vec<Target> {
    let instance = holder(&ec2.view(), &request.association_id).ok();
    let ids: Vec<String> = instance.into_iter().collect();
    let mut targets = crate::targets::of_ids(ec2, caller, &ids);
    targets.extend(passed_role(ec2, caller, &request.iam_instance_profile));
    targets
}

pub(crate) fn disassociate(
    _call: &Call<'_>,
    state: &mut State,
    request: DisassociateIamInstanceProfileRequest,
) -> Result<DisassociateIamInstanceProfileResponse, Fault> {
    let instance_id = holder(state, &request.association_id)?;
    let instance = state.instances.edit(&instance_id)?;
    let iam_instance_profile_association = answer(instance, "disassociating");
    instance.profile = None;
    Ok(DisassociateIamInstanceProfileResponse { iam_instance_profile_association })
}

pub(crate) fn describe(
    _call: &Call<'_>,
    state: &State,
    request: DescribeIamInstanceProfileAssociationsRequest,
) -> Result<DescribeIamInstanceProfileAssociationsResponse, Fault> {
    let wanted = &request.association_ids;
    let all = state.instances.iter().filter(|it| {
        let association = it.profile.as_ref().map(|it| &it.association_id);
        association.is_some_and(|it| wanted.is_empty() || wanted.contains(it))
    });
    let found = query::select(
        all.collect(),
        &request.filters,
        |it| &it.tags,
        |it, name| match name {
            "instance-id" => one(&it.id),
            "state" => one("associated"),
            _ => None,
        },
    )?;
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |it| &it.id)?;
    Ok(DescribeIamInstanceProfileAssociationsResponse {
        iam_instance_profile_associations: found
            .into_iter()
            .filter_map(|it| answer(it, "associated"))
            .collect(),
        next_token,
    })
}

fn answer(instance: &Instance, state: &str) -> Option<IamInstanceProfileAssociation> {
    let profile = instance.profile.as_ref()?;
    Some(IamInstanceProfileAssociation {
        association_id: Some(profile.association_id.clone()),
        instance_id: Some(instance.id.clone()),
        iam_instance_profile: Some(IamInstanceProfile {
            arn: Some(profile.arn.clone()),
            id: Some(profile.id.clone()),
        }),
        state: Some(state.to_owned()),
        timestamp: None,
    })
}
