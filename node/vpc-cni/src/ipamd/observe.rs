//! What there is: interfaces by IMDS, assignments by the checkpoint, and the node's network kept
//! equal to them.

use std::{collections::BTreeSet, time::Duration};

use api_cni::host_link_name;
use linux_netlink::{Netlink, Rule};
use linux_nftables::{Family, Transaction};
use tracing::{info, warn};

use super::{Ipamd, IpamdError, unreadable};
use crate::{
    checkpoint, cloud,
    config::PodEniMode,
    datastore::{AttachedEni, Eni, Row},
    metrics::labels,
    network::{self, NetworkError, NodeNetwork},
};

/// How often IMDS is read where nothing happens.
const RECONCILE: Duration = Duration::from_secs(60);
/// How often it is looked for whether somebody took away what is kept in nftables.
const LOOK: Duration = Duration::from_secs(30);
/// A plug-in that has not made its link by then has failed.
const PLUMBING: Duration = Duration::from_secs(15);

impl Ipamd {
    /// Finds the interfaces that are not ours to manage. Fails where the role may not even look,
    /// which is where upstream gives up, too.
    pub(super) async fn find_unmanaged(&self) -> Result<(), IpamdError> {
        let Some(cloud) = &self.parts.cloud else { return Ok(()) };
        let filter = [("attachment.instance-id", self.parts.identity.instance_id.as_str())];
        let described = match cloud.find_enis(&filter).await {
            Ok(described) => described,
            Err(source) => {
                self.report_permission(&source).await;
                return Err(IpamdError::Cloud { source });
            }
        };
        let is_unmanaged = |eni: &aws_ec2::network_interface::NetworkInterface| {
            let is_primary = eni.attachment.as_ref().is_some_and(|it| it.device_index == Some(0));
            let is_own = cloud::tag(&eni.tag_set, cloud::TAG_INSTANCE)
                == Some(self.parts.identity.instance_id.as_str());
            let is_refused = cloud::tag(&eni.tag_set, cloud::TAG_NO_MANAGE) == Some("true");
            let is_foreign = !is_own && !self.parts.config.manages_untagged;
            !is_primary && (is_refused || is_foreign)
        };
        let is_trunk = |eni: &&aws_ec2::network_interface::NetworkInterface| {
            eni.interface_type.as_deref() == Some("trunk")
        };
        let trunk = described.iter().find(is_trunk).and_then(|it| it.network_interface_id.clone());
        let all = described.iter().filter_map(|it| it.network_interface_id.clone()).collect();
        let ids = described.into_iter().filter(|it| !is_trunk(&it) && is_unmanaged(it));
        let ids = ids.filter_map(|it| it.network_interface_id).collect();
        let mut pool = self.pool.lock();
        (pool.unmanaged, pool.trunk, pool.described) = (ids, trunk, all);
        Ok(())
    }

    /// An interface that nobody has told of may be the trunk: only EC2 knows.
    async fn meet_strangers(&self, attached: &[AttachedEni]) -> Result<(), IpamdError> {
        if !self.parts.config.enables_pod_eni {
            return Ok(());
        }
        let is_new = {
            let pool = self.pool.lock();
            attached.iter().any(|it| !pool.described.contains(&it.id))
        };
        if is_new { self.find_unmanaged().await } else { Ok(()) }
    }

    pub(super) fn needs_reconcile(&self) -> bool {
        let pool = self.pool.lock();
        let (last, is_unplugged) = (pool.last_reconcile, pool.unplugged > 0);
        drop(pool);
        is_unplugged || last.is_none_or(|last| last + RECONCILE <= self.parts.clock.now())
    }

    /// Has the node's network put in place again where somebody took its table away
    /// (`nft flush ruleset`): without it no pod reaches the outside.
    pub(super) async fn look(&self) {
        let now = self.parts.clock.now();
        {
            let mut pool = self.pool.lock();
            let is_recent = pool.looked.is_some_and(|last| now < last + LOOK);
            if pool.table.is_none() || is_recent {
                return;
            }
            pool.looked = Some(now);
        }
        let nft = self.nft();
        let asked = move || nft.has_table(Family::Ip, network::TABLE);
        if let Ok(Ok(false)) = tokio::task::spawn_blocking(asked).await {
            warn!("the table of the node's NAT is gone: it is put in place again");
            let mut pool = self.pool.lock();
            (pool.table, pool.last_reconcile) = (None, None);
        }
    }

