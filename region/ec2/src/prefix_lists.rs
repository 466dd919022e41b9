//! Managed prefix lists: customers' own, in versions, and those of AWS that gateway endpoints route.

use aws_ec2::managed_prefix_list::{
    self, AddPrefixListEntry, CreateManagedPrefixListRequest, CreateManagedPrefixListResponse,
    DeleteManagedPrefixListRequest, DeleteManagedPrefixListResponse,
    DescribeManagedPrefixListsRequest, DescribeManagedPrefixListsResponse,
    GetManagedPrefixListAssociationsRequest, GetManagedPrefixListAssociationsResponse,
    GetManagedPrefixListEntriesRequest, GetManagedPrefixListEntriesResponse, ManagedPrefixList,
    ModifyManagedPrefixListRequest, ModifyManagedPrefixListResponse, PrefixListAssociation,
    RemovePrefixListEntry, RestoreManagedPrefixListVersionRequest,
    RestoreManagedPrefixListVersionResponse,
};
use aws_wire::Fault;
use ipnet::IpNet;

use crate::{
    Call, client_tokens, faults,
    query::{self, one},
    records::{Destination, Peer, PrefixList, PrefixListEntry},
    state::State,
    tagging,
    vpc_endpoints::{PREFIX_LISTS, prefix_list},
};

const TYPE: &str = "prefix-list";
/// Default quota of entries per list.
const MAX_ENTRIES: i64 = 1000;
/// What one call may add or remove.
const MAX_CHANGES: usize = 100;

/// The networks of a list that rules and routes may name.
pub fn networks(state: &State, id: &str) -> Option<Vec<IpNet>> {
    if let Some(cidr) = prefix_list(id) {
        return Some(vec![cidr.into()]);
    }
    Some(state.prefix_lists.get(id)?.entries().iter().map(|it| it.cidr).collect())
}

/// What the list counts for against the quotas of those who name it: its greatest size.
pub(crate) fn weight(state: &State, id: &str) -> Result<usize, Fault> {
    if prefix_list(id).is_some() {
        return Ok(1);
    }
    state.prefix_lists.get(id).map(|it| it.max_entries).ok_or_else(|| no_list(id))
}

pub(crate) fn no_list(id: &str) -> Fault {
    Fault::new("InvalidPrefixListID.NotFound", format!("The prefix list ID '{id}' does not exist"))
}

fn own<'a>(state: &'a mut State, id: &str) -> Result<&'a mut PrefixList, Fault> {
    if prefix_list(id).is_some() {
        return Err(faults::unsupported(format!("The prefix list {id} is managed by AWS.")));
    }
    state.prefix_lists.get(id).ok_or_else(|| no_list(id))?;
    state.prefix_lists.edit(id)
}

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateManagedPrefixListRequest,
) -> Result<CreateManagedPrefixListResponse, Fault> {
    let client_token = request.client_token.clone();
    let (action, token) = ("CreateManagedPrefixList", client_token.as_deref());
    let id = client_tokens::once(call, state, action, token, request, |state, it| {
        made(call, state, it)
    })?;
    let prefix_list = Some(answer(call, state.prefix_lists.find(&id)?));
    Ok(CreateManagedPrefixListResponse { prefix_list })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateManagedPrefixListRequest,
) -> Result<String, Fault> {
    let name = request.prefix_list_name;
    check_name(&name)?;
    let is_ipv6 = match request.address_family.as_str() {
        "IPv4" => false,
        "IPv6" => true,
        other => return Err(faults::invalid_value("addressFamily", other)),
    };
    let max_entries = size(request.max_entries)?;
    let entries = changed(&[], is_ipv6, &request.entries, &[])?;
    check_size(entries.len(), max_entries)?;
    let id = entropy::aws_id("pl");
    let list = PrefixList {
        id: id.clone(),
        name,
        is_ipv6,
        max_entries,
        versions: vec![entries],
        state: "create-complete".to_owned(),
        state_message: None,
        tags: tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?,
    };
    state.prefix_lists.insert(list);
    Ok(id)
}

