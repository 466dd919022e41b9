//! Which operation is served by which method, and what each is authorized on.

use std::sync::Arc;

use aws_iam::*;
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, InvalidToken, Page, Routes, Target};

use crate::{
    Iam,
    targets::{On, with_tagging},
};

/// The routes of all IAM operations.
pub fn routes(iam: &Arc<Iam>) -> Routes {
    let routes = own_routes(iam, inline_routes(iam, plain_routes(iam)));
    routes.operation::<AddRoleToInstanceProfile, _>(iam.clone())
}

/// Whoever gives a profile its role hands the role to EC2.
impl Handle<AddRoleToInstanceProfile> for Iam {
    fn targets(&self, _: &Caller, it: &AddRoleToInstanceProfileRequest) -> Vec<Target> {
        let role = self.role_target(&it.role_name).resource;
        vec![
            self.profile_target(&it.instance_profile_name),
            Target::pass_role(&role, "ec2.amazonaws.com"),
        ]
    }

    async fn handle(
        &self,
        caller: &Caller,
        it: AddRoleToInstanceProfileRequest,
    ) -> Result<AddRoleToInstanceProfileResponse, Fault> {
        self.add_role_to_profile(caller, it)
    }
}

macro_rules! serve {
    ($($operation:ident => $method:ident, $target:expr;)*) => {
        $(
            impl Handle<$operation> for Iam {
                fn targets(
                    &self,
                    _: &Caller,
                    request: &<$operation as Operation>::Request,
                ) -> Vec<Target> {
                    let target: fn(&Iam, &<$operation as Operation>::Request) -> Target = $target;
                    with_tagging(<$operation as Operation>::ACTION, target(self, request))
                }

                async fn handle(
                    &self,
                    caller: &Caller,
                    request: <$operation as Operation>::Request,
                ) -> Result<<$operation as Operation>::Response, Fault> {
                    self.$method(caller, request)
                }
            }
        )*

        fn plain_routes(iam: &Arc<Iam>) -> Routes {
            Routes::new()$(.operation::<$operation, _>(iam.clone()))*
        }
    };
}