    /// Takes what IMDS says, and puts the node's routes, rules and NAT in place for it.
    pub(crate) async fn reconcile(&self) -> Result<(), IpamdError> {
        let function = labels(&[("fn", &"nodeIPPoolReconcile")]);
        self.metrics.count_labelled("awscni_reconcile_count", function);
        let mut attached = self.parts.metadata.interfaces().await.map_err(unreadable)?;
        self.meet_strangers(&attached).await?;
        {
            let pool = self.pool.lock();
            attached.retain(|eni| !pool.unmanaged.contains(&eni.id));
            for eni in &mut attached {
                eni.is_trunk = pool.trunk.as_ref() == Some(&eni.id);
            }
        }
        if self.parts.config.is_ipv6 {
            attached = self.with_ipv6(attached).await?;
        }
        let linkless = self.ensure_network(&attached).await?;
        self.leave_out_unplugged(&mut attached, &linkless);
        let now = self.parts.clock.now();
        self.pool.lock().returned.leave_out(&mut attached, now);
        {
            let mut store = self.store.lock();
            let gone: Vec<String> = store
                .enis()
                .map(|eni| eni.attached.id.clone())
                .filter(|id| !attached.iter().any(|eni| eni.id == *id))
                .collect();
            for id in &gone {
                let held = store.eni(id).map_or(0, Eni::assigned);
                if held > 0 {
                    warn!(eni = id, pods = held, "an interface went while pods had its addresses");
                    self.metrics.count("awscni_force_removed_enis");
                    let held = u32::try_from(held).map_or(0.0, f64::from);
                    self.metrics.add("awscni_force_removed_ips", String::new(), held);
                }
                store.remove_eni(id);
            }
            attached.into_iter().for_each(|eni| store.observe(eni, now));
        }
        self.pool.lock().last_reconcile = Some(now);
        self.announce();
        self.ensure_pod_rules().await
    }

    /// An interface that is not known yet, and has no link, is being attached or was just detached:
    /// it takes a place, and nobody gets an address of it.
    fn leave_out_unplugged(&self, attached: &mut Vec<AttachedEni>, linkless: &BTreeSet<String>) {
        let before = attached.len();
        let store = self.store.lock();
        attached.retain(|eni| !linkless.contains(&eni.id) || store.eni(&eni.id).is_some());
        drop(store);
        self.pool.lock().unplugged = before - attached.len();
    }

    /// Puts the node's network in place; says which interfaces have no link.
    async fn ensure_network(
        &self,
        attached: &[AttachedEni],
    ) -> Result<BTreeSet<String>, IpamdError> {
        let identity = &self.parts.identity;
        let vpc_cidrs = self.parts.metadata.vpc_cidrs(&identity.mac).await.map_err(unreadable)?;
        let config = self.parts.config.clone();
        let (mac, address) = (identity.mac.clone(), identity.local_ipv4);
        let cidrs = vpc_cidrs.clone();
        let secondary: Vec<AttachedEni> =
            attached.iter().filter(|eni| !eni.is_primary()).cloned().collect();
        let failed = |source| IpamdError::Network { source };
        let node = linux_netlink::run(self.parts.netns.clone(), move |netlink| {
            let (_, primary_link) = network::link_of(netlink, "the primary interface", &mac)?;
            let node = NodeNetwork {
                primary_link,
                primary_address: address,
                vpc_cidrs: cidrs,
                exclude_snat_cidrs: config.exclude_snat_cidrs.clone(),
                external_service_cidrs: config.external_service_cidrs.clone(),
                is_external_snat: config.is_external_snat,
                randomize_snat: config.randomize_snat.clone(),
                veth_prefix: config.veth_prefix.clone(),
                is_ipv6: config.is_ipv6,
                has_strict_branches: config.enables_pod_eni
                    && config.pod_eni_mode == PodEniMode::Strict,
            };
            network::ensure_rules(netlink, &node)?;
            let mut linkless = BTreeSet::new();
            for eni in &secondary {
                if !set_up_if_there(netlink, eni, config.eni_mtu)? {
                    linkless.insert(eni.id.clone());
                }
            }
            Ok::<_, NetworkError>((node, linkless))
        });
        let (node, linkless) = node.await.map_err(failed)?;
        let table = network::table(&node);
        let known = self.pool.lock().table.clone();
        if known.as_ref() != Some(&table) {
            let wanted = Transaction::replace(&table);
            let applied = self.nft().apply_async(wanted).await;
            let result = if applied.is_ok() { "success" } else { "error" };
            let how = labels(&[("result", &result)]);
            self.metrics.count_labelled("awscni_connmark_reconcile_total", how);
            applied.map_err(|source| IpamdError::Nftables { source })?;
        }
        let mut pool = self.pool.lock();
        pool.table = Some(table);
        pool.vpc_cidrs = vpc_cidrs;
        Ok(linkless)
    }

