//! Groups of users.

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{
    Iam, IamError, checked_name,
    records::{Grants, Group},
    roles::check_empty,
    view,
};

impl Iam {
    pub(crate) fn create_group(
        &self,
        _: &Caller,
        request: CreateGroupRequest,
    ) -> Result<CreateGroupResponse, Fault> {
        let name = request.group_name;
        checked_name("groupName", &name, 128)?;
        let group = Group {
            entity: self.entity("group", "AGPA", &name, request.path, Vec::new())?,
            grants: Grants::default(),
        };
        let shown = view::group(&group);
        self.change(|tx| {
            if tx.get(&self.groups, &name).is_some() {
                return Err(IamError::Exists { noun: "Group", name: name.clone() }.into());
            }
            tx.put(&self.groups, name.clone(), group);
            Ok(())
        })?;
        Ok(CreateGroupResponse { group: shown })
    }

    pub(crate) fn get_group(
        &self,
        _: &Caller,
        request: GetGroupRequest,
    ) -> Result<GetGroupResponse, Fault> {
        let group = Self::holder(&self.groups, &request.group_name)?;
        let users = self.users.list();
        let members = users.iter().filter(|it| it.groups.contains(&request.group_name));
        let key = |it: &User| it.user_name.clone();
        let members = members.map(|it| view::user(it)).collect();
        let page = crate::serve::page(members, request.max_items, request.marker, key)?;
        Ok(GetGroupResponse {
            group: view::group(&group),
            users: page.items,
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    pub(crate) fn list_groups(
        &self,
        _: &Caller,
        request: ListGroupsRequest,
    ) -> Result<ListGroupsResponse, Fault> {
        let prefix = request.path_prefix.unwrap_or_default();
        let found = self.groups.list().into_iter().filter(|it| it.entity.path.starts_with(&prefix));
        let key = |it: &std::sync::Arc<Group>| it.entity.name.clone();
        let page = crate::serve::page(found.collect(), request.max_items, request.marker, key)?;
        Ok(ListGroupsResponse {
            groups: page.items.iter().map(|it| view::group(it)).collect(),
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
    }

    pub(crate) fn delete_group(
        &self,
        _: &Caller,
        request: DeleteGroupRequest,
    ) -> Result<DeleteGroupResponse, Fault> {
        let name = request.group_name;
        self.change(|tx| {
            let found = tx.get(&self.groups, &name);
            let group =
                found.ok_or_else(|| IamError::NotFound { noun: "group", name: name.clone() })?;
            check_empty(&group.grants)?;
            if tx.list(&self.users).iter().any(|it| it.groups.contains(&name)) {
                return Err(IamError::InUse { what: "remove users from group" }.into());
            }
            tx.delete(&self.groups, &name);
            Ok(())
        })?;
        Ok(DeleteGroupResponse {})
    }

    pub(crate) fn add_user_to_group(
        &self,
        _: &Caller,
        request: AddUserToGroupRequest,
    ) -> Result<AddUserToGroupResponse, Fault> {
        Self::holder(&self.groups, &request.group_name)?;
        self.change_holder(&self.users, &request.user_name, |user| {
            user.groups.insert(request.group_name);
            Ok(())
        })?;
        Ok(AddUserToGroupResponse {})
    }

    pub(crate) fn remove_user_from_group(
        &self,
        _: &Caller,
        request: RemoveUserFromGroupRequest,
    ) -> Result<RemoveUserFromGroupResponse, Fault> {
        Self::holder(&self.groups, &request.group_name)?;
        self.change_holder(&self.users, &request.user_name, |user| {
            match user.groups.remove(&request.group_name) {
                true => Ok(()),
                false => {
                    let name = request.user_name.clone();
                    Err(IamError::NotFound { noun: "user", name })
                }
            }
        })?;
        Ok(RemoveUserFromGroupResponse {})
    }
}
