//! What a Service has of addresses and ports, as records beside it.
//!
//! Upstream: `createService` of the IP allocator, and the bitmap of node ports.

use std::net::IpAddr;

use jiff::Timestamp;
use mvcc::{Guard, Op, Store, Txn};
use serde_json::{Value, json};

use crate::{registry, resources::meta, server::timestamp};

pub(super) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const ALLOCATOR: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// Group and plural under which ports are noted. Nothing is served there.
pub(super) const PORTS: (&str, &str) = ("", "servicenodeports");
pub(super) const ADDRESSES: (&str, &str) = ("networking.k8s.io", "ipaddresses");

/// What one write takes and gives back. It happens with the write or not at all.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    namespace: String,
    name: String,
    taken: Vec<(String, Value)>,
    /// With the revision at which it was seen.
    released: Vec<(String, u64)>,
}

impl Claims {
    pub(super) fn of(service: &Value) -> Self {
        let (namespace, name) = (meta(service, "namespace"), meta(service, "name"));
        Self { namespace: namespace.into(), name: name.into(), ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.released.is_empty()
    }

    /// Makes them part of a transaction.
    pub(crate) fn join(&self, txn: &mut Txn) {
        for (key, value) in &self.taken {
            txn.guards.push(Guard::Absent(key.clone()));
            txn.ops.push(Op::Put(key.clone(), registry::encode(value).into()));
        }
        for (key, revision) in &self.released {
            txn.guards.push(Guard::At(key.clone(), *revision));
            txn.ops.push(Op::Delete(key.clone()));
        }
    }

    fn parent(&self) -> Value {
        json!({"resource": "services", "namespace": self.namespace, "name": self.name})
    }

    fn is_own(&self, record: &mvcc::Record) -> bool {
        registry::decode(record)["spec"]["parentRef"] == self.parent()
    }

    pub(super) fn take_address(&mut self, store: &Store, address: IpAddr, now: Timestamp) {
        let key = address_key(address);
        if store.get(&key).is_none() {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let object = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {
                    "name": address.to_string(), "uid": entropy::uuid(),
                    "creationTimestamp": timestamp(now),
                    "labels": { FAMILY: family, MANAGED_BY: ALLOCATOR },
                },
                "spec": { "parentRef": self.parent() },
            });
            self.taken.push((key, object));
        }
    }

    pub(super) fn take_port(&mut self, store: &Store, port: &(u16, String)) {
        let key = port_key(port.0, &port.1);
        if store.get(&key).is_none() && !self.has_taken(&key) {
            let object = json!({"metadata": {}, "spec": {"parentRef": self.parent()}});
            self.taken.push((key, object));
        }
    }

    pub(super) fn release_address(&mut self, store: &Store, address: IpAddr) {
        self.release(store, address_key(address));
    }

    pub(super) fn release_port(&mut self, store: &Store, port: &(u16, String)) {
        self.release(store, port_key(port.0, &port.1));
    }

    fn release(&mut self, store: &Store, key: String) {
        if let Some(record) = store.get(&key).filter(|it| self.is_own(it)) {
            self.released.push((key, record.mod_revision));
        }
    }

    pub(super) fn is_address_of_another(&self, store: &Store, address: IpAddr) -> bool {
        store.get(&address_key(address)).is_some_and(|it| !self.is_own(&it))
    }

    pub(super) fn is_port_of_another(&self, store: &Store, port: u16, protocol: &str) -> bool {
        store.get(&port_key(port, protocol)).is_some_and(|it| !self.is_own(&it))
    }

    /// Also by the same write.
    pub(super) fn is_port_taken(&self, store: &Store, port: u16, protocol: &str) -> bool {
        let key = port_key(port, protocol);
        self.has_taken(&key) || store.get(&key).is_some()
    }

    fn has_taken(&self, key: &str) -> bool {
        self.taken.iter().any(|it| it.0 == key)
    }
}

pub(super) fn is_address_taken(store: &Store, address: IpAddr) -> bool {
    store.get(&address_key(address)).is_some()
}

pub(super) fn address_key(address: IpAddr) -> String {
    registry::key(ADDRESSES.0, ADDRESSES.1, "", &address.to_string())
}

pub(super) fn port_key(port: u16, protocol: &str) -> String {
    registry::key(PORTS.0, PORTS.1, "", &format!("{port}-{protocol}"))
}
