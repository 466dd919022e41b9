//! The trunks that are known, by node.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::{cloud::Home, ledger::Ledger};

/// A node's trunk.
#[derive(Debug)]
pub(crate) struct Trunk {
    pub(crate) instance: String,
    pub(crate) kind: String,
    /// Where branches are made, and for which ENIConfig that is.
    pub(crate) home: Mutex<(Option<String>, Home)>,
    pub(crate) ledger: Mutex<Ledger>,
    /// Since when its node is no more.
    pub(crate) gone: Mutex<Option<Timestamp>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trunks(Mutex<BTreeMap<String, Arc<Trunk>>>);

impl Trunks {
    pub(crate) fn get(&self, node: &str) -> Option<Arc<Trunk>> {
        self.0.lock().get(node).cloned()
    }

    pub(crate) fn all(&self) -> Vec<(String, Arc<Trunk>)> {
        self.0.lock().iter().map(|(node, it)| (node.clone(), it.clone())).collect()
    }

    pub(crate) fn insert(&self, node: &str, trunk: Trunk) -> Arc<Trunk> {
        let trunk = Arc::new(trunk);
        self.0.lock().insert(node.to_owned(), trunk.clone());
        trunk
    }

    pub(crate) fn remove(&self, node: &str) {
        self.0.lock().remove(node);
    }

    /// Whether somebody has this branch, or may be about to.
    pub(crate) fn may_know(&self, eni: &str) -> bool {
        let trunks = self.0.lock();
        trunks.values().any(|it| {
            let ledger = it.ledger.lock();
            ledger.is_making() || ledger.knows(eni)
        })
    }
}