serve! {
    CreateRole => create_role, |iam, it| iam.new_target("role", it.path.as_deref(), &it.role_name, &it.tags).with_boundary(it.permissions_boundary.as_deref());
    GetRole => get_role, |iam, it| iam.role_target(&it.role_name);
    DeleteRole => delete_role, |iam, it| iam.role_target(&it.role_name);
    UpdateRole => update_role, |iam, it| iam.role_target(&it.role_name);
    UpdateRoleDescription => update_role_description, |iam, it| iam.role_target(&it.role_name);
    UpdateAssumeRolePolicy => update_assume_role_policy, |iam, it| iam.role_target(&it.role_name);
    PutRolePermissionsBoundary => put_role_boundary, |iam, it| iam.role_target(&it.role_name).with_boundary(Some(&it.permissions_boundary));
    DeleteRolePermissionsBoundary => delete_role_boundary, |iam, it| iam.bounded_role(&it.role_name);
    DeleteServiceLinkedRole => delete_service_linked_role, |iam, it| iam.role_target(&it.role_name);
    TagRole => tag_role, |iam, it| iam.role_target(&it.role_name).tagging(&it.tags);
    UntagRole => untag_role, |iam, it| iam.role_target(&it.role_name).untagging(&it.tag_keys);
    ListRoleTags => list_role_tags, |iam, it| iam.role_target(&it.role_name);
    ListRoles => list_roles, |iam, _| iam.target("role", "");
    CreateServiceLinkedRole => create_service_linked_role, |iam, it| iam.target("role", &format!("aws-service-role/{}/*", it.aws_service_name)).with("iam:AWSServiceName", [it.aws_service_name.clone()]);
    GetServiceLinkedRoleDeletionStatus => service_linked_role_deletion, |_, _| Target::any();
    CreateUser => create_user, |iam, it| iam.new_target("user", it.path.as_deref(), &it.user_name, &it.tags).with_boundary(it.permissions_boundary.as_deref());
    DeleteUser => delete_user, |iam, it| iam.user_target(&it.user_name);
    PutUserPermissionsBoundary => put_user_boundary, |iam, it| iam.user_target(&it.user_name).with_boundary(Some(&it.permissions_boundary));
    DeleteUserPermissionsBoundary => delete_user_boundary, |iam, it| iam.bounded_user(&it.user_name);
    ListGroupsForUser => list_groups_for_user, |iam, it| iam.user_target(&it.user_name);
    TagUser => tag_user, |iam, it| iam.user_target(&it.user_name).tagging(&it.tags);
    UntagUser => untag_user, |iam, it| iam.user_target(&it.user_name).untagging(&it.tag_keys);
    ListUserTags => list_user_tags, |iam, it| iam.user_target(&it.user_name);
    ListUsers => list_users, |iam, _| iam.target("user", "");
    CreateGroup => create_group, |iam, it| iam.target("group", &it.group_name);
    GetGroup => get_group, |iam, it| iam.target("group", &it.group_name);
    DeleteGroup => delete_group, |iam, it| iam.target("group", &it.group_name);
    AddUserToGroup => add_user_to_group, |iam, it| iam.target("group", &it.group_name);
    RemoveUserFromGroup => remove_user_from_group, |iam, it| iam.target("group", &it.group_name);
    ListGroups => list_groups, |iam, _| iam.target("group", "");
    CreatePolicy => create_policy, |iam, it| iam.new_target("policy", it.path.as_deref(), &it.policy_name, &it.tags);
    GetPolicy => get_policy, |iam, it| iam.policy_target(&it.policy_arn);
    DeletePolicy => delete_policy, |iam, it| iam.policy_target(&it.policy_arn);
    CreatePolicyVersion => create_policy_version, |iam, it| iam.policy_target(&it.policy_arn);
    GetPolicyVersion => get_policy_version, |iam, it| iam.policy_target(&it.policy_arn);
    DeletePolicyVersion => delete_policy_version, |iam, it| iam.policy_target(&it.policy_arn);
    ListPolicyVersions => list_policy_versions, |iam, it| iam.policy_target(&it.policy_arn);
    SetDefaultPolicyVersion => set_default_policy_version, |iam, it| iam.policy_target(&it.policy_arn);
    TagPolicy => tag_policy, |iam, it| iam.policy_target(&it.policy_arn).tagging(&it.tags);
    UntagPolicy => untag_policy, |iam, it| iam.policy_target(&it.policy_arn).untagging(&it.tag_keys);
    ListPolicyTags => list_policy_tags, |iam, it| iam.policy_target(&it.policy_arn);
    ListPolicies => list_policies, |iam, _| iam.target("policy", "");
    ListEntitiesForPolicy => list_entities_for_policy, |iam, it| iam.policy_target(&it.policy_arn);
    CreateInstanceProfile => create_instance_profile, |iam, it| iam.new_target("instance-profile", it.path.as_deref(), &it.instance_profile_name, &it.tags);
    GetInstanceProfile => get_instance_profile, |iam, it| iam.profile_target(&it.instance_profile_name);
    DeleteInstanceProfile => delete_instance_profile, |iam, it| iam.profile_target(&it.instance_profile_name);
    RemoveRoleFromInstanceProfile => remove_role_from_profile, |iam, it| iam.profile_target(&it.instance_profile_name);
    TagInstanceProfile => tag_profile, |iam, it| iam.profile_target(&it.instance_profile_name).tagging(&it.tags);
    UntagInstanceProfile => untag_profile, |iam, it| iam.profile_target(&it.instance_profile_name).untagging(&it.tag_keys);
    ListInstanceProfileTags => list_profile_tags, |iam, it| iam.profile_target(&it.instance_profile_name);
    ListInstanceProfiles => list_instance_profiles, |iam, _| iam.target("instance-profile", "");
    ListInstanceProfilesForRole => list_profiles_for_role, |iam, it| iam.role_target(&it.role_name);
    CreateOpenIDConnectProvider => create_oidc_provider, |iam, it| iam.target("oidc-provider", it.url.trim_start_matches("https://")).tagging(&it.tags);
    ListOpenIDConnectProviders => list_oidc_providers, |iam, _| iam.target("oidc-provider", "");
    GetOpenIDConnectProvider => get_oidc_provider, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn);
    DeleteOpenIDConnectProvider => delete_oidc_provider, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn);
    UpdateOpenIDConnectProviderThumbprint => update_oidc_thumbprint, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn);
    AddClientIDToOpenIDConnectProvider => add_oidc_client, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn);
    RemoveClientIDFromOpenIDConnectProvider => remove_oidc_client, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn);
    TagOpenIDConnectProvider => tag_oidc, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn).tagging(&it.tags);
    UntagOpenIDConnectProvider => untag_oidc, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn).untagging(&it.tag_keys);
    ListOpenIDConnectProviderTags => list_oidc_tags, |iam, it| iam.oidc_target(&it.open_id_connect_provider_arn);
    SimulatePrincipalPolicy => simulate_principal, |_, it| Target::resource(&*it.policy_source_arn);
    SimulateCustomPolicy => simulate_custom, |_, _| Target::any();
}

