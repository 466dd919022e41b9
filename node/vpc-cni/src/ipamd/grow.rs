//! Steps that make the pool larger.

use std::time::Duration;

use aws_ec2::subnet::Subnet;
use tracing::info;

use super::{Ipamd, IpamdError, unreadable};
use crate::{
    cloud::{Amount, Cloud, CloudError, NewEni, eligible_subnets, excluded_subnets},
    datastore::AttachedEni,
    network::{self, LINK_WAIT, NetworkError},
    plan::Step,
};

/// IMDS may be behind the API for a moment.
const IMDS_TRIES: u32 = 12;
const FIRST_WAIT: Duration = Duration::from_millis(20);

impl Ipamd {
    pub(super) async fn grow(&self, cloud: &Cloud, step: Step) -> Result<(), IpamdError> {
        match step {
            Step::AssignAddresses { eni, count } => {
                self.fill(cloud, &eni, self.amount(count)).await
            }
            Step::CreateEni { count } => self.extend(cloud, self.amount(count)).await,
            _ => Ok(()),
        }
    }

    fn amount(&self, count: usize) -> Amount {
        match self.parts.config.targets.is_prefix_mode {
            true => Amount::Prefixes(count),
            false => Amount::Addresses(count),
        }
    }

    /// Puts more on an interface; where that much is not to be had, one.
    async fn fill(&self, cloud: &Cloud, eni: &str, amount: Amount) -> Result<(), IpamdError> {
        let failed = |source| IpamdError::Cloud { source };
        let (before, subnet) = self.held(eni);
        self.pool.lock().subnet = subnet;
        let assigned = match cloud.assign(eni, amount).await {
            Ok(assigned) => assigned,
            Err(error) if error.is_view_stale() => {
                self.reconcile().await?;
                return if self.held(eni).0 > before { Ok(()) } else { Err(failed(error)) };
            }
            Err(error)
                if error.is_unauthorized() || error.is_throttled() || amount == amount.one() =>
            {
                return Err(failed(error));
            }
            Err(error) => {
                info!(eni, error = %telemetry::chain(&error), "trying for one");
                cloud.assign(eni, amount.one()).await.map_err(failed)?
            }
        };
        let wanted = before + assigned.len();
        self.pool.lock().returned.forget(eni, &assigned);
        self.await_metadata(|enis| enis.iter().any(|it| it.id == eni && held(it) >= wanted))
            .await?;
        self.reconcile().await?;
        // What helps nobody is a failure: else it would be done again at once, and again.
        if self.held(eni).0 > before {
            return Ok(());
        }
        Err(IpamdError::NothingAssigned { eni: eni.to_owned() })
    }

    /// Adds an interface, in the first subnet that has room.
    async fn extend(&self, cloud: &Cloud, amount: Amount) -> Result<(), IpamdError> {
        let store = self.snapshot();
        let Some(primary) = store.enis().find(|eni| eni.attached.is_primary()) else {
            return Err(IpamdError::NoSubnet);
        };
        let (subnets, security_groups) = self.home_of_new(cloud, &primary.attached).await?;
        let mut last: Option<CloudError> = None;
        for subnet_id in subnets {
            self.pool.lock().subnet = Some(subnet_id.clone());
            for amount in [amount, amount.one()] {
                let new = NewEni {
                    subnet_id: subnet_id.clone(),
                    security_groups: security_groups.clone(),
                    amount,
                    cluster_name: self.parts.config.cluster_name.clone(),
                    created_at: self.parts.clock.now().to_string(),
                    additional_tags: self.parts.config.additional_tags.clone(),
                };
                match cloud.add_eni(&new).await {
                    Ok(id) => return self.adopt(&id).await,
                    Err(source) if source.is_unauthorized() || source.is_throttled() => {
                        return Err(IpamdError::Cloud { source });
                    }
                    Err(source) => last = Some(source),
                }
            }
        }
        Err(last.map_or(IpamdError::NoSubnet, |source| IpamdError::Cloud { source }))
    }

