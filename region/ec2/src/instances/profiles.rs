//! The association of an instance with its instance profile.

use aws_ec2::{
    instance::IamInstanceProfile,
    instance_attribute::{
        AssociateIamInstanceProfileRequest, AssociateIamInstanceProfileResponse,
        DescribeIamInstanceProfileAssociationsRequest,
        DescribeIamInstanceProfileAssociationsResponse, DisassociateIamInstanceProfileRequest,
        DisassociateIamInstanceProfileResponse, IamInstanceProfileAssociation,
    },
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
    let named = request.iam_instance_profile.arn.or(request.iam_instance_profile.name);
    let named = named.ok_or_else(|| faults::missing("IamInstanceProfile"))?;
    let found = find_profile(call, &named)?;
    let instance = state.instances.edit(&request.instance_id)?;
    if instance.profile.is_some() {
        return Err(Fault::new(
            "IncorrectState",
            format!("There is an existing association for instance {}", instance.id),
        ));
    }
    let association_id = entropy::aws_id("iip-assoc");
    instance.profile = Some(Profile { association_id, arn: found.arn, id: found.id });
    let iam_instance_profile_association = answer(instance, "associating");
    Ok(AssociateIamInstanceProfileResponse { iam_instance_profile_association })
}

pub(crate) fn targets(
    ec2: &Ec2,
    caller: &Caller,
    request: &AssociateIamInstanceProfileRequest,
) -> Vec<Target> {
    let call = ec2.call(caller);
    let mut targets = crate::targets::of_ids(ec2, caller, &[&request.instance_id]);
    let named = &request.iam_instance_profile;
    let named = named.arn.as_deref().or(named.name.as_deref());
    let profile = named.and_then(|it| call.environment.instance_profile(it));
    if let Some(role) = profile.and_then(|it| it.role_arn) {
        targets.push(Target::pass_role(&role, "ec2.amazonaws.com"));
    }
    targets
}

pub(crate) fn disassociate(
    _call: &Call<'_>,
    state: &mut State,
    request: DisassociateIamInstanceProfileRequest,
) -> Result<DisassociateIamInstanceProfileResponse, Fault> {
    let id = &request.association_id;
    let is_it = |it: &&Instance| it.profile.as_ref().is_some_and(|it| it.association_id == *id);
    let found = state.instances.iter().find(is_it).map(|it| it.id.clone());
    let instance_id = found.ok_or_else(|| {
        Fault::new(
            "InvalidAssociationID.NotFound",
            format!("An invalid association-id of '{id}' was given"),
        )
    })?;
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
