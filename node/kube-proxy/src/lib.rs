//! Services as an nftables ruleset.
