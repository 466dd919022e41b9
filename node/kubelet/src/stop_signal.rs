//! The signal that asks a container to end, where its `lifecycle.stopSignal` names one.
//!
//! The signal is part of what CRI is told of a container since 1.33. containerd before that knows only
//! the signal of the image; there the kubelet notes the signal on the container and sends it itself.
//!
//! Upstream: KEP-4960 (`ContainerStopSignals`, off by default in 1.36: the field is ignored then).

use std::{sync::Arc, time::Duration};

use api_cri::v1;
use k8s_openapi::api::core::v1::Container;

use crate::{
    config::KubeletConfiguration, context::Context, cri::CriError, labels,
    observed::RuntimeContainer,
};

/// How many signals have names of their own, and how many are real-time signals.
const NAMED: u32 = 34;
const REAL_TIME: u32 = 31;
/// The names in the order of CRI's list, which begins at 1 with them, and the kernel's numbers.
const NAMES: [(&str, u32); NAMED as usize] = [
    ("SIGABRT", 6),
    ("SIGALRM", 14),
    ("SIGBUS", 7),
    ("SIGCHLD", 17),
    ("SIGCLD", 17),
    ("SIGCONT", 18),
    ("SIGFPE", 8),
    ("SIGHUP", 1),
    ("SIGILL", 4),
    ("SIGINT", 2),
    ("SIGIO", 29),
    ("SIGIOT", 6),
    ("SIGKILL", 9),
    ("SIGPIPE", 13),
    ("SIGPOLL", 29),
    ("SIGPROF", 27),
    ("SIGPWR", 30),
    ("SIGQUIT", 3),
    ("SIGSEGV", 11),
    ("SIGSTKFLT", 16),
    ("SIGSTOP", 19),
    ("SIGSYS", 31),
    ("SIGTERM", 15),
    ("SIGTRAP", 5),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGVTALRM", 26),
    ("SIGWINCH", 28),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
];
/// Real-time signals: `SIGRTMIN` to `SIGRTMIN+15`, `SIGRTMAX-14` to `SIGRTMAX`.
const REAL_TIME_FIRST: u32 = 34;
const REAL_TIME_LAST: u32 = 64;

/// A signal as Kubernetes names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    /// Its place in CRI's list.
    place: u32,
    pub number: u32,
}

impl Signal {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        (1..=NAMED + REAL_TIME).filter_map(Self::at).find(|it| it.name() == name)
    }

    /// The one at this place of CRI's list.
    pub(crate) fn at(place: u32) -> Option<Self> {
        let number = match place {
            0 => return None,
            _ if place <= NAMED => NAMES[place as usize - 1].1,
            _ => place - NAMED - 1 + REAL_TIME_FIRST,
        };
        (number <= REAL_TIME_LAST).then_some(Self { place, number })
    }

    pub(crate) fn name(self) -> String {
        if let Some((name, _)) = NAMES.get(self.place as usize - 1) {
            return (*name).to_owned();
        }
        match (self.number - REAL_TIME_FIRST, REAL_TIME_LAST - self.number) {
            (0, _) => "SIGRTMIN".to_owned(),
            (above @ 1..=15, _) => format!("SIGRTMIN+{above}"),
            (_, 0) => "SIGRTMAX".to_owned(),
            (_, below) => format!("SIGRTMAX-{below}"),
        }
    }
}

/// Who sends a container its signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopSignal {
    Runtime(Signal),
    Kubelet(Signal),
}

impl StopSignal {
    /// As a container's status tells it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Runtime(it) | Self::Kubelet(it) => it.name(),
        }
    }

    /// What the runtime says of a container, and what was noted on it.
    pub(crate) fn of(status: &v1::ContainerStatus) -> Option<Self> {
        let told = u32::try_from(status.stop_signal).ok().and_then(Signal::at);
        let noted = || status.annotations.get(labels::STOP_SIGNAL).and_then(|it| Signal::parse(it));
        told.map(Self::Runtime).or_else(|| noted().map(Self::Kubelet))
    }
}

pub(crate) fn is_on(config: &KubeletConfiguration) -> bool {
    config.gate("ContainerStopSignals", false)
}

/// Puts the signal into what the runtime is told of a new container.
pub(crate) async fn complete(
    context: &Context,
    container: &Container,
    config: &mut v1::ContainerConfig,
) -> Result<(), CriError> {
    let named = container.lifecycle.as_ref().and_then(|it| it.stop_signal.as_deref());
    let Some(signal) = named.filter(|_| is_on(&context.settings.config)).and_then(Signal::parse)
    else {
        return Ok(());
    };
    config.stop_signal = i32::try_from(signal.place).unwrap_or(0);
    if context.runtime.version().await?.runtime_name == "containerd" {
        config.annotations.insert(labels::STOP_SIGNAL.to_owned(), signal.name());
    }
    Ok(())
}

/// Asks a container to end, and kills it after `grace`.
pub(crate) async fn stop(
    context: &Arc<Context>,
    it: &RuntimeContainer,
    grace: Duration,
) -> Result<(), CriError> {
    let runtime = &context.runtime;
    let signal = match it.stop_signal {
        Some(StopSignal::Kubelet(signal)) if it.is_running() && !grace.is_zero() => signal,
        _ => return runtime.stop_container(&it.id, grace).await,
    };
    if let Err(error) = runtime.signal(&it.id, signal.number).await {
        // It has ended meanwhile, or has to end in another way.
        tracing::debug!(id = it.id, %error, "the signal of a container was not sent");
        return runtime.stop_container(&it.id, grace).await;
    }
    if let Err(error) = runtime.wait_exit(&it.id, grace).await {
        tracing::debug!(id = it.id, %error, "a container did not end upon its signal");
    }
    // Whatever is left is killed, and the runtime has noticed the end when this returns.
    runtime.stop_container(&it.id, Duration::ZERO).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_places_of_cri_and_the_numbers_of_linux() {
        let of = |name: &str| Signal::parse(name).map(|it| (it.place, it.number));
        assert_eq!(of("SIGABRT"), Some((1, 6)));
        assert_eq!(of("SIGUSR1"), Some((29, 10)));
        assert_eq!(of("SIGXFSZ"), Some((34, 25)));
        assert_eq!(of("SIGRTMIN"), Some((35, 34)));
        assert_eq!(of("SIGRTMIN+15"), Some((50, 49)));
        assert_eq!(of("SIGRTMAX-14"), Some((51, 50)));
        assert_eq!(of("SIGRTMAX"), Some((65, 64)));
        assert_eq!((of("SIGRTMIN+16"), of("SIGNOT"), Signal::at(66)), (None, None, None));
    }

    #[test]
    fn what_the_runtime_says_of_a_signal_counts_more_than_what_was_noted() {
        let annotations = [(labels::STOP_SIGNAL.to_owned(), "SIGHUP".to_owned())].into();
        let mut status = v1::ContainerStatus { annotations, ..v1::ContainerStatus::default() };
        let hup = Signal::parse("SIGHUP").unwrap();
        assert_eq!(StopSignal::of(&status), Some(StopSignal::Kubelet(hup)));
        status.stop_signal = 8;
        assert_eq!(StopSignal::of(&status), Some(StopSignal::Runtime(hup)));
        assert_eq!(StopSignal::of(&v1::ContainerStatus::default()), None);
    }
}
