//! All of EC2's resources, as one value.
//!
//! A call works on a copy (tables are shared until they are written to) and the copy takes the
//! original's place only once its changes are durable.
//!
//! **Invariant:** a refused call changes nothing, because its copy is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_wire::Fault;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    events::Event,
    faults,
    records::{
        Attachment, CapacityReservation, DhcpOptions, EgressOnlyInternetGateway, ElasticIp, Image,
        Instance, InternetGateway, KeyPair, LaunchTemplate, NatGateway, NetworkAcl,
        NetworkInterface, PlacementGroup, PrefixList, RouteTable, SecurityGroup, Snapshot, Subnet,
        Tags, Token, Vpc, VpcEndpoint,
    },
};

/// Interfaces by the instances that they are attached to.
pub(crate) type Attached<'a> = BTreeMap<&'a str, Vec<&'a NetworkInterface>>;

/// A resource that is kept in a [`Table`].
pub trait Record: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// `vpc`, `network-interface`: as in tag specifications and ARNs.
    const TYPE: &'static str;
    /// `vpc-`.
    const PREFIX: &'static str;
    /// The part of error codes before `.NotFound`.
    const CODE: &'static str;
    /// What error messages call it: "The vpc ID 'vpc-1' does not exist".
    const NOUN: &'static str;

    fn id(&self) -> &str;
    fn tags(&self) -> &Tags;
    fn tags_mut(&mut self) -> &mut Tags;
}

/// Resources of one type by id, with a note of those that are not stored yet.
#[derive(Clone, Debug)]
pub struct Table<T> {
    rows: Arc<BTreeMap<String, Arc<T>>>,
    dirty: BTreeSet<String>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: Arc::default(), dirty: BTreeSet::new() }
    }
}

impl<T: Record> Table<T> {
    pub fn get(&self, id: &str) -> Option<&T> {
        self.rows.get(id).map(AsRef::as_ref)
    }

    /// The resource, or the fault that EC2 answers without it.
    pub fn find(&self, id: &str) -> Result<&T, Fault> {
        match self.get(id) {
            Some(row) => Ok(row),
            None => Err(faults::no_such::<T>(id)),
        }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.rows.values().map(AsRef::as_ref)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was written since one was copied from the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows)
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn edit(&mut self, id: &str) -> Result<&mut T, Fault> {
        let Some(row) = Arc::make_mut(&mut self.rows).get_mut(id) else {
            return Err(faults::no_such::<T>(id));
        };
        self.dirty.insert(id.to_owned());
        Ok(Arc::make_mut(row))
    }

    pub(crate) fn insert(&mut self, row: T) {
        let id = row.id().to_owned();
        self.dirty.insert(id.clone());
        Arc::make_mut(&mut self.rows).insert(id, Arc::new(row));
    }

    pub(crate) fn remove(&mut self, id: &str) -> Result<Arc<T>, Fault> {
        let Some(row) = Arc::make_mut(&mut self.rows).remove(id) else {
            return Err(faults::no_such::<T>(id));
        };
        self.dirty.insert(id.to_owned());
        Ok(row)
    }

    /// Those named, or all when none is named.
    pub(crate) fn named<'a>(&'a self, ids: &[String]) -> Result<Vec<&'a T>, Fault> {
        if ids.is_empty() {
            return Ok(self.iter().collect());
        }
        let wanted: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        wanted.into_iter().map(|id| self.find(id)).collect()
    }

    /// The rows that are not stored yet.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = &T> {
        self.dirty.iter().filter_map(|id| self.get(id))
    }

    /// Rows from the store.
    pub(crate) fn load(rows: impl IntoIterator<Item = Arc<T>>) -> Self {
        let rows = rows.into_iter().map(|row| (row.id().to_owned(), row)).collect();
        Self { rows: Arc::new(rows), dirty: BTreeSet::new() }
    }

    /// What changed since the last call: a row, or `None` for one that is gone.
    pub(crate) fn take_changes(&mut self) -> Vec<(String, Option<Arc<T>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|id| (id.clone(), self.rows.get(&id).cloned())).collect()
    }
}

macro_rules! tables {
    ($($name:ident: $record:ty,)*) => {
        /// The tables. Cloning is cheap.
        #[derive(Clone, Debug, Default)]
        pub struct State {
            $(pub $name: Table<$record>,)*
            /// What is to be told with these changes.
            pub(crate) events: Vec<Event>,
        }

        impl State {
            /// Calls `each!` style visitor with every table and its bucket's name.
            pub(crate) fn visit(&mut self, visitor: &mut impl TableVisitor) -> Result<(), Fault> {
                $(visitor.table(concat!("ec2/", stringify!($name)), &mut self.$name)?;)*
                Ok(())
            }

            /// The tags of the resource with that id, whatever its type.
            pub(crate) fn tags_mut(&mut self, id: &str) -> Result<&mut Tags, Fault> {
                $(if let Some(found) = taggable(&mut self.$name, id) { return found; })*
                Err(faults::unknown_id(id))
            }

            /// Every (resource type, id, tags).
            pub(crate) fn all_tags(&self) -> impl Iterator<Item = (&'static str, &str, &Tags)> {
                let all = std::iter::empty();
                $(let all = all.chain(
                    self.$name.iter().map(|row| (<$record>::TYPE, row.id(), row.tags())),
                );)*
                all.filter(|(kind, ..)| !kind.is_empty())
            }
        }
    };
}

