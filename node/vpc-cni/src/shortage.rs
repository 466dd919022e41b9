//! Why a pod got no address, and what the people who run the cluster can do about it.
//!
//! Beyond upstream, whose plug-in has one sentence for a dozen causes (CNI#1791): the cause becomes
//! the reason of an event on the pod, and its message names the subnet, its free addresses, who holds
//! the others as far as the node's role may see, and the way out.

use std::fmt::Write;

use ipam::Survey;
/// Holders that a message lists by name.
const NAMED: usize = 5;

/// The cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The subnet has no address left; nothing is asked of EC2 until then.
    SubnetExhausted {
        subnet: String,
    },
    /// It has addresses, but no whole /28.
    PrefixFragmented {
        subnet: String,
    },
    /// The instance type, or `MAX_ENI`, allows no more.
    NodeAtLimit {
        enis: usize,
        addresses: usize,
    },
    /// All that is free rests after use.
    Cooling,
    Unauthorized {
        error: String,
    },
    Throttled {
        error: String,
    },
    NoEniConfig {
        name: String,
    },
    /// Growth is off, or EC2 refused for another reason.
    Other {
        reason: String,
    },
}

impl Shortage {
    /// The event's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SubnetExhausted { .. } => "SubnetExhausted",
            Self::PrefixFragmented { .. } => "PrefixFragmented",
            Self::NodeAtLimit { .. } => "NodeAtAddressLimit",
            Self::Cooling => "AddressesCooling",
            Self::Unauthorized { .. } => "MissingIAMPermissions",
            Self::Throttled { .. } => "EC2Throttled",
            Self::NoEniConfig { .. } => "MissingENIConfig",
            Self::Other { .. } => "NoAddressAvailable",
        }
    }

    /// The subnet that has to be looked at to say more.
    pub fn subnet(&self) -> Option<&str> {
        match self {
            Self::SubnetExhausted { subnet } | Self::PrefixFragmented { subnet } => Some(subnet),
            _ => None,
        }
    }

    /// The event's message. `survey` is of [`Self::subnet`], where it could be made. It has nothing that
    /// changes by the second: what is the same is counted as one event.
    pub fn message(&self, survey: Option<&Survey>) -> String {
        let mut text = "No IP address for the pod: ".to_owned();
        match self {
            Self::SubnetExhausted { subnet } | Self::PrefixFragmented { subnet } => match survey {
                Some(survey) => text += &of_subnet(survey),
                None => write(&mut text, format_args!("subnet {subnet} has too few free.")),
            },
            Self::NodeAtLimit { enis, addresses } => write(
                &mut text,
                format_args!(
                    "all {addresses} addresses on this node's {enis} network interfaces are in use, \
                     and the instance type allows no more. Its maxPods is higher than what it can \
                     address: lower maxPods, use a larger instance type, or turn on \
                     ENABLE_PREFIX_DELEGATION."
                ),
            ),
            Self::Cooling => {
                text +=
                    "those that are free were in use a moment ago, and rest (IP_COOLDOWN_PERIOD).";
            }
            Self::Unauthorized { error } => write(
                &mut text,
                format_args!(
                    "the node's role may not get more: {error}. Attach the policy \
                     AmazonEKS_CNI_Policy to it."
                ),
            ),
            Self::Throttled { error } => {
                write(&mut text, format_args!("EC2 does not answer for now: {error}."));
            }
            Self::NoEniConfig { name } => write(
                &mut text,
                format_args!(
                    "there is no ENIConfig {name:?}, which this node is to take its subnet from. \
                     Create it, or label or annotate the node with the name of another."
                ),
            ),
            Self::Other { reason } => write(&mut text, format_args!("{reason}.")),
        }
        text += &self.advice();
        text
    }

    fn advice(&self) -> String {
        let common = "delete interfaces that nothing uses, tag another subnet of the zone with \
                      kubernetes.io/role/cni=1, or give pods a subnet of their own in a secondary \
                      CIDR (custom networking). See `nodestead explain subnet`. EC2 is asked again after \
                      120 s.";
        match self {
            Self::SubnetExhausted { .. } => format!(
                " What helps: fewer warm addresses (set WARM_IP_TARGET and MINIMUM_IP_TARGET), \
                 {common}"
            ),
            Self::PrefixFragmented { .. } => format!(
                " What helps: reserve part of the subnet for prefixes, move what holds single \
                 addresses elsewhere, {common}"
            ),
            _ => String::new(),
        }
    }
}

fn of_subnet(it: &Survey) -> String {
    format!(
        "subnet {} ({}, {}) has {} of {} addresses free, and {} whole /28 blocks. Held by {}.",
        it.subnet_id,
        it.cidr,
        it.zone,
        it.free,
        it.usable,
        it.free_blocks,
        it.holders_in_words(NAMED)
    )
}

fn write(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use ipam::Holder;

    use super::*;

    #[test]
    fn an_exhausted_subnet_is_named_with_its_holders_and_a_way_out() {
        let survey = Survey {
            subnet_id: "subnet-1".into(),
            zone: "us-east-1a".into(),
            cidr: "10.0.0.0/28".parse().unwrap(),
            usable: 11,
            reserved: 5,
            free: 1,
            free_blocks: 0,
            fragmented: 1,
            holders: vec![Holder {
                name: "i-1".into(),
                interfaces: vec!["eni-1".into()],
                addresses: 10,
                ..Holder::default()
            }],
        };
        let shortage = Shortage::SubnetExhausted { subnet: "subnet-1".into() };
        let message = shortage.message(Some(&survey));
        for part in [
            "subnet subnet-1 (10.0.0.0/28, us-east-1a) has 1 of 11 addresses free",
            "Held by i-1: 10 (1 interface).",
            "WARM_IP_TARGET",
            "EC2 is asked again after 120 s.",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        // What the API server takes as an event's note.
        assert!(message.len() < 1024, "{}", message.len());
        assert_eq!((shortage.reason(), shortage.subnet()), ("SubnetExhausted", Some("subnet-1")));
    }

    #[test]
    fn a_subnet_that_may_not_be_looked_at_is_named_still() {
        let shortage = Shortage::PrefixFragmented { subnet: "subnet-1".into() };
        assert!(shortage.message(None).contains("subnet subnet-1 has too few free"));
    }
}