fn check_name(name: &str) -> Result<(), Fault> {
    let is_valid = (1..=255).contains(&name.len()) && !name.starts_with("com.amazonaws");
    if is_valid { Ok(()) } else { Err(faults::invalid_value("prefixListName", name)) }
}

fn size(asked: i64) -> Result<usize, Fault> {
    let valid = (1..=MAX_ENTRIES).contains(&asked).then(|| usize::try_from(asked).ok()).flatten();
    valid.ok_or_else(|| faults::invalid_value("maxEntries", asked))
}

fn check_size(entries: usize, max_entries: usize) -> Result<(), Fault> {
    if entries > max_entries {
        return Err(Fault::new(
            "PrefixListMaxEntriesExceeded",
            "You've reached the maximum number of entries for the prefix list.",
        ));
    }
    Ok(())
}

/// Removals come first, so that one call may give an entry another description.
fn changed(
    old: &[PrefixListEntry],
    is_ipv6: bool,
    added: &[AddPrefixListEntry],
    removed: &[RemovePrefixListEntry],
) -> Result<Vec<PrefixListEntry>, Fault> {
    if added.len() > MAX_CHANGES || removed.len() > MAX_CHANGES {
        return Err(faults::invalid(format!(
            "You cannot specify more than {MAX_CHANGES} entries in one request."
        )));
    }
    let mut entries = old.to_vec();
    for entry in removed {
        let cidr = cidr(&entry.cidr, is_ipv6)?;
        let position = entries.iter().position(|it| it.cidr == cidr);
        let position = position.ok_or_else(|| {
            faults::invalid(format!("The CIDR {cidr} is not an entry of the prefix list."))
        })?;
        entries.remove(position);
    }
    for entry in added {
        let cidr = cidr(&entry.cidr, is_ipv6)?;
        if entries.iter().any(|it| it.cidr == cidr) {
            return Err(faults::invalid(format!(
                "The CIDR {cidr} is an entry of the prefix list already."
            )));
        }
        let description = entry.description.clone().filter(|it| !it.is_empty());
        entries.push(PrefixListEntry { cidr, description });
    }
    Ok(entries)
}

fn cidr(text: &str, is_ipv6: bool) -> Result<IpNet, Fault> {
    let parsed = text.parse::<IpNet>().ok().filter(|it| matches!(it, IpNet::V6(_)) == is_ipv6);
    parsed.map(|it| it.trunc()).ok_or_else(|| faults::invalid_value("Cidr", text))
}

fn check_version(list: &PrefixList, current: Option<i64>) -> Result<(), Fault> {
    if current.is_some_and(|it| it != list.version()) {
        return Err(Fault::new(
            "PrefixListVersionMismatch",
            "The prefix list has the incorrect version number.",
        ));
    }
    Ok(())
}

/// A new version for new entries; name and size are those of all versions.
pub(crate) fn modify(
    call: &Call<'_>,
    state: &mut State,
    request: ModifyManagedPrefixListRequest,
) -> Result<ModifyManagedPrefixListResponse, Fault> {
    let list = own(state, &request.prefix_list_id)?;
    let (added, removed) = (&request.add_entries, &request.remove_entries);
    let has_changes = !added.is_empty() || !removed.is_empty();
    if has_changes && request.max_entries.is_some() {
        return Err(faults::combination(
            "You cannot modify the entries and the maximum entries for the prefix list in the \
             same request.",
        ));
    }
    if has_changes && request.current_version.is_none() {
        return Err(faults::missing("CurrentVersion"));
    }
    check_version(list, request.current_version)?;
    if has_changes {
        let entries = changed(list.entries(), list.is_ipv6, added, removed)?;
        check_size(entries.len(), list.max_entries)?;
        list.versions.push(entries);
    }
    if let Some(max) = request.max_entries {
        let max = size(max)?;
        check_size(list.entries().len(), max)?;
        list.max_entries = max;
    }
    if let Some(name) = request.prefix_list_name {
        check_name(&name)?;
        list.name = name;
    }
    list.state = "modify-complete".to_owned();
    list.state_message = None;
    let shown = answer(call, list);
    if request.max_entries.is_some() {
        crate::security_groups::check_quotas_of(state, &request.prefix_list_id)?;
    }
    Ok(ModifyManagedPrefixListResponse { prefix_list: Some(shown) })
}

