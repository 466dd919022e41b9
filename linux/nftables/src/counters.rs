//! What a table's rules have counted.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{ApplyError, Family, Nft};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

impl Nft {
    /// The sum of the counters of each chain's rules; nothing where there is no such table. Sets'
    /// elements are not read, so it costs what the rules cost.
    pub fn counts(
        &self,
        family: Family,
        table: &str,
    ) -> Result<BTreeMap<String, Count>, ApplyError> {
        let output =
            self.run(&["--json", "--terse", "list", "table", family.as_str(), table], "")?;
        if !output.status.success() {
            return Ok(BTreeMap::new());
        }
        let listed: Value = serde_json::from_slice(&output.stdout)
            .map_err(|source| ApplyError::Output { source })?;
        Ok(sums(&listed))
    }
}

fn sums(listed: &Value) -> BTreeMap<String, Count> {
    let mut sums: BTreeMap<String, Count> = BTreeMap::new();
    for rule in listed["nftables"].as_array().into_iter().flatten().map(|it| &it["rule"]) {
        let Some(chain) = rule["chain"].as_str() else { continue };
        for counter in rule["expr"].as_array().into_iter().flatten().map(|it| &it["counter"]) {
            let number = |name: &str| counter[name].as_u64();
            if let (Some(packets), Some(bytes)) = (number("packets"), number("bytes")) {
                let sum = sums.entry(chain.to_owned()).or_default();
                sum.packets += packets;
                sum.bytes += bytes;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_counters_of_a_chains_rules_are_added_up() {
        let rule = |chain: &str, packets: u64| {
            json!({"rule": {"chain": chain, "expr": [
                {"match": {}}, {"counter": {"packets": packets, "bytes": 10 * packets}}]}})
        };
        let listed = json!({"nftables": [{"metainfo": {}}, {"chain": {"name": "a"}},
            rule("a", 1), rule("b", 5), rule("a", 2), {"rule": {"chain": "c", "expr": []}}]});
        let sums = sums(&listed);
        assert_eq!(sums["a"], Count { packets: 3, bytes: 30 });
        assert_eq!(sums["b"].packets, 5);
        assert_eq!(sums.len(), 2);
    }
}
