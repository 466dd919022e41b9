//! What is known of one node's trunk: who has which branch, which VLANs are taken, and what rests
//! before it is deleted.
//!
//! **Invariant:** a VLAN id is taken from before EC2 hears of it until EC2 has confirmed that its
//! branch is gone, or that there is none; a pod has one entry.
//!
//! Upstream: `pkg/provider/branch/trunk`.
//! Deviation: a branch that cannot be deleted is tried again until it is gone; upstream forgets it,
//! and its VLAN id, after three times.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api_kube::vpc_resources::PodEni;
use jiff::Timestamp;

/// VLAN ids of a trunk are 1 to 120.
const LAST_VLAN: u32 = 120;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) trunk: String,
    /// How many branches the instance's type takes.
    limit: usize,
    pods: BTreeMap<String, Vec<PodEni>>,
    /// VLAN ids under which a branch is being made, by the pod's UID.
    making: BTreeMap<u32, String>,
    /// VLAN ids under which EC2 may have made a branch whose id nobody has heard, and when to ask.
    doubts: BTreeMap<u32, Timestamp>,
    cooling: Vec<Cooling>,
}

/// A branch that nobody has any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cooling {
    pub(crate) eni: PodEni,
    /// From when on it may be deleted.
    pub(crate) due: Timestamp,
}

/// Why there is no branch for a pod now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error("the pod has one already, or is about to")]
    Known,
    #[error(
        "cannot create more branches at this point as used branches plus the delete queue is at \
         max capacity"
    )]
    Full,
}

impl Ledger {
    pub(crate) fn new(trunk: impl Into<String>, limit: usize) -> Self {
        Self { trunk: trunk.into(), limit, ..Self::default() }
    }

    /// Takes `count` VLAN ids for a pod's branches.
    pub(crate) fn reserve(&mut self, uid: &str, count: usize) -> Result<Vec<u32>, NoRoom> {
        if self.pods.contains_key(uid) || self.making.values().any(|it| it == uid) {
            return Err(NoRoom::Known);
        }
        let taken = self.vlans();
        let used = self.pods.values().map(Vec::len).sum::<usize>();
        let unsure = self.making.len() + self.doubts.len();
        let room = self.limit.saturating_sub(used + unsure + self.cooling.len());
        let free: Vec<u32> = (1..=LAST_VLAN).filter(|it| !taken.contains(it)).take(count).collect();
        if count > room || free.len() < count {
            return Err(NoRoom::Full);
        }
        self.making.extend(free.iter().map(|it| (*it, uid.to_owned())));
        Ok(free)
    }

    /// The pod has them.
    pub(crate) fn settle(&mut self, uid: &str, branches: Vec<PodEni>) {
        self.making.retain(|_, of| of != uid);
        self.pods.insert(uid.to_owned(), branches);
    }

    /// The pod gets none: what was made of them goes at once.
    pub(crate) fn abandon(&mut self, uid: &str, made: Vec<PodEni>, now: Timestamp) {
        self.making.retain(|_, of| of != uid);
        self.pods.remove(uid);
        self.cool(made, now);
    }

    /// The pod gets none, and nobody knows how far EC2 has got with them: EC2 is asked at `due`.
    pub(crate) fn doubt(&mut self, uid: &str, made: Vec<PodEni>, due: Timestamp) {
        let is_known =
            |vlan: &u32| made.iter().any(|it| it.vlan_id == *vlan && !it.association_id.is_empty());
        let of_pod = self.making.iter().filter(|(vlan, of)| *of == uid && !is_known(vlan));
        self.doubts.extend(of_pod.map(|(vlan, _)| (*vlan, due)));
        self.abandon(uid, made, due);
    }

    /// Whether it is time to ask EC2 which branches there are.
    pub(crate) fn is_in_doubt(&self, now: Timestamp) -> bool {
        self.doubts.values().any(|due| *due <= now)
    }

    /// EC2 was asked: what it has under the VLAN ids in doubt is nobody's.
    pub(crate) fn resolve(&mut self, found: Vec<PodEni>, now: Timestamp) {
        let is_due = |it: &PodEni| self.doubts.get(&it.vlan_id).is_some_and(|due| *due <= now);
        let found: Vec<PodEni> = found.into_iter().filter(is_due).collect();
        self.doubts.retain(|_, due| *due > now);
        for it in found {
            match self.cooling.iter_mut().find(|known| known.eni.eni_id == it.eni_id) {
                Some(known) => known.eni.association_id = it.association_id,
                None => self.adopt(it, now),
            }
        }
    }