tables! {
    vpcs: Vpc,
    subnets: Subnet,
    internet_gateways: InternetGateway,
    egress_only_internet_gateways: EgressOnlyInternetGateway,
    nat_gateways: NatGateway,
    route_tables: RouteTable,
    addresses: ElasticIp,
    network_acls: NetworkAcl,
    dhcp_options: DhcpOptions,
    vpc_endpoints: VpcEndpoint,
    prefix_lists: PrefixList,
    security_groups: SecurityGroup,
    network_interfaces: NetworkInterface,
    instances: Instance,
    capacity_reservations: CapacityReservation,
    placement_groups: PlacementGroup,
    launch_templates: LaunchTemplate,
    images: Image,
    snapshots: Snapshot,
    key_pairs: KeyPair,
    tokens: Token,
}

/// What is done with each table in turn.
pub(crate) trait TableVisitor {
    fn table<T: Record>(&mut self, bucket: &'static str, table: &mut Table<T>)
    -> Result<(), Fault>;
}

fn taggable<'a, T: Record>(
    table: &'a mut Table<T>,
    id: &str,
) -> Option<Result<&'a mut Tags, Fault>> {
    // Rule ids (`sgr-`) and the like are handled by their own tables; ids of other types differ in
    // their prefix.
    if T::PREFIX.is_empty() || !id.starts_with(T::PREFIX) {
        return None;
    }
    Some(table.edit(id).map(T::tags_mut))
}

impl State {
    /// Puts an event on the account's bus, once these changes are durable.
    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The interfaces of an instance, by device index.
    pub fn interfaces_of(&self, instance_id: &str) -> Vec<&NetworkInterface> {
        let mut found: Vec<_> = self
            .network_interfaces
            .iter()
            .filter(|it| it.attachment.as_ref().is_some_and(|it| it.instance_id == instance_id))
            .collect();
        found.sort_by_key(|it| it.attachment.as_ref().map(|it| it.device_index));
        found
    }

    /// The interfaces of every instance, in the order of their devices.
    pub(crate) fn attached_interfaces(&self) -> Attached<'_> {
        let mut found = Attached::new();
        for it in self.network_interfaces.iter() {
            if let Some(attachment) = &it.attachment {
                found.entry(&attachment.instance_id).or_default().push(it);
            }
        }
        for of_one in found.values_mut() {
            of_one.sort_by_key(|it| it.attachment.as_ref().map(|it| it.device_index));
        }
        found
    }

    /// The branches that come in by a trunk.
    pub fn branches_of<'a>(&'a self, trunk: &'a str) -> impl Iterator<Item = &'a NetworkInterface> {
        let is_branch = move |it: &&NetworkInterface| {
            it.trunk.as_ref().is_some_and(|it| it.trunk_interface_id == trunk)
        };
        self.network_interfaces.iter().filter(is_branch)
    }

    /// What holds an interface in an instance: its own attachment, or that of its trunk.
    pub fn attachment_of<'a>(&'a self, interface: &'a NetworkInterface) -> Option<&'a Attachment> {
        match &interface.trunk {
            None => interface.attachment.as_ref(),
            Some(it) => self.network_interfaces.get(&it.trunk_interface_id)?.attachment.as_ref(),
        }
    }

    /// The route table that a subnet uses: its own, or the VPC's main one.
    pub fn route_table_of(&self, subnet: &Subnet) -> Option<&RouteTable> {
        let of_vpc = || self.route_tables.iter().filter(|it| it.vpc_id == subnet.vpc_id);
        of_vpc()
            .find(|it| it.associations.iter().any(|it| it.subnet_id.as_deref() == Some(&subnet.id)))
            .or_else(|| of_vpc().find(|it| it.is_main()))
    }

    /// The network ACL of a subnet: the one that it was given to, or the VPC's default one.
    pub fn network_acl_of(&self, subnet: &Subnet) -> Option<&NetworkAcl> {
        let of_vpc = || self.network_acls.iter().filter(|it| it.vpc_id == subnet.vpc_id);
        of_vpc()
            .find(|it| it.associations.iter().any(|it| it.subnet_id == subnet.id))
            .or_else(|| of_vpc().find(|it| it.is_default))
    }

    /// The VPC's interface endpoints that take the place of their service's public names.
    pub fn interface_endpoints<'a>(
        &'a self,
        vpc_id: &'a str,
    ) -> impl Iterator<Item = &'a VpcEndpoint> {
        let is_meant = move |it: &&VpcEndpoint| {
            it.vpc_id == vpc_id && it.kind == "Interface" && it.private_dns_enabled
        };
        self.vpc_endpoints.iter().filter(is_meant)
    }
}
