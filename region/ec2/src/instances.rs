//! Instances: launch, description, transitions, attributes.
//!
//! A call only says what an instance shall become (`pending`, `stopping`, `shutting-down`); what it
//! became is reported by whoever runs the hosts ([`reports`]).

pub(crate) mod attributes;
pub(crate) mod cpu;
pub(crate) mod describe;
pub(crate) mod fleet;
pub(crate) mod hibernation;
pub(crate) mod interfaces;
pub(crate) mod launch;
pub(crate) mod options;
pub(crate) mod profiles;
pub(crate) mod quota;
pub(crate) mod reports;
pub(crate) mod rights;
pub(crate) mod run;
pub(crate) mod shape;
pub(crate) mod status;
pub(crate) mod transitions;
pub(crate) mod volumes;