/// About the caller, where the request names nobody.
macro_rules! serve_own {
    ($($operation:ident => $method:ident;)*) => {
        $(
            impl Handle<$operation> for Iam {
                fn targets(
                    &self,
                    caller: &Caller,
                    request: &<$operation as Operation>::Request,
                ) -> Vec<Target> {
                    vec![self.own_target(caller, request.user_name.as_deref())]
                }

                async fn handle(
                    &self,
                    caller: &Caller,
                    request: <$operation as Operation>::Request,
                ) -> Result<<$operation as Operation>::Response, Fault> {
                    self.$method(caller, request)
                }
            }
        )*

        fn own_routes(iam: &Arc<Iam>, routes: Routes) -> Routes {
            routes$(.operation::<$operation, _>(iam.clone()))*
        }
    };
}

serve_own! {
    GetUser => get_user;
    CreateAccessKey => create_access_key;
    DeleteAccessKey => delete_access_key;
    UpdateAccessKey => update_access_key;
    ListAccessKeys => list_access_keys;
}

/// The same seven operations for roles, users and groups.
macro_rules! serve_policies {
    ($($bucket:ident $field:ident $target:ident $changed:ident:
        $put:ident $put_response:ident, $get:ident $get_response:ident,
        $delete:ident $delete_response:ident, $list:ident $list_response:ident,
        $attach:ident $attach_response:ident, $detach:ident $detach_response:ident,
        $attached:ident $attached_response:ident;)*) => {
        $(
            impl Handle<$put> for Iam {
                fn targets(&self, _: &Caller, it: &<$put as Operation>::Request) -> Vec<Target> {
                    vec![self.$changed(&it.$field)]
                }

                async fn handle(
                    &self,
                    _: &Caller,
                    it: <$put as Operation>::Request,
                ) -> Result<$put_response, Fault> {
                    self.put_inline(&self.$bucket, &it.$field, &it.policy_name, it.policy_document)?;
                    Ok($put_response {})
                }
            }

            impl Handle<$get> for Iam {
                fn targets(&self, _: &Caller, it: &<$get as Operation>::Request) -> Vec<Target> {
                    vec![self.$target(&it.$field)]
                }

                async fn handle(
                    &self,
                    _: &Caller,
                    it: <$get as Operation>::Request,
                ) -> Result<$get_response, Fault> {
                    let document = Iam::inline(&self.$bucket, &it.$field, &it.policy_name)?;
                    Ok($get_response {
                        $field: it.$field,
                        policy_name: it.policy_name,
                        policy_document: aws_wire::percent::encode(&document),
                    })
                }
            }

            impl Handle<$delete> for Iam {
                fn targets(&self, _: &Caller, it: &<$delete as Operation>::Request) -> Vec<Target> {
                    vec![self.$changed(&it.$field)]
                }

                async fn handle(
                    &self,
                    _: &Caller,
                    it: <$delete as Operation>::Request,
                ) -> Result<$delete_response, Fault> {
                    self.delete_inline(&self.$bucket, &it.$field, &it.policy_name)?;
                    Ok($delete_response {})
                }
            }

            impl Handle<$list> for Iam {
                fn targets(&self, _: &Caller, it: &<$list as Operation>::Request) -> Vec<Target> {
                    vec![self.$target(&it.$field)]
                }

                async fn handle(
                    &self,
                    _: &Caller,
                    it: <$list as Operation>::Request,
                ) -> Result<$list_response, Fault> {
                    let holder = Iam::holder(&self.$bucket, &it.$field)?;
                    let names = holder.grants.inline.keys().cloned().collect();
                    let page = page(names, it.max_items, it.marker, String::clone)?;
                    Ok($list_response {
                        policy_names: page.items,
                        is_truncated: page.next.is_some(),
                        marker: page.next,
                    })
                }
            }

            impl Handle<$attach> for Iam {
                fn targets(&self, _: &Caller, it: &<$attach as Operation>::Request) -> Vec<Target> {
                    vec![self.$changed(&it.$field).with("iam:PolicyARN", [it.policy_arn.clone()])]
                }

                async fn handle(
                    &self,
                    _: &Caller,
                    it: <$attach as Operation>::Request,
                ) -> Result<$attach_response, Fault> {
                    self.attach(&self.$bucket, &it.$field, &it.policy_arn)?;
                    Ok($attach_response {})
                }
            }

            impl Handle<$detach> for Iam {
                fn targets(&self, _: &Caller, it: &<$detach as Operation>::Request) -> Vec<Target> {
                    vec![self.$changed(&it.$field).with("iam:PolicyARN", [it.policy_arn.clone()])]
                }

                async fn handle(
                    &self,
                    _: &Caller,
                    it: <$detach as Operation>::Request,
                ) -> Result<$detach_response, Fault> {
                    self.detach(&self.$bucket, &it.$field, &it.policy_arn)?;
                    Ok($detach_response {})
                }
            }

            impl Handle<$attached> for Iam {
                fn targets(
                    &self,
                    _: &Caller,
                    it: &<$attached as Operation>::Request,
                ) -> Vec<Target> {
                    vec![self.$target(&it.$field)]
                }

                async fn handle(
                    &self,
                    _: &Caller,
                    it: <$attached as Operation>::Request,
                ) -> Result<$attached_response, Fault> {
                    let mut found = Iam::attached_to(&self.$bucket, &it.$field)?;
                    let prefix = it.path_prefix.as_deref().unwrap_or("/");
                    found.retain(|it| self.is_below(&it.policy_arn, prefix));
                    let key = |it: &AttachedPolicy| it.policy_arn.clone();
                    let page = page(found, it.max_items, it.marker, key)?;
                    Ok($attached_response {
                        attached_policies: page.items,
                        is_truncated: page.next.is_some(),
                        marker: page.next,
                    })
                }
            }
        )*

        fn inline_routes(iam: &Arc<Iam>, routes: Routes) -> Routes {
            routes
                $(
                    .operation::<$put, _>(iam.clone())
                    .operation::<$get, _>(iam.clone())
                    .operation::<$delete, _>(iam.clone())
                    .operation::<$list, _>(iam.clone())
                    .operation::<$attach, _>(iam.clone())
                    .operation::<$detach, _>(iam.clone())
                    .operation::<$attached, _>(iam.clone())
                )*
        }
    };
}

