//! Credentials by token: one call to EKS Auth serves all who ask with a token, until its credentials
//! are renewed.
//!
//! They are renewed in the background, three per second at the most, when half of EKS Auth's six
//! hours are over; while that fails they are answered on until shortly before they end. A refusal
//! that is final drops them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use clock::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::{
    source::{Issued, Refused, Source},
    token,
};

/// Credentials that end sooner are not answered.
const SHORTEST: Duration = Duration::from_secs(15);
/// Between two renewals.
const PACE: Duration = Duration::from_millis(334);
/// How long a renewal that failed rests.
const REST: Duration = Duration::from_secs(60);
/// How often is looked for what is due.
const LOOK: Duration = Duration::from_secs(10);

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub most: usize,
    /// After this credentials are renewed, or when less of their life is left.
    pub renewal: Duration,
}

impl Default for Config {
    /// Upstream's.
    fn default() -> Self {
        Self { most: 2000, renewal: Duration::from_secs(3 * 3600) }
    }
}

/// See the module.
pub struct Cache {
    source: Arc<dyn Source>,
    config: Config,
    clock: Clock,
    held: Mutex<HashMap<Arc<str>, Entry>>,
    /// Calls that are under way.
    flights: Flights,
}

#[derive(Clone)]
struct Entry {
    issued: Arc<Issued>,
    renew_at: Timestamp,
    used_at: Timestamp,
}

type Flights = Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>;

/// A caller that waits for a token's credentials, also one that gives up.
struct Flight<'a> {
    flights: &'a Flights,
    token: Arc<str>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // This one and the map's: nobody else waits.
        if Arc::strong_count(&self.turn) == 2 {
            flights.remove(&self.token);
        }
    }
}

impl Cache {
    pub fn new(source: Arc<dyn Source>, config: Config, clock: Clock) -> Self {
        let (held, flights) = (Mutex::default(), Mutex::default());
        Self { source, config, clock, held, flights }
    }

