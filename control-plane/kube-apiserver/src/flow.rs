//! A seat limit per user, so that a client that floods the server starves only itself.
//!
//! Deviation: upstream's priority and fairness has levels, queues and borrowing, configured by
//! objects; here every user has the same number of seats and the same short queue, and members of
//! `system:masters` and the server's own clients have no limit.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    request::{RequestInfo, UserInfo},
    status::Status,
};

/// How long a request may wait for a seat.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many requests of one user may wait, in multiples of its seats.
const QUEUE_FACTOR: usize = 10;

/// Idle users are forgotten when there are more than this.
const REMEMBERED_USERS: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Limiter {
    seats: usize,
    users: Mutex<HashMap<String, Arc<Seats>>>,
}

#[derive(Debug)]
struct Seats {
    taken: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Limiter {
    pub(crate) fn new(seats: usize) -> Self {
        Self { seats, users: Mutex::default() }
    }

    /// A seat, at once or after a wait. `None` for those without limit.
    pub(crate) async fn admit(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> Result<Option<OwnedSemaphorePermit>, Status> {
        let is_health = matches!(info.path.as_str(), "/healthz" | "/livez" | "/readyz");
        if is_health || user.is_in("system:masters") {
            return Ok(None);
        }
        let seats = self.seats_of(&user.username);
        if let Ok(permit) = seats.taken.clone().try_acquire_owned() {
            return Ok(Some(permit));
        }
        let refused = || Status::too_many_requests("too many requests, please try again later", 1);
        let place = seats.waiting.clone().try_acquire_owned().map_err(|_| refused())?;
        let seat = tokio::time::timeout(PATIENCE, seats.taken.clone().acquire_owned()).await;
        drop(place);
        match seat {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(refused()),
        }
    }

    fn seats_of(&self, user: &str) -> Arc<Seats> {
        let mut users = self.users.lock();
        if users.len() > REMEMBERED_USERS {
            let all = self.seats;
            users.retain(|_, it| it.taken.available_permits() < all);
        }
        let fresh = || {
            Arc::new(Seats {
                taken: Arc::new(Semaphore::new(self.seats)),
                waiting: Arc::new(Semaphore::new(self.seats * QUEUE_FACTOR)),
            })
        };
        users.entry(user.to_owned()).or_insert_with(fresh).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_users_flood_does_not_touch_another() {
        let limiter = Limiter::new(1);
        let (flood, other) = (UserInfo::new("flood", &[]), UserInfo::new("kubelet", &[]));
        let info = RequestInfo::default();
        let held = limiter.admit(&flood, &info).await.unwrap();
        let error = limiter.admit(&flood, &info).await.unwrap_err();
        assert_eq!((error.code.as_u16(), error.retry_after), (429, Some(1)));
        assert!(limiter.admit(&other, &info).await.unwrap().is_some());
        drop(held);
        assert!(limiter.admit(&flood, &info).await.is_ok());
        assert!(limiter.admit(&UserInfo::master("admin"), &info).await.unwrap().is_none());
    }
}
