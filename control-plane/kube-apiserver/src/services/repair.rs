//! Puts Services and what they have of addresses and ports in agreement.
//!
//! They can disagree where a data directory is older than the records, and where somebody removed
//! IPAddresses by hand.
//!
//! Upstream: pkg/registry/core/service/ipallocator/controller.

use std::collections::HashSet;

use mvcc::{CommitError, Guard, Record, Txn};

use super::{
    Allocator, addresses_of,
    claims::{ADDRESSES, ALLOCATOR, Claims, MANAGED_BY, PORTS, address_key, port_key},
    ports_of,
};
use crate::registry;

impl Allocator {
    /// A number that changes when there may be something to repair.
    pub(crate) fn epoch(&self) -> [u64; 3] {
        [("", "services"), ADDRESSES, PORTS]
            .map(|(group, plural)| self.store.bucket_revision(&registry::prefix(group, plural, "")))
    }

    /// See the module. Claims are read before the Services that they are of, so that one which is
    /// made meanwhile is not taken for nobody's.
    pub(crate) async fn repair(&self) -> Result<(), CommitError> {
        let claimed: Vec<_> = [ADDRESSES, PORTS].into_iter().flat_map(|it| self.scan(it)).collect();
        let mut wanted = HashSet::new();
        for record in self.scan(("", "services")) {
            let service = registry::decode(&record);
            let mut claims = Claims::of(&service);
            for address in addresses_of(&service) {
                wanted.insert(address_key(address));
                claims.take_address(&self.store, address, self.clock.now());
            }
            for port in ports_of(&service) {
                wanted.insert(port_key(port.0, &port.1));
                claims.take_port(&self.store, &port);
            }
            if claims.is_empty() {
                continue;
            }
            let at = Guard::At(record.key.to_string(), record.mod_revision);
            let mut txn = Txn { guards: vec![at], ops: Vec::new() };
            claims.join(&mut txn);
            self.try_commit(txn).await?;
        }
        for record in claimed {
            if is_ours(&record) && !wanted.contains(&*record.key) {
                self.try_commit(Txn::delete(&*record.key, record.mod_revision)).await?;
            }
        }
        Ok(())
    }

    fn scan(&self, (group, plural): (&str, &str)) -> Vec<std::sync::Arc<Record>> {
        self.store.scan(&registry::prefix(group, plural, ""))
    }

    /// What changed meanwhile is left to the next time.
    async fn try_commit(&self, txn: Txn) -> Result<(), CommitError> {
        match self.store.commit(txn).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Addresses that a user claimed are the user's.
fn is_ours(record: &Record) -> bool {
    record.key.starts_with(&registry::prefix(PORTS.0, PORTS.1, ""))
        || registry::decode(record)["metadata"]["labels"][MANAGED_BY] == ALLOCATOR
}