pub(crate) fn restore(
    call: &Call<'_>,
    state: &mut State,
    request: RestoreManagedPrefixListVersionRequest,
) -> Result<RestoreManagedPrefixListVersionResponse, Fault> {
    let list = own(state, &request.prefix_list_id)?;
    check_version(list, Some(request.current_version))?;
    let entries = version(list, request.previous_version)?.to_vec();
    check_size(entries.len(), list.max_entries)?;
    list.versions.push(entries);
    list.state = "restore-complete".to_owned();
    list.state_message = None;
    Ok(RestoreManagedPrefixListVersionResponse { prefix_list: Some(answer(call, list)) })
}

fn version(list: &PrefixList, number: i64) -> Result<&[PrefixListEntry], Fault> {
    let index = usize::try_from(number).ok().and_then(|it| it.checked_sub(1));
    let found = index.and_then(|it| list.versions.get(it));
    found.map(Vec::as_slice).ok_or_else(|| faults::invalid_value("TargetVersion", number))
}

/// One that is in use stays, and says why.
pub(crate) fn delete(
    call: &Call<'_>,
    state: &mut State,
    request: DeleteManagedPrefixListRequest,
) -> Result<DeleteManagedPrefixListResponse, Fault> {
    let users = users(state, &request.prefix_list_id);
    let list = own(state, &request.prefix_list_id)?;
    if users.is_empty() {
        list.state = "delete-complete".to_owned();
        let shown = answer(call, list);
        state.prefix_lists.remove(&request.prefix_list_id)?;
        return Ok(DeleteManagedPrefixListResponse { prefix_list: Some(shown) });
    }
    list.state = "delete-failed".to_owned();
    list.state_message = Some(format!(
        "The prefix list cannot be deleted because it is in use by: {}",
        users.join(", ")
    ));
    Ok(DeleteManagedPrefixListResponse { prefix_list: Some(answer(call, list)) })
}

/// The ids of what names the list.
fn users(state: &State, id: &str) -> Vec<String> {
    let is_its = |peer: &Peer| matches!(peer, Peer::PrefixList(it) if it == id);
    let groups = state.security_groups.iter();
    let groups = groups.filter(|it| it.rules.iter().any(|it| is_its(&it.peer)));
    let routed = Destination::PrefixList(id.to_owned());
    let tables = state.route_tables.iter();
    let tables = tables.filter(|it| it.routes.iter().any(|it| it.destination == routed));
    groups.map(|it| it.id.clone()).chain(tables.map(|it| it.id.clone())).collect()
}