    pub fn len(&self) -> usize {
        self.held.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token's credentials: those that are held, or new ones.
    pub async fn credentials(&self, token: &str) -> Result<Arc<Issued>, Refused> {
        if let Some(issued) = self.find(token) {
            return Ok(issued);
        }
        let token: Arc<str> = token.into();
        let turn = self.flights.lock().entry(token.clone()).or_default().clone();
        let flight = Flight { flights: &self.flights, token: token.clone(), turn };
        let _alone = flight.turn.lock().await;
        match self.find(&token) {
            Some(issued) => Ok(issued),
            None => self.fetch(&token).await,
        }
    }

    fn find(&self, token: &str) -> Option<Arc<Issued>> {
        let now = self.clock.now();
        let mut held = self.held.lock();
        let entry = held.get_mut(token)?;
        entry.used_at = now;
        (entry.issued.expiration > now + SHORTEST).then(|| entry.issued.clone())
    }

    async fn fetch(&self, token: &Arc<str>) -> Result<Arc<Issued>, Refused> {
        let result = self.source.issue(token).await;
        let now = self.clock.now();
        let mut held = self.held.lock();
        match result {
            Ok(issued) => {
                let used_at = held.get(token).map_or(now, |it| it.used_at);
                if held.len() >= self.config.most && !held.contains_key(token) {
                    let oldest = held.iter().min_by_key(|(_, it)| it.used_at);
                    let oldest = oldest.map(|(token, _)| token.clone());
                    oldest.and_then(|it| held.remove(&it));
                }
                let issued = Arc::new(issued);
                let renew_at = (now + self.config.renewal).min(issued.expiration - SHORTEST);
                held.insert(token.clone(), Entry { issued: issued.clone(), renew_at, used_at });
                Ok(issued)
            }
            Err(refused) => {
                if refused.is_final {
                    held.remove(token);
                } else if let Some(entry) = held.get_mut(token) {
                    entry.renew_at = now + REST;
                }
                Err(refused)
            }
        }
    }

    /// Renews what is due, for ever.
    pub async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            for token in self.due() {
                if let Err(refused) = self.fetch(&token).await {
                    match refused.is_final {
                        true => info!(%refused, "credentials are dropped"),
                        false => warn!(%refused, "credentials were not renewed"),
                    }
                }
                tokio::time::sleep(PACE).await;
            }
        }
    }

    /// What is to be renewed now. What has ended, or whose token has, is forgotten.
    fn due(&self) -> Vec<Arc<str>> {
        let now = self.clock.now();
        let mut held = self.held.lock();
        held.retain(|key, it| it.issued.expiration > now && token::check(key, now).is_ok());
        held.iter().filter(|(_, it)| it.renew_at <= now).map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::BoxFuture;
    use http::StatusCode;

    use super::*;
    use crate::token::tests::token;

    /// Gives six hours each time, but to tokens of `bad`; takes a second for it.
    struct Counting {
        clock: Clock,
        calls: AtomicU32,
        is_down: std::sync::atomic::AtomicBool,
        bad: String,
    }

    impl Source for Counting {
        fn issue<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Issued, Refused>> {
            Box::pin(async move {
                let call = self.calls.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                let refused = |is_final| Refused {
                    status: StatusCode::BAD_REQUEST,
                    message: String::new(),
                    is_final,
                };
                if token == self.bad {
                    return Err(refused(true));
                }
                if self.is_down.load(Ordering::Relaxed) {
                    return Err(refused(false));
                }
                Ok(Issued {
                    access_key_id: format!("ASIA{call}"),
                    secret_access_key: String::new(),
                    token: String::new(),
                    account_id: String::new(),
                    expiration: self.clock.now() + Duration::from_secs(6 * 3600),
                })
            })
        }
    }

    struct World {
        cache: Arc<Cache>,
        source: Arc<Counting>,
        scope: lifecycle::Scope,
        clock: Clock,
    }

    fn start(config: Config) -> World {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let source = Arc::new(Counting {
            clock,
            calls: AtomicU32::new(0),
            is_down: Default::default(),
            bad: token("bad", end_of_days()),
        });
        let cache = Arc::new(Cache::new(source.clone(), config, clock));
        let scope = lifecycle::Scope::new();
        let renewing = cache.clone();
        drop(scope.spawn("renewal", async move { renewing.keep_fresh().await }));
        World { cache, source, scope, clock }
    }

    fn end_of_days() -> Timestamp {
        Timestamp::from_second(30 * 24 * 3600).unwrap()
    }

    fn hours(count: u64) -> Duration {
        Duration::from_secs(count * 3600)
    }

    impl World {
        fn calls(&self) -> u32 {
            self.source.calls.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_callers_that_give_up() {
        let world = start(Config::default());
        let slow = token("slow", end_of_days());
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        world.cache.flights.lock().insert((&*slow).into(), turn.clone());
        let held = turn.lock().await;
        let asked = world.cache.credentials(&slow);
        assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err());
        drop(held);
        drop(turn);
        assert!(world.cache.credentials(&slow).await.is_ok());
        assert!(world.cache.flights.lock().is_empty());
        world.scope.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_serves_all_who_have_the_token() {
        let world = start(Config::default());
        let (a, b) = (token("a", end_of_days()), token("b", end_of_days()));
        let asked = futures::future::join_all((0..20).map(|_| world.cache.credentials(&a)));
        let given = asked.await;
        assert!(given.iter().all(|it| it == &given[0] && it.is_ok()));
        assert_eq!(world.calls(), 1);
        let other = world.cache.credentials(&b).await;
        assert_ne!(other, given[0], "another token has other credentials");
        assert!(world.cache.flights.lock().is_empty());
        world.scope.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_at_half_time_and_held_while_that_fails() {
        let world = start(Config::default());
        let a = token("a", end_of_days());
        let first = world.cache.credentials(&a).await.unwrap();
        tokio::time::sleep(hours(2)).await;
        assert_eq!(world.cache.credentials(&a).await.unwrap(), first);
        tokio::time::sleep(hours(1) + LOOK * 2).await;
        let second = world.cache.credentials(&a).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(world.calls(), 2);
        world.source.is_down.store(true, Ordering::Relaxed);
        tokio::time::sleep(hours(5)).await;
        assert_eq!(world.cache.credentials(&a).await.unwrap(), second);
        tokio::time::sleep(hours(1)).await;
        assert!(world.cache.credentials(&a).await.is_err(), "they have ended");
        assert!(world.cache.is_empty());
        world.scope.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_refusal_drops_what_was_given() {
        let world = start(Config::default());
        let a = token("a", end_of_days());
        world.cache.credentials(&a).await.unwrap();
        let bad = world.source.bad.clone();
        assert!(world.cache.credentials(&bad).await.is_err());
        assert_eq!(world.cache.len(), 1, "a refused token takes no place");
        let short = token("short", world.clock.now() + hours(1));
        world.cache.credentials(&short).await.unwrap();
        tokio::time::sleep(hours(1) + LOOK * 2).await;
        assert_eq!(world.cache.len(), 1, "what came for an ended token is forgotten");
        world.scope.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_forgets_whom_nobody_asked_for_the_longest() {
        let world = start(Config { most: 2, ..Config::default() });
        let names = ["a", "b", "c"].map(|it| token(it, end_of_days()));
        for name in &names[..2] {
            world.cache.credentials(name).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.cache.credentials(&names[0]).await.unwrap();
        world.cache.credentials(&names[2]).await.unwrap();
        assert_eq!((world.cache.len(), world.calls()), (2, 3));
        world.cache.credentials(&names[0]).await.unwrap();
        assert_eq!(world.calls(), 3);
        world.cache.credentials(&names[1]).await.unwrap();
        assert_eq!(world.calls(), 4);
        world.scope.cancel();
    }
}
