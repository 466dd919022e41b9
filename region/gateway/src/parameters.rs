//! Parameters that an operation does not have. EC2 refuses them: who has misspelt one would else get
//! something else than they asked for.
//!
//! Deviation: parameters that AWS has and this region does not (`unread.txt`, listed in
//! [aws.md](aws.md)) are taken and change nothing: clients send some of them whether they mean
//! something or not. Unknown members within a parameter are not refused.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use serde_json::Value;

/// What AWS's operations have and the region's do not, a line each: `SERVICE:OPERATION PARAMETER …`.
///
/// Written by the contract test from botocore's models.
pub const UNREAD: &str = include_str!("unread.txt");

/// Of EC2, by operation.
static OF_EC2: LazyLock<HashMap<&str, HashSet<&str>>> = LazyLock::new(|| {
    let of_ec2 = UNREAD.lines().filter_map(|it| it.strip_prefix("ec2:"));
    of_ec2
        .map(|line| {
            let mut words = line.split(' ');
            (words.next().unwrap_or_default(), words.collect())
        })
        .collect()
});

/// The first parameter of an EC2 request that AWS would not recognise; `read`: those that the region
/// knows.
pub(crate) fn unknown<'a>(action: &str, read: &[&str], tree: &'a Value) -> Option<&'a str> {
    let unread = OF_EC2.get(action);
    let is_known = |it: &str| read.contains(&it) || unread.is_some_and(|all| all.contains(it));
    tree.as_object()?.keys().map(String::as_str).find(|it| !is_known(it))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_aws_has_is_known_though_it_is_not_read() {
        let read = ["ImageId", "MinCount"];
        let ask = |action: &str, name: &str| {
            unknown(action, &read, &json!({"ImageId": "x", name: "y"})).map(str::to_owned)
        };
        assert_eq!(ask("RunInstances", "MinCount"), None);
        assert_eq!(ask("RunInstances", "EnclaveOptions"), None);
        assert_eq!(ask("StartInstances", "EnclaveOptions").as_deref(), Some("EnclaveOptions"));
        assert_eq!(ask("RunInstances", "Mincount").as_deref(), Some("Mincount"));
    }
}