    /// Puts the checkpoint's assignments back, without those whose link is gone: the runtime may
    /// never have told that the sandbox went.
    ///
    /// Deviation: an assignment of the last seconds is kept without a link, since its plug-in may be
    /// about to make one; and rules for addresses that nobody has are removed.
    pub(super) async fn restore(&self) -> Result<(), IpamdError> {
        let failed = |source| IpamdError::Checkpoint { source };
        let rows = checkpoint::read(&self.parts.checkpoint).map_err(failed)?;
        let links = self.link_names().await?;
        let prefix = &self.parts.config.veth_prefix;
        let now = self.parts.clock.now();
        let is_alive = |row: &Row| {
            let link = host_link_name(prefix, &row.pod.namespace, &row.pod.name);
            links.contains(&link) || now < row.since + PLUMBING
        };
        {
            let mut store = self.store.lock();
            for row in rows {
                let (address, container) = (row.address, row.key.container_id.clone());
                if !is_alive(&row) {
                    info!(%address, container, "the sandbox is gone");
                } else if !store.restore(row) {
                    warn!(%address, container, "the checkpoint has an address of no interface");
                    self.metrics.count("awscni_unrecovered_checkpoint_entries");
                }
            }
            self.keep(&store).map_err(failed)?;
        }
        let wanted = self.wanted_pod_rules();
        let cleaned = linux_netlink::run(self.parts.netns.clone(), move |netlink| {
            network::remove_other_pod_rules(netlink, &wanted)
        });
        cleaned.await.map_err(|source| IpamdError::Network { source })?;
        self.ensure_pod_rules().await
    }

    /// Puts rules of pods back that somebody flushed (CNI#3309).
    async fn ensure_pod_rules(&self) -> Result<(), IpamdError> {
        let wanted = self.wanted_pod_rules();
        let ensured = linux_netlink::run(self.parts.netns.clone(), move |netlink| {
            network::add_pod_rules(netlink, &wanted)
        });
        ensured.await.map_err(|source| IpamdError::Network { source })
    }

    fn wanted_pod_rules(&self) -> Vec<Rule> {
        let store = self.store.lock();
        let assigned = store.rows().filter_map(|row| store.assigned(&row.key));
        let assigned: Vec<_> = assigned.collect();
        drop(store);
        let rules = |it: crate::datastore::Assigned| {
            let ipv6 = self.ipv6_of(it.address);
            let six = ipv6.map(|six| network::pod_rules(six.address.into(), it.route_table));
            let has_ipv4 = ipv6.is_none_or(|six| six.has_egress);
            let four = has_ipv4.then(|| network::pod_rules(it.address.into(), it.route_table));
            six.into_iter().chain(four).flatten()
        };
        assigned.into_iter().flat_map(rules).collect()
    }

    async fn link_names(&self) -> Result<BTreeSet<String>, IpamdError> {
        let listed = linux_netlink::run(self.parts.netns.clone(), |netlink| {
            let failed = |source| NetworkError::Request { source };
            let links = netlink.links().map_err(failed)?;
            Ok::<_, NetworkError>(links.into_iter().map(|link| link.name).collect())
        });
        listed.await.map_err(|source| IpamdError::Network { source })
    }
}

/// A link that is not there yet (`false`) is set up by the step that attached it, or by the next pass.
fn set_up_if_there(netlink: &Netlink, eni: &AttachedEni, mtu: u32) -> Result<bool, NetworkError> {
    match network::set_up_eni(netlink, eni, mtu) {
        Err(NetworkError::NoLink { eni, .. }) => {
            warn!(eni, "the interface has no link yet");
            Ok(false)
        }
        other => other.map(|()| true),
    }
}
