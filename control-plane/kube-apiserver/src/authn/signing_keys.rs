//! The keys of service-account tokens, which change while the server runs.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;
use pki::ServiceAccountKey;
use serde_json::{Value, json};

/// The first one signs; all of them are accepted and published. Clones share them.
#[derive(Clone, Default)]
pub struct SigningKeys(Arc<RwLock<Arc<Vec<ServiceAccountKey>>>>);

impl SigningKeys {
    pub fn new(keys: Vec<ServiceAccountKey>) -> Self {
        let these = Self::default();
        these.replace(keys);
        these
    }

    /// What is signed from now on, is signed by the first of `keys`.
    pub fn replace(&self, keys: Vec<ServiceAccountKey>) {
        *self.0.write() = Arc::new(keys);
    }

    pub fn get(&self) -> Arc<Vec<ServiceAccountKey>> {
        self.0.read().clone()
    }

    /// The public halves, as a JSON Web Key Set.
    pub fn jwks(&self) -> Value {
        let keys = self.get();
        let all =
            keys.iter().flat_map(|it| it.jwks()["keys"].as_array().cloned().unwrap_or_default());
        json!({ "keys": all.collect::<Vec<_>>() })
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.get();
        let ids = keys.iter().map(ServiceAccountKey::key_id);
        f.debug_list().entries(ids).finish()
    }
}
