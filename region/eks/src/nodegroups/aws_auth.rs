//! The node roles of managed node groups in the cluster's `aws-auth` ConfigMap.
//!
//! EKS adds a group's role when it makes the group, and takes it out with the last group that uses
//! it, in the modes that read the ConfigMap. What others wrote stays, but for its layout; a text that
//! cannot be read is left alone and logged, as writing it anew would take away what it may mean.
//!
//! Source: EKS user guide, "Grant IAM users access to Kubernetes with a ConfigMap", "Delete a
//! managed node group".

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use tracing::warn;

use crate::access::without_path;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "aws-auth";
const KEY: &str = "mapRoles";

/// Makes sure that nodes with this role are mapped.
pub(crate) async fn ensure(client: &Client, role_arn: &str) -> Result<(), kube::Error> {
    change(client, |text| with_role(text, role_arn)).await
}

/// Takes the mapping of the role out.
pub(crate) async fn remove(client: &Client, role_arn: &str) -> Result<(), kube::Error> {
    change(client, |text| without_role(text, role_arn)).await
}

/// A change that somebody else's change has overtaken fails; the next pass makes it again.
async fn change(
    client: &Client,
    plan: impl Fn(&str) -> Result<Option<String>, String>,
) -> Result<(), kube::Error> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let found = api.get_opt(NAME).await?;
    let text = found.as_ref().and_then(|it| it.data.as_ref()?.get(KEY)).cloned();
    let planned = match plan(&text.unwrap_or_default()) {
        Ok(planned) => planned,
        Err(error) => {
            warn!(error, "mapRoles of aws-auth cannot be read and is left alone");
            None
        }
    };
    let Some(text) = planned else { return Ok(()) };
    let params = PostParams::default();
    match found {
        Some(mut found) => {
            found.data.get_or_insert_default().insert(KEY.to_owned(), text);
            api.replace(NAME, &params, &found).await?;
        }
        None => {
            let mut made = ConfigMap::default();
            made.metadata.name = Some(NAME.to_owned());
            made.data = Some(BTreeMap::from([(KEY.to_owned(), text)]));
            api.create(&params, &made).await?;
        }
    }
    Ok(())
}

/// The text with the role; `None`: it is there already.
fn with_role(text: &str, role_arn: &str) -> Result<Option<String>, String> {
    let mut entries = read(text)?;
    let arn = without_path(role_arn);
    if entries.iter().any(|it| is_of(it, &arn)) {
        return Ok(None);
    }
    entries.push(json!({
        "groups": ["system:bootstrappers", "system:nodes"],
        "rolearn": arn,
        "username": "system:node:{{EC2PrivateDNSName}}",
    }));
    Ok(Some(render(&entries)))
}

/// The text without the role; `None`: it is not there.
fn without_role(text: &str, role_arn: &str) -> Result<Option<String>, String> {
    let mut entries = read(text)?;
    let before = entries.len();
    let arn = without_path(role_arn);
    entries.retain(|it| !is_of(it, &arn));
    Ok((entries.len() < before).then(|| render(&entries)))
}

fn is_of(entry: &Value, arn: &str) -> bool {
    let fields = entry.as_object().into_iter().flatten();
    let named = fields.filter(|(name, _)| name.eq_ignore_ascii_case("rolearn"));
    named.into_iter().any(|(_, it)| it.as_str().is_some_and(|it| it.eq_ignore_ascii_case(arn)))
}

fn read(text: &str) -> Result<Vec<Value>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Array(entries)) => Ok(entries),
        Ok(Value::Null) => Ok(Vec::new()),
        Ok(_) => Err("it is not a list".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// In the layout that EKS writes. What is no map of texts is written as JSON, which is YAML too.
fn render(entries: &[Value]) -> String {
    if entries.is_empty() {
        return "[]\n".to_owned();
    }
    let mut text = String::new();
    for entry in entries {
        let Some(fields) = entry.as_object().filter(|it| !it.is_empty()) else {
            text += &format!("- {entry}\n");
            continue;
        };
        let mut head = "- ";
        for (name, value) in fields {
            text += &format!("{head}{}:", scalar(name));
            head = "  ";
            match value {
                Value::Array(items) if !items.is_empty() => {
                    text.push('\n');
                    for item in items {
                        text += &format!("  - {}\n", shown(item));
                    }
                }
                other => text += &format!(" {}\n", shown(other)),
            }
        }
    }
    text
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), scalar)
}

/// Plain where nobody can misread it: as ARNs and the names of nodes are.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|it: char| it.is_ascii_alphabetic())
        && !text.ends_with(':')
        && !text.contains(": ")
        && text.chars().all(|it| it.is_ascii_alphanumeric() || ":/_.-{}@+=".contains(it))
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "arn:aws:iam::111122223333:role/team/node";
    const WRITTEN: &str = "- groups:\n  - system:bootstrappers\n  - system:nodes\n  rolearn: \
                           arn:aws:iam::111122223333:role/node\n  username: \
                           system:node:{{EC2PrivateDNSName}}\n";

    #[test]
    fn a_role_is_written_without_its_path_and_only_once() {
        assert_eq!(with_role("", NODE).unwrap().as_deref(), Some(WRITTEN));
        assert_eq!(with_role(WRITTEN, NODE), Ok(None));
        let shouted = WRITTEN.replace("rolearn", "roleARN");
        assert_eq!(with_role(&shouted, NODE), Ok(None));
    }

    #[test]
    fn what_others_wrote_stays_when_a_role_comes_and_goes() {
        let others = r##"[{"rolearn": "arn:aws:iam::1:role/dev", "username": "dev: {{SessionName}}",
            "groups": ["a", "true", "#b"]}, "nonsense", {"userarn": 7}]"##;
        let with = with_role(others, NODE).unwrap().unwrap();
        let mut expected = read(others).unwrap();
        let found = read(&with).unwrap();
        assert_eq!(found[..3], expected[..]);
        assert_eq!(found.len(), 4);
        let without = without_role(&with, NODE).unwrap().unwrap();
        assert_eq!(read(&without).unwrap(), expected);
        assert_eq!(without_role(&without, NODE), Ok(None));
        expected.clear();
        assert_eq!(read(&render(&expected)).unwrap(), expected);
    }

    #[test]
    fn a_text_that_cannot_be_read_is_left_alone() {
        for text in ["{", "rolearn: x", "text"] {
            assert!(with_role(text, NODE).is_err(), "{text}");
            assert!(without_role(text, NODE).is_err(), "{text}");
        }
    }
}
