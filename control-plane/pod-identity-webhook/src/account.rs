//! What a service account and a pod ask for in their annotations.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Config;

pub(crate) const DEFAULT_EXPIRATION: i64 = 86_400;
/// No token of the API server lives shorter.
const SHORTEST_EXPIRATION: i64 = 600;
/// A default expiry of Pod Identity is drawn from this much before it on, so that not all tokens of a
/// cluster are renewed at once.
pub(crate) const JITTER: i64 = 7_200;

/// A service account's wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub role_arn: Option<String>,
    pub audience: String,
    pub uses_regional_sts: bool,
    pub expiration: i64,
    /// What could not be read, in words for users.
    pub complaints: Vec<String>,
}

impl Account {
    /// Reads a ServiceAccount. `None` stands for one without annotations.
    pub fn of(account: Option<&Value>, config: &Config) -> Self {
        let get = |name: &str| account.and_then(|it| annotation(it, config, name));
        let mut complaints = Vec::new();
        let role_arn = get("role-arn").filter(|it| !it.is_empty()).map(str::to_owned);
        if let Some(arn) = role_arn.as_deref().filter(|it| !is_role_arn(it)) {
            complaints.push(format!(
                "annotation {}/role-arn of the service account is not the ARN of an IAM role: \
                 {arn:?}",
                config.annotation_prefix
            ));
        }
        let regional = match get("sts-regional-endpoints") {
            None => config.sts_regional_endpoints,
            Some(text) => boolean(text).unwrap_or_else(|| {
                complaints.push(format!(
                    "annotation {}/sts-regional-endpoints of the service account is neither true \
                     nor false: {text:?}",
                    config.annotation_prefix
                ));
                config.sts_regional_endpoints
            }),
        };
        let expiration = get("token-expiration").map(|text| {
            seconds(text, config, "service account", &mut complaints)
                .unwrap_or(config.token_expiration)
        });
        Self {
            role_arn,
            audience: audience(account, config),
            uses_regional_sts: regional,
            expiration: expiration.unwrap_or(config.token_expiration),
            complaints,
        }
    }

    /// How long the pod's token lives: its own annotation counts more than the account's.
    pub(crate) fn expiration_for(&self, pod: &Value, config: &Config) -> (i64, Vec<String>) {
        let mut complaints = Vec::new();
        let own = annotation(pod, config, "token-expiration")
            .and_then(|text| seconds(text, config, "pod", &mut complaints));
        (own.unwrap_or(self.expiration), complaints)
    }
}

/// Whom an account's IRSA tokens are for.
fn audience(account: Option<&Value>, config: &Config) -> String {
    let asked = account.and_then(|it| annotation(it, config, "audience"));
    asked.filter(|it| !it.is_empty()).unwrap_or(&config.token_audience).to_owned()
}

/// The containers that the pod wants left alone.
pub(crate) fn skipped(pod: &Value, config: &Config) -> BTreeSet<String> {
    let list = annotation(pod, config, "skip-containers").unwrap_or_default();
    let names = list.split(',').map(|it| it.trim().trim_matches('"'));
    names.filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn annotation<'a>(object: &'a Value, config: &Config, name: &str) -> Option<&'a str> {
    let key = format!("{}/{name}", config.annotation_prefix);
    object["metadata"]["annotations"].get(key)?.as_str()
}

/// `None`, with a complaint, where it is no number.
fn seconds(text: &str, config: &Config, whose: &str, complaints: &mut Vec<String>) -> Option<i64> {
    let prefix = &config.annotation_prefix;
    let Ok(seconds) = text.parse::<i64>() else {
        complaints.push(format!(
            "annotation {prefix}/token-expiration of the {whose} is not a number of seconds: \
             {text:?}"
        ));
        return None;
    };
    if seconds < SHORTEST_EXPIRATION {
        complaints.push(format!(
            "annotation {prefix}/token-expiration of the {whose} is below the least, \
             {SHORTEST_EXPIRATION} seconds, which is used: {seconds}"
        ));
    }
    Some(seconds.max(SHORTEST_EXPIRATION))
}

/// As Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`
pub(crate) fn is_role_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let &["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let is_partition = partition.starts_with("aws")
        && partition.chars().all(|it| it.is_ascii_alphanumeric() || it == '-');
    let is_account = account.len() == 12 && account.chars().all(|it| it.is_ascii_digit());
    let name = resource.strip_prefix("role/").unwrap_or_default();
    let is_name =
        !name.is_empty() && name.chars().all(|it| it.is_alphanumeric() || "+=,.@-_/".contains(it));
    is_partition && is_account && is_name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotated(annotations: Value) -> Value {
        json!({ "metadata": { "annotations": annotations } })
    }

    #[test]
    fn what_is_not_the_arn_of_a_role_is_told_apart() {
        for good in [
            "arn:aws:iam::111122223333:role/app",
            "arn:aws-us-gov:iam::111122223333:role/a/path/app_1+=,.@-",
        ] {
            assert!(is_role_arn(good), "{good}");
        }
        for bad in [
            "",
            "app",
            "arn:aws:iam::1111:role/app",
            "arn:aws:iam::111122223333:user/app",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:sts::111122223333:role/app",
            "arn:aws:iam::111122223333:role/a b",
        ] {
            assert!(!is_role_arn(bad), "{bad}");
        }
    }

    #[test]
    fn annotations_that_cannot_be_read_are_complained_about_and_defaults_used() {
        let account = annotated(json!({
            "eks.amazonaws.com/role-arn": "app",
            "eks.amazonaws.com/sts-regional-endpoints": "maybe",
            "eks.amazonaws.com/token-expiration": "a day",
        }));
        let read = Account::of(Some(&account), &Config::default());
        assert_eq!(read.complaints.len(), 3, "{:?}", read.complaints);
        assert_eq!(read.role_arn.as_deref(), Some("app"));
        assert_eq!((read.uses_regional_sts, read.expiration), (false, 86_400));
    }

    #[test]
    fn a_pods_expiry_counts_more_than_its_accounts_and_neither_is_below_ten_minutes() {
        let config = Config::default();
        let account = annotated(json!({ "eks.amazonaws.com/token-expiration": "3600" }));
        let account = Account::of(Some(&account), &config);
        assert_eq!(account.expiration_for(&json!({}), &config), (3600, vec![]));
        let pod = |text: &str| annotated(json!({ "eks.amazonaws.com/token-expiration": text }));
        assert_eq!(account.expiration_for(&pod("7200"), &config).0, 7200);
        let (seconds, complaints) = account.expiration_for(&pod("60"), &config);
        assert_eq!((seconds, complaints.len()), (600, 1));
        let (seconds, complaints) = account.expiration_for(&pod("soon"), &config);
        assert_eq!((seconds, complaints.len()), (3600, 1));
    }

    #[test]
    fn other_prefixes_have_other_annotations() {
        let config = Config { annotation_prefix: "example.com".into(), ..Config::default() };
        let account = annotated(json!({
            "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/no",
            "example.com/role-arn": "arn:aws:iam::111122223333:role/yes",
            "example.com/audience": "mine",
        }));
        let read = Account::of(Some(&account), &config);
        assert_eq!(read.role_arn.as_deref(), Some("arn:aws:iam::111122223333:role/yes"));
        assert_eq!(read.audience, "mine");
    }
}