pub(crate) fn associations(
    call: &Call<'_>,
    state: &State,
    request: GetManagedPrefixListAssociationsRequest,
) -> Result<GetManagedPrefixListAssociationsResponse, Fault> {
    let id = &request.prefix_list_id;
    networks(state, id).ok_or_else(|| no_list(id))?;
    let (found, next_token) =
        query::page(users(state, id), request.max_results, request.next_token.as_deref(), |it| it)?;
    let association = |it: String| PrefixListAssociation {
        resource_id: Some(it),
        resource_owner: Some(call.config.account.clone()),
    };
    let associations = found.into_iter().map(association).collect();
    Ok(GetManagedPrefixListAssociationsResponse { associations, next_token })
}

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeManagedPrefixListsRequest,
) -> Result<DescribeManagedPrefixListsResponse, Fault> {
    let asked = &request.prefix_list_ids;
    if let Some(id) = asked.iter().find(|it| networks(state, it).is_none()) {
        return Err(no_list(id));
    }
    let tags = query::no_tags();
    query::check(&request.filters, |name| attribute(&ManagedPrefixList::default(), name))?;
    let of_aws = PREFIX_LISTS.iter().map(|(id, service)| (of_aws(call, id, service), tags));
    let own = state.prefix_lists.iter().map(|it| (answer(call, it), &it.tags));
    let mut found = Vec::new();
    for (list, tags) in of_aws.chain(own) {
        let id = list.prefix_list_id.clone().unwrap_or_default();
        let is_asked = asked.is_empty() || asked.contains(&id);
        if is_asked && query::passes(&request.filters, tags, |name| attribute(&list, name))? {
            found.push((id, list));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (page, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |(id, _)| id)?;
    let prefix_lists = page.into_iter().map(|(_, list)| list).collect();
    Ok(DescribeManagedPrefixListsResponse { next_token, prefix_lists })
}

fn attribute(list: &ManagedPrefixList, name: &str) -> query::Values {
    match name {
        "prefix-list-id" => query::maybe(list.prefix_list_id.as_ref()),
        "prefix-list-name" => query::maybe(list.prefix_list_name.as_ref()),
        "owner-id" => query::maybe(list.owner_id.as_ref()),
        "address-family" => one(list.address_family.as_deref().unwrap_or_default()),
        _ => None,
    }
}

fn of_aws(call: &Call<'_>, id: &str, service: &str) -> ManagedPrefixList {
    let region = &call.config.region;
    ManagedPrefixList {
        prefix_list_id: Some(id.to_owned()),
        address_family: Some("IPv4".to_owned()),
        state: Some("create-complete".to_owned()),
        prefix_list_arn: Some(format!("arn:aws:ec2:{region}:aws:prefix-list/{id}")),
        prefix_list_name: Some(format!("com.amazonaws.{region}.{service}")),
        owner_id: Some("AWS".to_owned()),
        ..Default::default()
    }
}

fn answer(call: &Call<'_>, list: &PrefixList) -> ManagedPrefixList {
    ManagedPrefixList {
        prefix_list_id: Some(list.id.clone()),
        address_family: Some(if list.is_ipv6 { "IPv6" } else { "IPv4" }.to_owned()),
        state: Some(list.state.clone()),
        state_message: list.state_message.clone(),
        prefix_list_arn: Some(call.config.arn(TYPE, &list.id)),
        prefix_list_name: Some(list.name.clone()),
        max_entries: i64::try_from(list.max_entries).ok(),
        version: Some(list.version()),
        owner_id: Some(call.config.account.clone()),
        tags: tagging::answer(&list.tags),
    }
}

pub(crate) fn entries(
    _call: &Call<'_>,
    state: &State,
    request: GetManagedPrefixListEntriesRequest,
) -> Result<GetManagedPrefixListEntriesResponse, Fault> {
    let id = &request.prefix_list_id;
    let of_aws = |cidr: ipnet::Ipv4Net| PrefixListEntry { cidr: cidr.into(), description: None };
    let all = match (prefix_list(id), state.prefix_lists.get(id)) {
        (Some(cidr), _) => vec![of_aws(cidr)],
        (None, Some(list)) => {
            version(list, request.target_version.unwrap_or_else(|| list.version()))?.to_vec()
        }
        (None, None) => return Err(no_list(id)),
    };
    let mut all: Vec<(String, PrefixListEntry)> =
        all.into_iter().map(|it| (it.cidr.to_string(), it)).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (page, next_token) =
        query::page(all, request.max_results, request.next_token.as_deref(), |(cidr, _)| cidr)?;
    let entry = |(cidr, it): (String, PrefixListEntry)| managed_prefix_list::PrefixListEntry {
        cidr: Some(cidr),
        description: it.description,
    };
    Ok(GetManagedPrefixListEntriesResponse {
        entries: page.into_iter().map(entry).collect(),
        next_token,
    })
}