    /// The branches that were made for a pod.
    pub(crate) fn of(&self, uid: &str) -> Option<Vec<PodEni>> {
        self.pods.get(uid).cloned()
    }

    /// Branches of pods that are not among `live` begin to rest.
    pub(crate) fn release_all_but(&mut self, live: &BTreeSet<String>, due: Timestamp) -> usize {
        let gone: Vec<String> =
            self.pods.keys().filter(|it| !live.contains(*it)).cloned().collect();
        for uid in &gone {
            let branches = self.pods.remove(uid).unwrap_or_default();
            self.cool(branches, due);
        }
        gone.len()
    }

    /// A branch of the trunk that no pod has: an earlier run's, or somebody's who took a pod away
    /// while nobody looked.
    pub(crate) fn adopt(&mut self, orphan: PodEni, due: Timestamp) {
        if !self.knows(&orphan.eni_id) {
            self.cool(vec![orphan], due);
        }
    }

    pub(crate) fn knows(&self, eni: &str) -> bool {
        let of_pods = self.pods.values().flatten();
        let mut all = of_pods.chain(self.cooling.iter().map(|it| &it.eni));
        all.any(|it| it.eni_id == eni)
    }

    /// Whether some pod's branches are being made, which EC2 may show before they are known here.
    pub(crate) fn is_making(&self) -> bool {
        !self.making.is_empty() || !self.doubts.is_empty()
    }

    fn cool(&mut self, branches: Vec<PodEni>, due: Timestamp) {
        self.cooling.extend(branches.into_iter().map(|eni| Cooling { eni, due }));
    }

    /// What has rested.
    pub(crate) fn cooled(&self, now: Timestamp) -> Vec<Cooling> {
        self.cooling.iter().filter(|it| it.due <= now).cloned().collect()
    }

    /// All of them, and what rests: the node is gone.
    pub(crate) fn everything(&self) -> Vec<PodEni> {
        let of_pods = self.pods.values().flatten();
        of_pods.chain(self.cooling.iter().map(|it| &it.eni)).cloned().collect()
    }

    /// EC2 has confirmed that it is gone.
    pub(crate) fn forget(&mut self, eni: &str) {
        self.cooling.retain(|it| it.eni.eni_id != eni);
    }

    /// It could not be deleted: not before `due` again.
    pub(crate) fn postpone(&mut self, eni: &str, due: Timestamp) {
        for it in self.cooling.iter_mut().filter(|it| it.eni.eni_id == eni) {
            it.due = due;
        }
    }

