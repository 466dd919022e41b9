//! Keeps temporary credentials until shortly before they expire.

use std::time::Duration;

use clock::Clock;
use futures::future::BoxFuture;
use tokio::sync::Mutex;

use super::{Credentials, CredentialsError, ProvideCredentials};

/// New credentials are fetched this long before the old ones end.
const MARGIN: Duration = Duration::from_secs(5 * 60);

/// See the module. While a refresh fails, credentials that still hold are used on.
pub struct Cached<P> {
    inner: P,
    clock: Clock,
    held: Mutex<Option<Credentials>>,
}

impl<P: ProvideCredentials> Cached<P> {
    pub fn new(inner: P, clock: Clock) -> Self {
        Self { inner, clock, held: Mutex::new(None) }
    }

    async fn current(&self) -> Result<Credentials, CredentialsError> {
        // Held across the fetch on purpose: one fetch serves all who wait.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        let lasts = |it: &Credentials, margin: Duration| match it.expires {
            None => true,
            Some(expires) => expires > now + margin,
        };
        if let Some(credentials) = held.as_ref().filter(|it| lasts(it, MARGIN)) {
            return Ok(credentials.clone());
        }
        match self.inner.credentials().await {
            Ok(fresh) => Ok(held.insert(fresh).clone()),
            Err(error) => match held.as_ref().filter(|it| lasts(it, Duration::ZERO)) {
                Some(credentials) => Ok(credentials.clone()),
                None => Err(error),
            },
        }
    }
}

impl<P: ProvideCredentials> ProvideCredentials for Cached<P> {
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.current())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::Timestamp;

    use super::*;

    /// Gives hour-long credentials twice, then fails.
    struct Twice {
        clock: Clock,
        calls: AtomicU32,
    }

    impl ProvideCredentials for Twice {
        fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let expires = Some(self.clock.now() + Duration::from_secs(3600));
            Box::pin(async move {
                if call >= 2 {
                    return Err(CredentialsError::NotSet { name: "gone" });
                }
                Ok(Credentials { expires, ..Credentials::new(format!("A{call}"), "s") })
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_before_they_end_and_used_up_when_renewal_fails() {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let cached = Cached::new(Twice { clock, calls: AtomicU32::new(0) }, clock);
        let mut seen = Vec::new();
        for minutes in [0, 54, 2, 56, 1, 10] {
            tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
            seen.push(cached.credentials().await.ok().map(|it| it.access_key_id));
        }
        let key = |name: &str| Some(name.to_owned());
        assert_eq!(seen, [key("A0"), key("A0"), key("A1"), key("A1"), key("A1"), None]);
    }
}
