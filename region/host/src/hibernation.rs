//! An instance that stands still and goes on: all of its processes are frozen where they are.
//!
//! Deviation: memory stays in memory. It is not written to the root volume, so it is not given back to
//! the machine, and it is lost with the machine's power; the monotonic clock goes on meanwhile.

use std::time::{Duration, Instant};

use linux_cgroup::Freeze;

use crate::{
    HostError, HostSpec, Hosts,
    hosts::{Condition, Observed, blocking},
    state::State,
};

/// How long the processes of an instance may take to stand still.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

impl Hosts {
    /// Has the instance stand still with all that it has in memory, until [`Hosts::ensure`] lets it go
    /// on. One that does not run is left alone.
    ///
    /// What is in memory stays there: it is not written to the disk, and is lost with the machine's power.
    pub async fn hibernate(&self, id: &str) -> Result<(), HostError> {
        let (hosts, id) = (self.clone(), id.to_owned());
        blocking(move || hosts.hibernate_now(&id)).await
    }

    /// It is written down once it is so: a repetition finds it running, or as it shall be.
    fn hibernate_now(&self, id: &str) -> Result<(), HostError> {
        let Some(Observed { spec, condition: Condition::Running(_), .. }) = self.find(id)? else {
            return Ok(());
        };
        let failed = |source| HostError::Cgroup { id: id.to_owned(), source };
        let cgroup = self.cgroup(&spec);
        cgroup.freeze(Freeze::Frozen).map_err(failed)?;
        let deadline = Instant::now() + LIMIT;
        while !cgroup.is_frozen() {
            if Instant::now() >= deadline {
                cgroup.freeze(Freeze::Thawed).map_err(failed)?;
                return Err(HostError::NotFrozen { id: id.to_owned() });
            }
            std::thread::sleep(PAUSE);
        }
        self.note_hibernated(&spec, true)
    }

    pub(crate) fn resume(&self, spec: &HostSpec) -> Result<(), HostError> {
        let failed = |source| HostError::Cgroup { id: spec.instance_id.clone(), source };
        self.cgroup(spec).freeze(Freeze::Thawed).map_err(failed)?;
        self.note_hibernated(spec, false)
    }

    fn note_hibernated(&self, spec: &HostSpec, is_hibernated: bool) -> Result<(), HostError> {
        match State::load(&spec.folder)? {
            None => Ok(()),
            Some(state) => Ok(State { is_hibernated, ..state }.save(&spec.folder)?),
        }
    }
}