    /// The subnets in which an interface may be made, and its security groups: those that the
    /// ENIConfig says, or those that discovery finds and the primary interface's groups.
    async fn home_of_new(
        &self,
        cloud: &Cloud,
        primary: &AttachedEni,
    ) -> Result<(Vec<String>, Vec<String>), IpamdError> {
        let groups = primary.security_groups.clone();
        if !self.parts.config.is_custom_networking {
            return Ok((self.candidates(cloud, &primary.subnet_id).await, groups));
        }
        let chosen = self.pool.lock().eni_config.clone();
        let name = chosen.as_ref().map_or_else(|| "not known yet".to_owned(), |it| it.name.clone());
        let Some(spec) = chosen.and_then(|it| it.spec) else {
            return Err(IpamdError::NoEniConfig { name });
        };
        let groups = if spec.security_groups.is_empty() { groups } else { spec.security_groups };
        Ok((vec![spec.subnet], groups))
    }

    /// Where new interfaces may be made, the emptiest subnet first.
    async fn candidates(&self, cloud: &Cloud, primary: &str) -> Vec<String> {
        let only_primary = || vec![primary.to_owned()];
        if !self.parts.config.discovers_subnets {
            return only_primary();
        }
        match self.zone_subnets(cloud).await {
            Ok(subnets) => {
                self.store.lock().exclude_subnets(excluded_subnets(&subnets));
                eligible_subnets(subnets, primary, &self.parts.config.cluster_name)
            }
            Err(error) => {
                info!(error = %telemetry::chain(&error), "only the primary subnet is used");
                only_primary()
            }
        }
    }

    async fn zone_subnets(&self, cloud: &Cloud) -> Result<Vec<Subnet>, CloudError> {
        let filter = [("attachment.instance-id", self.parts.identity.instance_id.as_str())];
        let enis = cloud.find_enis(&filter).await?;
        let vpc = enis.into_iter().find_map(|eni| eni.vpc_id).unwrap_or_default();
        cloud.subnets(&vpc, &self.parts.identity.availability_zone).await
    }

    /// Which subnets pods are kept out of. A tag that changes later is seen when the next interface
    /// is made.
    pub(super) async fn learn_subnets(&self) {
        let config = &self.parts.config;
        let Some(cloud) = &self.parts.cloud else { return };
        if !config.discovers_subnets || config.is_custom_networking {
            return;
        }
        match self.zone_subnets(cloud).await {
            Ok(subnets) => self.store.lock().exclude_subnets(excluded_subnets(&subnets)),
            Err(error) => {
                info!(error = %telemetry::chain(&error), "the subnets' tags are not known");
            }
        }
    }

    /// Waits for a new interface's metadata and link, and sets it up.
    async fn adopt(&self, id: &str) -> Result<(), IpamdError> {
        let seen = self.await_metadata(|enis| enis.iter().any(|it| it.id == id)).await?;
        let Some(eni) = seen.into_iter().find(|eni| eni.id == id) else {
            return Err(IpamdError::NotAttached { eni: id.to_owned() });
        };
        self.await_link(&eni).await?;
        self.reconcile().await
    }

    async fn await_link(&self, eni: &AttachedEni) -> Result<(), IpamdError> {
        let deadline = tokio::time::Instant::now() + LINK_WAIT;
        let mut wait = FIRST_WAIT;
        loop {
            let (id, mac) = (eni.id.clone(), eni.mac.clone());
            let found = linux_netlink::run(self.parts.netns.clone(), move |netlink| {
                network::link_of(netlink, &id, &mac)
            })
            .await;
            match found {
                Ok(_) => return Ok(()),
                Err(NetworkError::NoLink { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(1));
                }
                Err(source) => return Err(IpamdError::Network { source }),
            }
        }
    }

    /// Reads IMDS until it shows what was just done; what it shows then is accepted as it is.
    async fn await_metadata(
        &self,
        shows: impl Fn(&[AttachedEni]) -> bool,
    ) -> Result<Vec<AttachedEni>, IpamdError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..IMDS_TRIES {
            let seen = self.parts.metadata.interfaces().await.map_err(unreadable)?;
            if shows(&seen) {
                return Ok(seen);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        self.parts.metadata.interfaces().await.map_err(unreadable)
    }

    /// How much it holds, and its subnet.
    fn held(&self, eni: &str) -> (usize, Option<String>) {
        let store = self.store.lock();
        let eni = store.eni(eni).map(|eni| &eni.attached);
        (eni.map_or(0, held), eni.map(|it| it.subnet_id.clone()))
    }
}

/// How many addresses and prefixes IMDS shows.
fn held(eni: &AttachedEni) -> usize {
    eni.addresses.len() + eni.prefixes.len()
}
