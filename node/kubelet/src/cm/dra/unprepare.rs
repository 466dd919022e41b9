//! Takes a pod's claims back, when its containers have ended.
//!
//! A claim that another pod uses stays. One that fails is tried again by whoever asked. A pod that comes
//! for a claim that is being taken back waits, and has it prepared anew.
//!
//! Upstream: `UnprepareResources` in `pkg/kubelet/cm/dra/manager.go`.

use api_kubelet::dra;
use tokio::time::Instant;

use super::{
    Claims, DraError, DraManager, Key,
    prepare::{Batches, check_answers},
};
use crate::pod::PodUid;

const CALL: &str = "NodeUnprepareResources";

impl DraManager {
    pub(crate) async fn unprepare(&self, uid: &PodUid) -> Result<(), DraError> {
        if !self.is_held_by(uid) {
            return Ok(());
        }
        let begun = Instant::now();
        let done = self.unprepare_all(uid).await;
        self.note("UnprepareResources", begun, done.is_err());
        done
    }

    async fn unprepare_all(&self, uid: &PodUid) -> Result<(), DraError> {
        let held: Vec<_> = {
            let claims = self.claims.lock();
            let own = claims.values().filter(|it| it.pod_uids.contains_key(&uid.0));
            own.map(|it| it.claim_uid.clone()).collect()
        };
        let _turn = self.turn(held).await;
        let (batches, last) = leave(&mut self.claims.lock(), &uid.0);
        for (name, claims) in batches {
            let driver = self.drivers.get(&name)?;
            let begun = Instant::now();
            let response = driver.unprepare(claims.clone()).await;
            self.note_call(&name, driver.method(CALL), begun, &response);
            let response: dra::NodeUnprepareResourcesResponse = response
                .map_err(|status| DraError::Rpc { call: CALL, status: Box::new(status) })?;
            let answers = response.claims.iter();
            let answers = answers.map(|(uid, it)| (uid.as_str(), it.error.as_str()));
            check_answers(CALL, &claims, answers)?;
        }
        let mut claims = self.claims.lock();
        for key in last {
            let Some(it) = claims.get_mut(&key) else { continue };
            it.pod_uids.remove(&uid.0);
            if it.pod_uids.is_empty() {
                claims.remove(&key);
            }
        }
        self.count(&claims);
        self.save(&claims)
    }
}

/// The pod leaves claims that others use; those that it uses alone are to be unprepared.
fn leave(claims: &mut Claims, uid: &str) -> (Batches, Vec<Key>) {
    let (mut batches, mut last) = (Batches::new(), Vec::new());
    for (key, it) in claims.iter_mut().filter(|(_, it)| it.pod_uids.contains_key(uid)) {
        if it.pod_uids.len() > 1 {
            it.pod_uids.remove(uid);
            continue;
        }
        it.is_prepared = false;
        last.push(key.clone());
        for driver in it.driver_state.keys() {
            batches.entry(driver.clone()).or_default().push(it.request());
        }
    }
    (batches, last)
}
