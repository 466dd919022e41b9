//! IPv6: one prefix of the primary interface for all pods of the node, and nothing to warm.
//!
//! A node's places are those of [`EGRESS`], by which a pod reaches what is IPv4 only; a place's IPv6
//! address is as far into the prefix as the place is into that block. So one store counts both, and a
//! released address rests as in an IPv4 cluster.
//!
//! Upstream: `pkg/ipamd` with `ENABLE_IPv6`, and `cmd/egress-cni-plugin`.
//! Deviation: pods get the first 1022 addresses of the prefix only, and their IPv4 addresses are given
//! by ipamd and not by the `host-local` plug-in; the checkpoint has both.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use api_cni::backend::Ipv6Assignment;
use ipnet::{Ipv4Net, Ipv6Net};
use tracing::info;

use super::{Ipamd, IpamdError, unreadable};
use crate::{checkpoint, datastore::AttachedEni};

/// Upstream's block: every node has the same.
pub(crate) const EGRESS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 172, 0), 22);
/// IMDS may be behind the API for a moment.
const TRIES: u32 = 12;
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// The IPv6 address of a place.
pub(crate) fn address_of(prefix: Ipv6Net, place: Ipv4Addr) -> Ipv6Addr {
    let offset = u32::from(place) - u32::from(EGRESS.network());
    Ipv6Addr::from(u128::from(prefix.network()) + u128::from(offset))
}

/// The places: neither end of the block is one, and so neither is the prefix's first address, which
/// is every router's.
pub(crate) fn places() -> impl Iterator<Item = Ipv4Addr> {
    EGRESS.hosts()
}

impl Ipamd {
    /// The interfaces as an IPv6 node has them: pods are on the primary one alone.
    pub(super) async fn with_ipv6(
        &self,
        attached: Vec<AttachedEni>,
    ) -> Result<Vec<AttachedEni>, IpamdError> {
        let Some(mut primary) = attached.into_iter().find(AttachedEni::is_primary) else {
            return Ok(Vec::new());
        };
        primary.addresses = [primary.primary_address].into();
        primary.prefixes.clear();
        if let Some(prefix) = self.ensure_prefix(&primary).await? {
            primary.addresses.extend(places());
            self.prefix.get_or_init(|| prefix);
        }
        Ok(vec![primary])
    }

    /// The node's prefix: that of the pods that are here already, else the first one, and from then on
    /// this one. EC2 is asked for one where there is none.
    async fn ensure_prefix(&self, primary: &AttachedEni) -> Result<Option<Ipv6Net>, IpamdError> {
        let known = self.prefix.get().copied();
        let found = self.prefixes(primary).await?;
        if let Some(gone) = known.filter(|it| !found.contains(it)) {
            return Err(IpamdError::PrefixGone { prefix: gone, eni: primary.id.clone() });
        }
        let of_pods = || self.prefix_of_pods(&found);
        let kept = known.or_else(of_pods).or_else(|| found.first().copied());
        let Some(cloud) = self.parts.cloud.as_ref().filter(|_| kept.is_none()) else {
            return Ok(kept);
        };
        if let Err(source) = cloud.assign_ipv6_prefix(&primary.id).await {
            self.report_permission(&source).await;
            return Err(IpamdError::Cloud { source });
        }
        let mut wait = FIRST_WAIT;
        for _ in 0..TRIES {
            if let Some(prefix) = self.prefixes(primary).await?.first() {
                info!(%prefix, eni = primary.id, "the pods' addresses are of this prefix");
                return Ok(Some(*prefix));
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(IpamdError::NoPrefix { eni: primary.id.clone() })
    }

    /// An interface may have got a second prefix since: addresses that pods have stay theirs.
    fn prefix_of_pods(&self, found: &[Ipv6Net]) -> Option<Ipv6Net> {
        // Whether the checkpoint can be used is decided where it is restored.
        let given = checkpoint::read_ipv6(&self.parts.checkpoint).unwrap_or_default();
        found.iter().find(|prefix| given.iter().any(|it| prefix.contains(it))).copied()
    }

    async fn prefixes(&self, primary: &AttachedEni) -> Result<Vec<Ipv6Net>, IpamdError> {
        self.parts.metadata.ipv6_prefixes(&primary.mac).await.map_err(unreadable)
    }

    /// What the pod at a place has of IPv6; `None` in an IPv4 cluster.
    pub(super) fn ipv6_of(&self, place: Ipv4Addr) -> Option<Ipv6Assignment> {
        let prefix = *self.prefix.get()?;
        let has_egress = self.parts.config.has_v4_egress;
        Some(Ipv6Assignment { address: address_of(prefix, place), has_egress })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_an_address_of_the_prefix_that_is_its_own() {
        let prefix: Ipv6Net = "2001:db8:0:100:5::/80".parse().unwrap();
        let all: Vec<Ipv6Addr> = places().map(|it| address_of(prefix, it)).collect();
        assert_eq!(all.len(), 1022);
        assert_eq!(all[0], "2001:db8:0:100:5::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(all[1021], "2001:db8:0:100:5::3fe".parse::<Ipv6Addr>().unwrap());
        assert!(all.iter().all(|it| prefix.contains(it)));
    }
}