serve_policies! {
    roles role_name role_target bounded_role:
        PutRolePolicy PutRolePolicyResponse,
        GetRolePolicy GetRolePolicyResponse,
        DeleteRolePolicy DeleteRolePolicyResponse,
        ListRolePolicies ListRolePoliciesResponse,
        AttachRolePolicy AttachRolePolicyResponse,
        DetachRolePolicy DetachRolePolicyResponse,
        ListAttachedRolePolicies ListAttachedRolePoliciesResponse;
    users user_name user_target bounded_user:
        PutUserPolicy PutUserPolicyResponse,
        GetUserPolicy GetUserPolicyResponse,
        DeleteUserPolicy DeleteUserPolicyResponse,
        ListUserPolicies ListUserPoliciesResponse,
        AttachUserPolicy AttachUserPolicyResponse,
        DetachUserPolicy DetachUserPolicyResponse,
        ListAttachedUserPolicies ListAttachedUserPoliciesResponse;
    groups group_name group_target group_target:
        PutGroupPolicy PutGroupPolicyResponse,
        GetGroupPolicy GetGroupPolicyResponse,
        DeleteGroupPolicy DeleteGroupPolicyResponse,
        ListGroupPolicies ListGroupPoliciesResponse,
        AttachGroupPolicy AttachGroupPolicyResponse,
        DetachGroupPolicy DetachGroupPolicyResponse,
        ListAttachedGroupPolicies ListAttachedGroupPoliciesResponse;
}

/// IAM's pages: 100 items unless asked otherwise.
pub(crate) fn page<T>(
    items: Vec<T>,
    size: Option<i64>,
    marker: Option<String>,
    key: impl Fn(&T) -> String,
) -> Result<Page<T>, Fault> {
    let size = size.and_then(|it| usize::try_from(it).ok()).unwrap_or(100).clamp(1, 1000);
    region_gateway::page(items, size, marker.as_deref(), key)
        .map_err(|error: InvalidToken| error.fault("ValidationError"))
}
