//! Bottlerocket's user data: settings in TOML.
//!
//! Source: Bottlerocket's documentation, "kubernetes.* settings"; EKS user guide, "Customize managed
//! nodes with launch templates": a customer's settings are merged with EKS's, which win.

use base64::{Engine, engine::general_purpose::STANDARD};
use toml::{Table, Value};

use super::{
    records::Nodegroup,
    user_data::{Facts, effect},
};

pub(crate) fn settings(group: &Nodegroup, facts: &Facts<'_>) -> Table {
    let ca = facts.cluster.certificate_authority_pem.as_deref().unwrap_or_default();
    let texts = [
        ("api-server", format!("https://{}", facts.cluster.endpoint_host(facts.region))),
        ("cluster-certificate", STANDARD.encode(ca)),
        ("cluster-name", facts.cluster.name.clone()),
        ("cluster-dns-ip", facts.cluster.cluster_dns()),
    ];
    let mut kubernetes: Table =
        texts.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let labels = group.node_labels(facts.image_id).into_iter();
    let labels: Table = labels.map(|(key, value)| (key, value.into())).collect();
    kubernetes.insert("node-labels".to_owned(), labels.into());
    let mut taints = Table::new();
    for taint in &group.taints {
        let key = taint.key.clone().unwrap_or_default();
        let value = taint.value.as_deref().unwrap_or_default();
        let spelled = format!("{value}:{}", effect(taint.effect.as_deref().unwrap_or_default()));
        if let Value::Array(all) = taints.entry(key).or_insert_with(|| Vec::<Value>::new().into()) {
            all.push(spelled.into());
        }
    }
    if !taints.is_empty() {
        kubernetes.insert("node-taints".to_owned(), taints.into());
    }
    let settings = Table::from_iter([("kubernetes".to_owned(), Value::from(kubernetes))]);
    Table::from_iter([("settings".to_owned(), settings.into())])
}

/// `None`: theirs is no TOML.
pub(crate) fn merge(theirs: &str, group: &Nodegroup, facts: &Facts<'_>) -> Option<String> {
    let mut merged: Table = theirs.parse().ok()?;
    over(&mut merged, settings(group, facts));
    Some(merged.to_string())
}

fn over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => over(below, above),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customers_settings_stay_where_eks_has_none() {
        let mut theirs: Table = "[settings.kubernetes]\nmax-pods = 20\ncluster-name = \"theirs\"\n\
                                 [settings.motd]\ntext = \"hello\""
            .parse()
            .unwrap();
        let ours: Table = "[settings.kubernetes]\ncluster-name = \"ours\"".parse().unwrap();
        over(&mut theirs, ours);
        let merged = Value::Table(theirs);
        assert_eq!(merged["settings"]["kubernetes"]["cluster-name"].as_str(), Some("ours"));
        assert_eq!(merged["settings"]["kubernetes"]["max-pods"].as_integer(), Some(20));
        assert_eq!(merged["settings"]["motd"]["text"].as_str(), Some("hello"));
    }
}
