//! Extenders: their weights, the resources that they manage, and that one binds at most.

use super::Errors;
use crate::config::extender::ExtenderConfig;

/// The longest name after a resource's prefix.
const MOST: usize = 63;

pub(super) fn check(errors: &mut Errors, extenders: &[ExtenderConfig]) {
    let mut managed: Vec<&str> = Vec::new();
    for (index, extender) in extenders.iter().enumerate() {
        let at = format!("extenders[{index}]");
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let why = "must have a positive weight applied to it";
            errors.invalid(format_args!("{at}.weight"), extender.weight, why);
        }
        for (index, resource) in extender.managed_resources.iter().enumerate() {
            let (at, name) = (format!("{at}.managedResources[{index}].name"), &resource.name);
            if !is_extended(name) {
                errors.text(&at, name, "is an invalid extended resource name");
            }
            if managed.contains(&name.as_str()) {
                errors.text(&at, name, "duplicate extender managed resource name");
            }
            managed.push(name);
        }
    }
    let binders = extenders.iter().filter(|it| !it.bind_verb.is_empty()).count();
    if binders > 1 {
        let found = format!("found {binders} extenders implementing bind");
        errors.text("extenders", &found, "only one extender can implement bind");
    }
}

/// A qualified name with a prefix of its own, whose quota (`requests.NAME`) has a name too.
fn is_extended(resource: &str) -> bool {
    let Some((prefix, name)) = resource.split_once('/') else { return false };
    let is_plain = |it: &str, more: &[char]| {
        let is_edge = |it: Option<char>| it.is_some_and(|it| it.is_ascii_alphanumeric());
        is_edge(it.chars().next())
            && is_edge(it.chars().last())
            && it.chars().all(|it| it.is_ascii_alphanumeric() || more.contains(&it))
    };
    let is_label = |it: &str| is_plain(it, &['-']) && !it.chars().any(char::is_uppercase);
    name.len() <= MOST
        && is_plain(name, &['-', '_', '.'])
        && prefix.split('.').all(is_label)
        && !prefix.ends_with("kubernetes.io")
        && !resource.starts_with("requests.")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::config::Configuration;

    fn told(extenders: Value) -> String {
        let config: Configuration =
            serde_json::from_value(json!({ "extenders": extenders })).unwrap();
        config.settings().err().map_or_else(String::new, |it| it.to_string())
    }

    #[test]
    fn extenders_that_make_no_sense_are_refused() {
        let manages = |name: &str| json!({ "managedResources": [{ "name": name }] });
        for (extenders, expected) in [
            (json!([{ "filterVerb": "f", "weight": -1 }, manages("example.com/gpu")]), ""),
            (
                json!([{ "prioritizeVerb": "p" }]),
                "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
            ),
            (
                json!([manages("cpu")]),
                "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid \
                 extended resource name",
            ),
            (
                json!([manages("a.example/x"), manages("a.example/x")]),
                "extenders[1].managedResources[0].name: Invalid value: \"a.example/x\": duplicate \
                 extender managed resource name",
            ),
            (
                json!([{ "bindVerb": "b" }, { "bindVerb": "b" }]),
                "extenders: Invalid value: \"found 2 extenders implementing bind\": only one \
                 extender can implement bind",
            ),
        ] {
            assert_eq!(told(extenders.clone()), expected, "{extenders}");
        }
    }

    #[test]
    fn certificates_that_do_not_go_together_are_refused() {
        let with = |tls: Value| told(json!([{ "urlPrefix": "https://a", "tlsConfig": tls }]));
        let half = with(json!({ "insecure": true, "certData": "YQ==" }));
        assert!(half.contains("a certificate and its key come together"), "{half}");
        let both = with(json!({ "insecure": true, "caData": "YQ==" }));
        assert!(both.contains("with the insecure flag is not allowed"), "{both}");
        assert_eq!(with(json!({ "insecure": true })), "");
    }
}
