//! What an instance needs next, from what EC2 wants and what the machine has: pure.

use region_ec2::records::{Instance, InstanceState};
use region_host::{Condition, Observed};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Start,
    /// It runs as it should: its end is waited for.
    Follow,
    Reboot,
    /// It switched itself off, or was told to: EC2 is to hear of it.
    ReportStopped,
    /// It is off as after a loss of power, and is to boot again.
    ReportPowerLost,
    /// The machine has nothing of it any more, not even its disk.
    ReportLost,
    Stop,
    Hibernate,
    Terminate,
}

/// What EC2 wants of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) state: InstanceState,
    pub(super) boot: u64,
    /// Stopped, it keeps what is in its memory.
    pub(super) hibernates: bool,
}

impl Wanted {
    pub(super) fn of(instance: &Instance) -> Self {
        let hibernates = instance.is_hibernated;
        Self { state: instance.state, boot: instance.boot, hibernates }
    }
}

/// For instances without a task under way: in the middle of a start, a stop or a reboot the machine
/// shows states that mean nothing.
pub(super) fn next(wanted: Wanted, observed: Option<&Observed>) -> Step {
    let Wanted { state, boot, hibernates } = wanted;
    let is_running = observed.is_some_and(|it| matches!(it.condition, Condition::Running(_)));
    let is_frozen = observed.is_some_and(|it| matches!(it.condition, Condition::Hibernated(_)));
    // A reboot that EC2 has acknowledged and the machine has not made, or not made to its end.
    let is_behind = observed.is_some_and(|it| it.boots < boot);
    let is_switched_off = observed.is_some_and(|it| it.condition == Condition::PoweredOff);
    match (state, is_running) {
        (InstanceState::Pending, _) => Step::Start,
        (InstanceState::Running, _) if is_behind => Step::Reboot,
        // It is running for EC2, and was not let go on.
        (InstanceState::Running, _) if is_frozen => Step::Start,
        (InstanceState::Running, true) => Step::Follow,
        (InstanceState::Running, false) if observed.is_none() => Step::ReportLost,
        (InstanceState::Running, false) if is_switched_off => Step::ReportStopped,
        // `nodestead down`, the end of the machine, `kill -9`, a reboot from within.
        (InstanceState::Running, false) => Step::ReportPowerLost,
        (InstanceState::Stopping | InstanceState::Stopped, true) if hibernates => Step::Hibernate,
        (InstanceState::Stopping | InstanceState::Stopped, _) if is_frozen && !hibernates => {
            Step::Stop
        }
        (InstanceState::Stopping, false) => Step::ReportStopped,
        // One that is stopped for EC2 and runs would run on, without interfaces.
        (InstanceState::Stopping | InstanceState::Stopped, true) => Step::Stop,
        (InstanceState::ShuttingDown, _) => Step::Terminate,
        (InstanceState::Stopped, false) | (InstanceState::Terminated, _) => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use region_host::HostSpec;

    use super::*;

    fn observed(condition: Condition, boots: u64) -> Observed {
        let path = PathBuf::new;
        let spec = HostSpec {
            instance_id: "i-1".to_owned(),
            hostname: String::new(),
            vcpus: 1,
            threads_per_core: 2,
            memory_bytes: 1,
            folder: path(),
            ami: path(),
            image: None,
            binary: path(),
            netns: String::new(),
            cgroup: String::new(),
            resolver: std::net::Ipv4Addr::LOCALHOST,
            search_domain: String::new(),
            init: Vec::new(),
            boot: boots,
        };
        Observed { spec, condition, boots }
    }

    fn wanted(state: InstanceState, boot: u64) -> Wanted {
        Wanted { state, boot, hibernates: false }
    }

    #[test]
    fn what_hibernates_is_frozen_goes_on_and_is_not_woken_to_end() {
        let init = linux_process::Identity { pid: 1, start_time: 1 };
        let frozen = observed(Condition::Hibernated(init), 1);
        let next = |state, found: &Observed| {
            next(Wanted { hibernates: true, ..wanted(state, 1) }, Some(found))
        };
        assert_eq!(next(InstanceState::Stopping, &running(1)), Step::Hibernate);
        assert_eq!(next(InstanceState::Stopping, &frozen), Step::ReportStopped);
        assert_eq!(next(InstanceState::Stopped, &frozen), Step::Nothing);
        assert_eq!(next(InstanceState::Pending, &frozen), Step::Start);
        assert_eq!(next(InstanceState::ShuttingDown, &frozen), Step::Terminate);
        // The machine was switched off meanwhile: what was in memory is lost, and it starts anew.
        let off = observed(Condition::Stopped, 1);
        assert_eq!(next(InstanceState::Stopped, &off), Step::Nothing);
        assert_eq!(next(InstanceState::Pending, &off), Step::Start);
        // The daemon died after EC2 had heard of the start, or of a stop that forgets.
        let forgetful = |state| super::next(wanted(state, 1), Some(&frozen));
        assert_eq!(forgetful(InstanceState::Running), Step::Start);
        assert_eq!(forgetful(InstanceState::Stopped), Step::Stop);
    }

    fn running(boots: u64) -> Observed {
        let init = linux_process::Identity { pid: 1, start_time: 1 };
        observed(Condition::Running(init), boots)
    }

    #[test]
    fn an_acknowledged_reboot_is_made_after_a_restart_of_the_daemon_too() {
        let next = |observed: &Observed| next(wanted(InstanceState::Running, 2), Some(observed));
        assert_eq!(next(&running(2)), Step::Follow);
        assert_eq!(next(&running(1)), Step::Reboot);
        // The daemon died between the two halves of it.
        assert_eq!(next(&observed(Condition::Stopped, 1)), Step::Reboot);
    }

    #[test]
    fn what_lost_its_power_boots_again_and_what_switched_itself_off_is_stopped() {
        let next = |observed: Option<&Observed>| next(wanted(InstanceState::Running, 2), observed);
        assert_eq!(next(Some(&observed(Condition::Stopped, 2))), Step::ReportPowerLost);
        assert_eq!(next(Some(&observed(Condition::PoweredOff, 2))), Step::ReportStopped);
        assert_eq!(next(None), Step::ReportLost);
        // EC2 has heard of it and counts one boot more.
        assert_eq!(next(Some(&observed(Condition::Stopped, 1))), Step::Reboot);
    }

    #[test]
    fn what_ec2_calls_stopped_does_not_run_on() {
        let next = |observed: Option<&Observed>| next(wanted(InstanceState::Stopped, 1), observed);
        assert_eq!(next(Some(&running(1))), Step::Stop);
        assert_eq!(next(Some(&observed(Condition::Stopped, 1))), Step::Nothing);
        assert_eq!(next(None), Step::Nothing);
    }

    #[test]
    fn each_state_leads_to_the_next() {
        let off = observed(Condition::Prepared, 0);
        for (state, is_running, expected) in [
            (InstanceState::Pending, false, Step::Start),
            (InstanceState::Pending, true, Step::Start),
            (InstanceState::Stopping, true, Step::Stop),
            (InstanceState::Stopping, false, Step::ReportStopped),
            (InstanceState::ShuttingDown, true, Step::Terminate),
            (InstanceState::ShuttingDown, false, Step::Terminate),
            (InstanceState::Terminated, false, Step::Nothing),
        ] {
            let found = if is_running { running(1) } else { off.clone() };
            assert_eq!(next(wanted(state, 1), Some(&found)), expected, "{state:?} {is_running}");
        }
    }
}
