//! Tags of roles, users, policies and instance profiles.

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Iam, IamError, checked_tags, records::Tagged, view};

impl Iam {
    fn change_profile(
        &self,
        name: &str,
        change: impl FnOnce(&mut crate::records::Profile) -> Result<(), IamError>,
    ) -> Result<(), Fault> {
        self.change(|tx| {
            let found = tx.get(&self.profiles, name);
            let found = found.ok_or_else(|| IamError::ProfileNotFound { name: name.to_owned() })?;
            let mut profile = crate::records::Profile::clone(&found);
            change(&mut profile)?;
            tx.put(&self.profiles, name, profile);
            Ok(())
        })
    }
}

fn set(it: &mut impl Tagged, tags: Vec<Tag>) -> Result<(), IamError> {
    let entity = it.entity_mut();
    entity.tags = checked_tags(std::mem::take(&mut entity.tags), tags)?;
    Ok(())
}

fn unset(it: &mut impl Tagged, keys: &[String]) {
    it.entity_mut().tags.retain(|key, _| !keys.contains(key));
}

macro_rules! tag_operations {
    ($($field:ident, $change:expr, $find:expr;
       $tag:ident $tag_request:ident $tag_response:ident,
       $untag:ident $untag_request:ident $untag_response:ident,
       $list:ident $list_request:ident $list_response:ident;)*) => {
        impl Iam {$(
            pub(crate) fn $tag(&self, _: &Caller, request: $tag_request) -> Result<$tag_response, Fault> {
                let tags = request.tags;
                $change(self, &request.$field, &mut |it| set(it, tags.clone()))?;
                Ok($tag_response {})
            }

            pub(crate) fn $untag(&self, _: &Caller, request: $untag_request) -> Result<$untag_response, Fault> {
                let keys = request.tag_keys;
                $change(self, &request.$field, &mut |it| { unset(it, &keys); Ok(()) })?;
                Ok($untag_response {})
            }

            pub(crate) fn $list(&self, _: &Caller, request: $list_request) -> Result<$list_response, Fault> {
                let tags = $find(self, &request.$field)?;
                let page = crate::serve::page(tags, request.max_items, request.marker, tag_key)?;
                Ok($list_response {
                    tags: page.items,
                    is_truncated: page.next.is_some(),
                    marker: page.next,
                })
            }
        )*}
    };
}

pub(crate) fn tag_key(tag: &Tag) -> String {
    tag.key.clone()
}

type Change<'a, T> = &'a mut dyn FnMut(&mut T) -> Result<(), IamError>;

tag_operations! {
    role_name,
    |iam: &Iam, name: &str, change: Change<'_, crate::records::Role>| {
        iam.change_holder(&iam.roles, name, change)
    },
    |iam: &Iam, name: &str| Iam::holder(&iam.roles, name).map(|it| view::tags(&it.entity.tags));
    tag_role TagRoleRequest TagRoleResponse,
    untag_role UntagRoleRequest UntagRoleResponse,
    list_role_tags ListRoleTagsRequest ListRoleTagsResponse;

    user_name,
    |iam: &Iam, name: &str, change: Change<'_, crate::records::User>| {
        iam.change_holder(&iam.users, name, change)
    },
    |iam: &Iam, name: &str| Iam::holder(&iam.users, name).map(|it| view::tags(&it.entity.tags));
    tag_user TagUserRequest TagUserResponse,
    untag_user UntagUserRequest UntagUserResponse,
    list_user_tags ListUserTagsRequest ListUserTagsResponse;

    policy_arn,
    |iam: &Iam, arn: &str, change: Change<'_, crate::records::ManagedPolicy>| {
        iam.change_policy(arn, change)
    },
    |iam: &Iam, arn: &str| match iam.policy(arn) {
        Some(it) => Ok(view::tags(&it.entity.tags)),
        None => Err(IamError::PolicyNotFound { arn: arn.to_owned() }),
    };
    tag_policy TagPolicyRequest TagPolicyResponse,
    untag_policy UntagPolicyRequest UntagPolicyResponse,
    list_policy_tags ListPolicyTagsRequest ListPolicyTagsResponse;

    instance_profile_name,
    |iam: &Iam, name: &str, change: Change<'_, crate::records::Profile>| {
        iam.change_profile(name, change)
    },
    |iam: &Iam, name: &str| match iam.profiles.get(name) {
        Some(it) => Ok(view::tags(&it.entity.tags)),
        None => Err(IamError::ProfileNotFound { name: name.to_owned() }),
    };
    tag_profile TagInstanceProfileRequest TagInstanceProfileResponse,
    untag_profile UntagInstanceProfileRequest UntagInstanceProfileResponse,
    list_profile_tags ListInstanceProfileTagsRequest ListInstanceProfileTagsResponse;
}
