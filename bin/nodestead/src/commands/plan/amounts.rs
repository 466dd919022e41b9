//! Amounts of resources in manifests: what the API server would refuse is not planned with.

use anyhow::bail;
use resources::Quantity;
use serde_json::Value;

/// Fields that hold amounts by the names of resources.
const LISTS: [&str; 5] = ["requests", "limits", "overhead", "capacity", "allocatable"];

/// Refuses an amount that is none, or less than none, wherever it is in the object.
pub(super) fn check(object: &Value) -> anyhow::Result<()> {
    match object {
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(fields) => fields.iter().try_for_each(|(name, it)| match it {
            Value::Object(amounts) if LISTS.contains(&name.as_str()) => {
                amounts.iter().try_for_each(|(resource, it)| amount(name, resource, it))
            }
            it => check(it),
        }),
        _ => Ok(()),
    }
}

fn amount(list: &str, resource: &str, said: &Value) -> anyhow::Result<()> {
    let text = match said {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        // Not an amount: a field of that name in another kind.
        _ => return check(said),
    };
    match text.parse::<Quantity>() {
        Ok(it) if it >= Quantity::default() => Ok(()),
        Ok(_) => bail!("{list} of {resource}: `{text}` must be greater than or equal to 0"),
        Err(_) => bail!("{list} of {resource}: `{text}` is not a quantity, as 500m, 2 or 4Gi are"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_amount_that_the_api_server_would_refuse_is_refused() {
        let pod = |cpu: Value| {
            let requests = json!({ "cpu": cpu, "memory": "1Gi" });
            let container = json!({ "name": "c", "resources": { "requests": requests } });
            json!({ "kind": "Pod", "spec": { "containers": [container] } })
        };
        for good in [json!("500m"), json!(2), json!("0")] {
            assert!(check(&pod(good.clone())).is_ok(), "{good}");
        }
        for bad in ["abc", "-500m", ""] {
            let said = check(&pod(json!(bad))).unwrap_err().to_string();
            assert!(said.contains("cpu") && said.contains(bad), "{said}");
        }
        let pool = json!({ "kind": "NodePool", "spec": { "limits": { "cpu": "ten" } } });
        assert!(check(&pool).unwrap_err().to_string().contains("`ten`"));
    }
}
