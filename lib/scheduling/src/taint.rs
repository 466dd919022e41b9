//! Taints and tolerations.
//!
//! Upstream: `k8s.io/component-helpers/scheduling/corev1`.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether one toleration tolerates one taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is = |field: &Option<String>| field.clone().filter(|it| !it.is_empty());
    if is(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if is(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            // A toleration without a key must use `Exists`.
            is(&toleration.key).is_some()
                && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or("")
        }
        Some(operator) => compare(operator, toleration.value.as_deref(), taint.value.as_deref()),
    }
}

/// `Lt` and `Gt`: the taint's number against the toleration's.
fn compare(operator: &str, toleration: Option<&str>, taint: Option<&str>) -> bool {
    let number = |text: Option<&str>| text?.parse::<i64>().ok();
    match (operator, number(toleration), number(taint)) {
        ("Lt", Some(limit), Some(value)) => value < limit,
        ("Gt", Some(limit), Some(value)) => value > limit,
        _ => false,
    }
}

/// The first taint with one of these effects that no toleration tolerates.
pub fn find_untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    let mut taints = taints.iter().filter(|it| effects.contains(&it.effect.as_str()));
    taints.find(|taint| !tolerations.iter().any(|it| tolerates(it, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str, effect: &str) -> Taint {
        Taint {
            key: key.into(),
            value: Some(value.into()),
            effect: effect.into(),
            time_added: None,
        }
    }

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
        Toleration {
            key: some(key),
            operator: some(operator),
            value: some(value),
            effect: some(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn a_toleration_matches_by_key_operator_value_and_effect() {
        let taint = taint("gpu", "a100", "NoSchedule");
        for (toleration, expected) in [
            (toleration("gpu", "Equal", "a100", "NoSchedule"), true),
            (toleration("gpu", "", "a100", ""), true),
            (toleration("gpu", "Exists", "", ""), true),
            (toleration("", "Exists", "", ""), true),
            (toleration("", "Exists", "", "NoExecute"), false),
            (toleration("gpu", "Equal", "h100", ""), false),
            (toleration("cpu", "Exists", "", ""), false),
            (toleration("", "", "a100", ""), false),
        ] {
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
        }
    }

    #[test]
    fn numeric_operators_compare_the_taint_with_the_toleration() {
        let taint = taint("sla", "950", "NoSchedule");
        assert!(tolerates(&toleration("sla", "Gt", "900", ""), &taint));
        assert!(!tolerates(&toleration("sla", "Lt", "900", ""), &taint));
        assert!(!tolerates(&toleration("sla", "Gt", "many", ""), &taint));
    }
}
