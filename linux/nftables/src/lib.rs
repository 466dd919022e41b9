//! nftables rulesets as plain values, applied to the kernel in one transaction.
//!
//! A component computes the whole [`Table`] that it wants. [`Nft::replace`] puts it in place of
//! whatever table of that name is there; [`Table::changes_from`] gives the [`Transaction`] that
//! turns one value into another by touching only the elements and chains that differ, which is
//! what makes a change cost what it changes. Callers that know what changed (kube-proxy) build the
//! transaction themselves.
//!
//! Elements, plain chains and simple rules go to the kernel as netlink messages, which costs less
//! than a millisecond however large the table is; a transaction with anything else in it goes to
//! `nft -f -` as text: its parser is the one that users know. Either runs in any network namespace,
//! entered by `setns` on a thread that ends with the call.
//!
//! **Invariant:** everything here acts on a table that the caller names; nothing lists, flushes or
//! deletes another program's rules.

mod counters;
mod diff;
mod native;
mod nft;
mod transaction;
mod value;

pub use counters::Count;
pub use nft::{ApplyError, Nft};
pub use transaction::Transaction;
pub use value::{
    Chain, ChainKind, CtTimeout, Family, Hook, HookPoint, Policy, Set, Table, is_valid_name,
    priority, quote,
};
