//! The keys of identity providers, kept for a while: new pods do not read them once each. Whose tokens
//! come while a set is being read read it too.
//!
//! A key set that does not verify a token is read again, so that a new key counts at once; how often
//! is limited, because whoever sends tokens chooses what they are signed with. A key that was
//! withdrawn counts until the set that was kept is old. An issuer that is gone is found out before
//! this is asked: its configuration is read for every token.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{IssuerDocuments, StsError};

/// How long a key set is good for. Issuers allow an hour (`Cache-Control`).
const KEPT: Duration = Duration::from_secs(5 * 60);
/// How soon it may be read again for a token that it does not verify.
const SOONEST: Duration = Duration::from_secs(5);
/// Sets that are kept: more than clusters that a machine can have.
const MOST: usize = 256;

/// By the address of the set.
#[derive(Default)]
pub(crate) struct IssuerKeys(Mutex<HashMap<String, Kept>>);

#[derive(Clone)]
struct Kept {
    keys: Arc<Value>,
    read: Timestamp,
}

impl IssuerKeys {
    /// The set at `uri`: the one that is known, if it is young and `is_enough`, else as it is now.
    pub(crate) async fn get(
        &self,
        documents: &dyn IssuerDocuments,
        uri: &str,
        now: Timestamp,
        is_enough: impl Fn(&Value) -> bool,
    ) -> Result<Arc<Value>, StsError> {
        let known = self.0.lock().get(uri).cloned();
        if let Some(known) = known.filter(|it| now < it.read + KEPT)
            && (now < known.read + SOONEST || is_enough(&known.keys))
        {
            return Ok(known.keys);
        }
        let keys = Arc::new(documents.get(uri).await?);
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.retain(|_, it| now < it.read + KEPT);
        }
        if all.len() < MOST {
            all.insert(uri.to_owned(), Kept { keys: keys.clone(), read: now });
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;
    use serde_json::json;

    use super::*;
    use crate::FetchError;

    /// Each reading gives a set of its own number.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl IssuerDocuments for Counted {
        fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Value, FetchError>> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(Ok(json!(number))))
        }
    }

    async fn asked(keys: &IssuerKeys, web: &Counted, second: i64, needs: i64) -> i64 {
        let now = Timestamp::from_second(second).unwrap();
        let is_enough = |it: &Value| it.as_i64() >= Some(needs);
        let found = keys.get(web, "https://issuer.test/keys", now, is_enough).await.unwrap();
        found.as_i64().unwrap()
    }

    #[tokio::test]
    async fn a_set_is_read_once_until_it_is_old_or_does_not_suffice() {
        let (keys, web) = (IssuerKeys::default(), Counted::default());
        assert_eq!(asked(&keys, &web, 0, 0).await, 0);
        assert_eq!(asked(&keys, &web, 200, 0).await, 0, "young, and enough");
        assert_eq!(asked(&keys, &web, 201, 1).await, 1, "the issuer has a new key");
        assert_eq!(asked(&keys, &web, 203, 9).await, 1, "a forger does not set the pace");
        assert_eq!(asked(&keys, &web, 500, 0).await, 1);
        assert_eq!(asked(&keys, &web, 501, 0).await, 2, "old");
    }

    #[tokio::test]
    async fn issuers_without_number_do_not_fill_the_memory() {
        let (keys, web) = (IssuerKeys::default(), Counted::default());
        for number in 0..2 * MOST {
            let uri = format!("https://issuer.test/{number}");
            keys.get(&web, &uri, Timestamp::UNIX_EPOCH, |_| true).await.unwrap();
        }
        assert_eq!(keys.0.lock().len(), MOST);
    }
}
