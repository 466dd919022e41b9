//! Users and their access keys.

use std::collections::BTreeSet;

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::{Caller, CallerKind};

use crate::{
    Iam, IamError, checked_name,
    records::{Grants, Key, User},
    roles::check_empty,
    view,
};

/// Quota: access keys of one user.
const MOST_KEYS: usize = 2;

impl Iam {
    pub(crate) fn create_user(
        &self,
        _: &Caller,
        request: CreateUserRequest,
    ) -> Result<CreateUserResponse, Fault> {
        let name = request.user_name;
        checked_name("userName", &name, 64)?;
        self.check_boundary(request.permissions_boundary.as_deref())?;
        let user = User {
            entity: self.entity("user", "AIDA", &name, request.path, request.tags)?,
            grants: Grants { boundary: request.permissions_boundary, ..Grants::default() },
            groups: BTreeSet::new(),
        };
        let shown = view::user(&user);
        self.change(|tx| {
            // Names are one whatever their case: others compare ARNs without it.
            if tx.list(&self.users).iter().any(|it| it.entity.name.eq_ignore_ascii_case(&name)) {
                return Err(IamError::Exists { noun: "User", name: name.clone() }.into());
            }
            tx.put(&self.users, name.clone(), user);
            Ok(())
        })?;
        Ok(CreateUserResponse { user: shown })
    }

    pub(crate) fn get_user(
        &self,
        caller: &Caller,
        request: GetUserRequest,
    ) -> Result<GetUserResponse, Fault> {
        let name = match (request.user_name, &caller.kind) {
            (None, CallerKind::Root) => return Ok(GetUserResponse { user: self.root_user() }),
            (name, _) => caller_or(name, caller)?,
        };
        let user = Self::holder(&self.users, &name)?;
        Ok(GetUserResponse { user: view::user(&user) })
    }

    fn root_user(&self) -> aws_iam::User {
        aws_iam::User {
            path: "/".to_owned(),
            user_name: "root".to_owned(),
            user_id: self.account.clone(),
            arn: format!("arn:aws:iam::{}:root", self.account),
            create_date: view::time(jiff::Timestamp::UNIX_EPOCH),
            ..aws_iam::User::default()
        }
    }

