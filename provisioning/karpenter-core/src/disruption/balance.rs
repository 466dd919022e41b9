//! Whether consolidation is worth what it costs the pods, in NodePools whose policy is `Balanced`.
//!
//! What a command saves, as a share of what the pool's nodes cost, has to be half at least of what it
//! disrupts, as a share of what it would cost to disrupt them all. Where nodes of several pools go
//! together, each pool has the part of the saving that its nodes have of the price.
//!
//! Upstream: the score of `ConsolidationPolicy: Balanced` of kubernetes-sigs/karpenter. Deviation: the
//! pool's nodes are those that may be disrupted at all; there are no events of what was rejected.

use std::collections::BTreeSet;

use api_kube::karpenter::ConsolidationPolicy;

use super::Candidate;

/// The least score.
const LEAST: f64 = 0.5;

/// `all`: every node that may be disrupted; `nodes`: those that are to go.
pub(super) fn is_worth_it(all: &[Candidate], nodes: &[Candidate], saving: f64) -> bool {
    let is_balanced = |it: &&Candidate| it.policy == ConsolidationPolicy::Balanced;
    let pools: BTreeSet<&str> =
        nodes.iter().filter(is_balanced).map(|it| it.pool.as_str()).collect();
    let going: f64 = nodes.iter().map(price).sum();
    pools.into_iter().all(|pool| {
        let of = |from: &[Candidate], what: fn(&Candidate) -> f64| {
            from.iter().filter(|it| it.pool == pool).map(what).sum::<f64>()
        };
        let saved = saving * of(nodes, price) / going / of(all, price);
        let disrupted = of(nodes, cost) / of(all, cost);
        // What costs nothing has no score, and nothing to save either.
        saved.is_finite() && disrupted.is_finite() && saved >= LEAST * disrupted
    })
}

fn price(it: &Candidate) -> f64 {
    it.price.unwrap_or(0.0)
}

fn cost(it: &Candidate) -> f64 {
    it.disruption_cost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pool: &str, price: f64, disruption_cost: f64) -> Candidate {
        Candidate {
            name: String::new(),
            pool: pool.to_owned(),
            instance_type: String::new(),
            zone: String::new(),
            capacity_type: String::new(),
            price: Some(price),
            pods: Vec::new(),
            disruption_cost,
            policy: match pool {
                "balanced" => ConsolidationPolicy::Balanced,
                _ => ConsolidationPolicy::WhenEmptyOrUnderutilized,
            },
            is_consolidatable: true,
            drift: None,
            drifted_since: None,
            protected: None,
        }
    }

    #[test]
    fn a_saving_is_worth_half_its_share_of_the_disruption_at_least() {
        // Half of the price, a quarter of the pods.
        let all = [node("balanced", 1.0, 1.0), node("balanced", 1.0, 3.0)];
        for (at, saving, expected) in
            [(0, 0.25, true), (0, 0.24, false), (1, 0.74, false), (1, 0.75, true)]
        {
            assert_eq!(is_worth_it(&all, &all[at..=at], saving), expected, "{at} {saving}");
        }
    }

    #[test]
    fn other_policies_ask_for_no_score_and_each_pool_has_its_part() {
        let all = [node("balanced", 1.0, 1.0), node("other", 3.0, 1.0)];
        assert!(is_worth_it(&all, &all[1..], 0.0001));
        // A quarter of the saving is the balanced pool's, and all of its pods.
        assert!(is_worth_it(&all, &all, 2.0));
        assert!(!is_worth_it(&all, &all, 1.9));
    }

    #[test]
    fn nodes_without_a_price_save_nothing() {
        let free = [Candidate { price: None, ..node("balanced", 0.0, 1.0) }];
        assert!(!is_worth_it(&free, &free, 0.0));
    }
}
