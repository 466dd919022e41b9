//! nftables rulesets as values, applied in one transaction.