    pub(crate) fn list_users(
        &self,
        _: &Caller,
        request: ListUsersRequest,
    ) -> Result<ListUsersResponse, Fault> {
        let prefix = request.path_prefix.unwrap_or_default();
        let found = self.users.list().into_iter().filter(|it| it.entity.path.starts_with(&prefix));
        let key = |it: &std::sync::Arc<User>| it.entity.name.clone();
        let page = crate::serve::page(found.collect(), request.max_items, request.marker, key)?;
        let users = page.items.iter().map(|it| aws_iam::User { tags: vec![], ..view::user(it) });
        Ok(ListUsersResponse {
            users: users.collect(),
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    pub(crate) fn delete_user(
        &self,
        _: &Caller,
        request: DeleteUserRequest,
    ) -> Result<DeleteUserResponse, Fault> {
        let name = request.user_name;
        self.change(|tx| {
            let found = tx.get(&self.users, &name);
            let user =
                found.ok_or_else(|| IamError::NotFound { noun: "user", name: name.clone() })?;
            check_empty(&user.grants)?;
            if !user.groups.is_empty() {
                return Err(IamError::InUse { what: "remove users from group" }.into());
            }
            if tx.list(&self.keys).iter().any(|it| it.user == name) {
                return Err(IamError::InUse { what: "delete access keys" }.into());
            }
            tx.delete(&self.users, &name);
            Ok(())
        })?;
        Ok(DeleteUserResponse {})
    }

    pub(crate) fn put_user_boundary(
        &self,
        _: &Caller,
        request: PutUserPermissionsBoundaryRequest,
    ) -> Result<PutUserPermissionsBoundaryResponse, Fault> {
        let boundary = Some(request.permissions_boundary);
        self.set_boundary(&self.users, &request.user_name, boundary)?;
        Ok(PutUserPermissionsBoundaryResponse {})
    }

    pub(crate) fn delete_user_boundary(
        &self,
        _: &Caller,
        request: DeleteUserPermissionsBoundaryRequest,
    ) -> Result<DeleteUserPermissionsBoundaryResponse, Fault> {
        self.set_boundary(&self.users, &request.user_name, None)?;
        Ok(DeleteUserPermissionsBoundaryResponse {})
    }

    pub(crate) fn create_access_key(
        &self,
        caller: &Caller,
        request: CreateAccessKeyRequest,
    ) -> Result<CreateAccessKeyResponse, Fault> {
        let user = caller_or(request.user_name, caller)?;
        Self::holder(&self.users, &user)?;
        let key = Key {
            id: format!("AKIA{}", &entropy::iam_id("")[..16]),
            secret: entropy::secret(40),
            user: user.clone(),
            is_active: true,
            created: self.clock.now(),
        };
        let shown = AccessKey {
            user_name: user.clone(),
            access_key_id: key.id.clone(),
            status: "Active".to_owned(),
            secret_access_key: key.secret.clone(),
            create_date: view::time(key.created),
        };
        self.change(|tx| {
            if tx.list(&self.keys).iter().filter(|it| it.user == user).count() >= MOST_KEYS {
                let what = "AccessKeysPerUser";
                return Err(IamError::Quota { what, limit: MOST_KEYS }.into());
            }
            tx.put(&self.keys, key.id.clone(), key);
            Ok(())
        })?;
        Ok(CreateAccessKeyResponse { access_key: shown })
    }

    pub(crate) fn delete_access_key(
        &self,
        caller: &Caller,
        request: DeleteAccessKeyRequest,
    ) -> Result<DeleteAccessKeyResponse, Fault> {
        let user = caller_or(request.user_name, caller)?;
        let id = request.access_key_id;
        self.change(|tx| {
            let found = tx.get(&self.keys, &id).filter(|it| it.user == user);
            found.ok_or_else(|| IamError::KeyNotFound { id: id.clone() })?;
            tx.delete(&self.keys, &id);
            Ok(())
        })?;
        Ok(DeleteAccessKeyResponse {})
    }

    pub(crate) fn update_access_key(
        &self,
        caller: &Caller,
        request: UpdateAccessKeyRequest,
    ) -> Result<UpdateAccessKeyResponse, Fault> {
        let user = caller_or(request.user_name, caller)?;
        let id = request.access_key_id;
        let is_active = match request.status.as_str() {
            "Active" => true,
            "Inactive" => false,
            _ => {
                return Err(IamError::Invalid {
                    field: "status",
                    value: request.status,
                    constraint: "Member must satisfy enum value set: [Active, Inactive]".to_owned(),
                }
                .into());
            }
        };
        self.change(|tx| {
            let found = tx.get(&self.keys, &id).filter(|it| it.user == user);
            found.ok_or_else(|| IamError::KeyNotFound { id: id.clone() })?;
            tx.update(&self.keys, &id, |it| it.is_active = is_active);
            Ok(())
        })?;
        Ok(UpdateAccessKeyResponse {})
    }

    pub(crate) fn list_access_keys(
        &self,
        caller: &Caller,
        request: ListAccessKeysRequest,
    ) -> Result<ListAccessKeysResponse, Fault> {
        let user = caller_or(request.user_name, caller)?;
        Self::holder(&self.users, &user)?;
        let keys = self.keys.list().into_iter().filter(|it| it.user == user);
        let shown = keys.map(|it| AccessKeyMetadata {
            user_name: it.user.clone(),
            access_key_id: it.id.clone(),
            status: if it.is_active { "Active" } else { "Inactive" }.to_owned(),
            create_date: view::time(it.created),
        });
        let key = |it: &AccessKeyMetadata| it.access_key_id.clone();
        let page = crate::serve::page(shown.collect(), request.max_items, request.marker, key)?;
        Ok(ListAccessKeysResponse {
            access_key_metadata: page.items,
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    pub(crate) fn list_groups_for_user(
        &self,
        _: &Caller,
        request: ListGroupsForUserRequest,
    ) -> Result<ListGroupsForUserResponse, Fault> {
        let user = Self::holder(&self.users, &request.user_name)?;
        let groups = user.groups.iter().filter_map(|it| self.groups.get(it));
        let groups = groups.map(|it| view::group(&it)).collect();
        let key = |it: &Group| it.group_name.clone();
        let page = crate::serve::page(groups, request.max_items, request.marker, key)?;
        Ok(ListGroupsForUserResponse {
            groups: page.items,
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }
}

fn caller_or(name: Option<String>, caller: &Caller) -> Result<String, IamError> {
    match (name, &caller.kind) {
        (Some(name), _) => Ok(name),
        (None, CallerKind::User { name }) => Ok(name.clone()),
        (None, _) => Err(IamError::NoUserName),
    }
}