    /// When something has to be deleted next.
    pub(crate) fn next_due(&self, now: Timestamp) -> Option<Duration> {
        let next = self.cooling.iter().map(|it| it.due).chain(self.doubts.values().copied());
        let next = next.min()?;
        Some(Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO))
    }

    fn vlans(&self) -> BTreeSet<u32> {
        let known = self.pods.values().flatten().chain(self.cooling.iter().map(|it| &it.eni));
        let unsure = self.making.keys().chain(self.doubts.keys()).copied();
        known.map(|it| it.vlan_id).chain(unsure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const REST: Duration = Duration::from_secs(60);

    fn eni(vlan_id: u32) -> PodEni {
        PodEni {
            eni_id: format!("eni-{vlan_id}"),
            mac: String::new(),
            private_ip: String::new(),
            ipv6_address: String::new(),
            vlan_id,
            subnet_cidr: String::new(),
            subnet_v6_cidr: String::new(),
            association_id: String::new(),
        }
    }

    fn live(uids: &[&str]) -> BTreeSet<String> {
        uids.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn a_vlan_id_is_taken_until_its_branch_is_gone_from_ec2() {
        let mut ledger = Ledger::new("eni-t", 9);
        assert_eq!(ledger.reserve("a", 1), Ok(vec![1]));
        assert_eq!(ledger.reserve("a", 1), Err(NoRoom::Known));
        assert_eq!(ledger.reserve("b", 1), Ok(vec![2]));
        ledger.settle("a", vec![eni(1)]);
        assert_eq!(ledger.reserve("a", 1), Err(NoRoom::Known));
        assert_eq!(ledger.release_all_but(&live(&["b"]), NOW + REST), 1);
        assert!(ledger.cooled(NOW).is_empty());
        assert_eq!(ledger.next_due(NOW), Some(REST));
        assert_eq!(ledger.cooled(NOW + REST).len(), 1);
        assert_eq!(ledger.reserve("c", 1), Ok(vec![3]));
        ledger.postpone("eni-1", NOW + REST * 2);
        assert!(ledger.cooled(NOW + REST).is_empty());
        ledger.forget("eni-1");
        assert_eq!(ledger.reserve("d", 1), Ok(vec![1]));
    }

    #[test]
    fn what_rests_and_what_is_being_made_counts_against_the_types_limit() {
        let mut ledger = Ledger::new("eni-t", 2);
        ledger.adopt(eni(7), NOW);
        assert_eq!(ledger.reserve("a", 2), Err(NoRoom::Full));
        assert_eq!(ledger.reserve("a", 1), Ok(vec![1]));
        assert_eq!(ledger.reserve("b", 1), Err(NoRoom::Full));
        ledger.forget("eni-7");
        assert_eq!(ledger.reserve("b", 1), Ok(vec![2]));
    }

    #[test]
    fn a_pod_that_got_none_leaves_no_vlan_id_taken_but_by_what_was_made() {
        let mut ledger = Ledger::new("eni-t", 9);
        assert_eq!(ledger.reserve("a", 2), Ok(vec![1, 2]));
        ledger.abandon("a", vec![eni(1)], NOW);
        assert_eq!(ledger.cooled(NOW).len(), 1);
        assert_eq!(ledger.reserve("b", 1), Ok(vec![2]));
    }

    #[test]
    fn what_ec2_may_have_made_keeps_its_vlan_id_until_ec2_was_asked() {
        let mut ledger = Ledger::new("eni-t", 4);
        assert_eq!(ledger.reserve("a", 3), Ok(vec![1, 2, 3]));
        let known = PodEni { association_id: "trunk-assoc-1".to_owned(), ..eni(1) };
        ledger.doubt("a", vec![known, eni(2)], NOW + REST);
        assert_eq!(ledger.reserve("b", 1), Err(NoRoom::Full), "each may be there");
        assert!(!ledger.is_in_doubt(NOW) && ledger.is_making());
        assert_eq!(ledger.next_due(NOW), Some(REST));

        let now = NOW + REST;
        assert!(ledger.is_in_doubt(now));
        let found = |vlan| PodEni { association_id: "trunk-assoc-x".to_owned(), ..eni(vlan) };
        ledger.resolve(vec![found(2), found(3), found(9)], now);
        assert!(!ledger.is_in_doubt(now) && !ledger.is_making());
        let cooled: Vec<_> = ledger
            .cooled(now)
            .into_iter()
            .map(|it| (it.eni.vlan_id, it.eni.association_id))
            .collect();
        let with = |vlan, id: &str| (vlan, id.to_owned());
        let expected =
            [with(1, "trunk-assoc-1"), with(2, "trunk-assoc-x"), with(3, "trunk-assoc-x")];
        assert_eq!(cooled, expected, "what was not in doubt is another's business");
        for vlan in 1..=3 {
            ledger.forget(&format!("eni-{vlan}"));
        }
        assert_eq!(ledger.reserve("b", 4), Ok(vec![1, 2, 3, 4]));
    }

    #[test]
    fn a_vlan_id_under_which_ec2_has_nothing_is_free_again() {
        let mut ledger = Ledger::new("eni-t", 1);
        assert_eq!(ledger.reserve("a", 1), Ok(vec![1]));
        ledger.doubt("a", Vec::new(), NOW);
        ledger.resolve(Vec::new(), NOW);
        assert_eq!(ledger.reserve("a", 1), Ok(vec![1]));
    }

    #[test]
    fn an_orphan_is_taken_in_once_and_never_from_a_pod() {
        let mut ledger = Ledger::new("eni-t", 9);
        ledger.settle("a", vec![eni(1)]);
        for _ in 0..2 {
            ledger.adopt(eni(1), NOW);
            ledger.adopt(eni(5), NOW);
        }
        assert_eq!(ledger.cooled(NOW).len(), 1);
        assert_eq!(ledger.everything().len(), 2);
    }

    #[test]
    fn a_trunk_has_a_hundred_and_twenty_vlan_ids() {
        let mut ledger = Ledger::new("eni-t", 1000);
        assert_eq!(ledger.reserve("a", 120).map(|it| it.len()), Ok(120));
        assert_eq!(ledger.reserve("b", 1), Err(NoRoom::Full));
    }
}
