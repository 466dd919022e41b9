//! Form parameters as trees: `A.B.1.C=x` is `{"A": {"B": {"1": {"C": "x"}}}}`.

use serde_json::{Map, Value};

use crate::service::Protocol;

/// Deeper names are refused, so that no request can make us recurse at will.
const MAX_DEPTH: usize = 16;

/// More are refused: each becomes a hundred bytes, and a request may have millions of them. AWS's
/// largest requests name a thousand resources, or as many addresses.
const MOST: usize = 50_000;

/// Why parameters are not a tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("there are more than {MOST} parameters")]
    TooMany,
    #[error("the parameter `{name}` is nested too deeply")]
    TooDeep { name: String },
    #[error("the parameter `{name}` is both a value and a structure")]
    Ambiguous { name: String },
}

/// Reads pairs into a tree of strings.
pub fn to_tree(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Value, FormError> {
    let mut root = Map::new();
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        if index >= MOST {
            return Err(FormError::TooMany);
        }
        if name.split('.').count() > MAX_DEPTH {
            return Err(FormError::TooDeep { name });
        }
        insert(&mut root, &name, value)?;
    }
    Ok(Value::Object(root))
}

fn insert(root: &mut Map<String, Value>, name: &str, value: String) -> Result<(), FormError> {
    let ambiguous = || FormError::Ambiguous { name: name.to_owned() };
    let mut at = root;
    let mut segments = name.split('.').peekable();
    while let Some(segment) = segments.next() {
        let is_leaf = segments.peek().is_none();
        let slot = at.entry(segment).or_insert(Value::Null);
        if is_leaf {
            if slot.is_object() {
                return Err(ambiguous());
            }
            *slot = Value::String(value);
            return Ok(());
        }
        if slot.is_null() {
            *slot = Value::Object(Map::new());
        }
        at = slot.as_object_mut().ok_or_else(ambiguous)?;
    }
    Ok(())
}

/// Writes a tree as pairs, with lists in the form that `protocol` wants. Nulls and empty lists are
/// left out.
pub fn to_pairs(tree: &Value, protocol: Protocol) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    collect(String::new(), tree, protocol, &mut pairs);
    pairs
}

fn collect(name: String, tree: &Value, protocol: Protocol, pairs: &mut Vec<(String, String)>) {
    let under =
        |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match tree {
        Value::Null => {}
        Value::Bool(it) => pairs.push((name, it.to_string())),
        Value::Number(it) => pairs.push((name, it.to_string())),
        Value::String(it) => pairs.push((name, it.clone())),
        Value::Array(items) => {
            for (index, item) in (1..).zip(items) {
                let part = match protocol {
                    Protocol::Query => format!("member.{index}"),
                    _ => index.to_string(),
                };
                collect(under(&part), item, protocol, pairs);
            }
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                collect(under(field), value, protocol, pairs);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(form: &str) -> Result<Value, FormError> {
        to_tree(crate::percent::pairs(form))
    }

    #[test]
    fn names_nest_by_their_dots() {
        let tree = read("Filter.1.Name=vpc-id&Filter.1.Value.1=a%20b&DryRun=true").unwrap();
        let expected = json!({
            "Filter": {"1": {"Name": "vpc-id", "Value": {"1": "a b"}}}, "DryRun": "true"
        });
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_parameter_that_is_a_value_and_a_structure_is_refused() {
        for form in ["A=1&A.B=2", "A.B=2&A=1"] {
            assert!(matches!(read(form), Err(FormError::Ambiguous { .. })), "{form}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let form = format!("{}=1", "A.".repeat(100_000));
        assert!(matches!(read(&form), Err(FormError::TooDeep { .. })));
    }

    #[test]
    fn so_many_parameters_are_read_and_no_more() {
        let form = |many: usize| (0..many).map(|it| (format!("A.{it}"), String::new()));
        assert!(to_tree(form(MOST)).is_ok());
        assert_eq!(to_tree(form(MOST + 1)), Err(FormError::TooMany));
    }

    #[test]
    fn lists_are_written_as_their_protocol_wants() {
        let tree = json!({"Names": ["a", "b"], "Tags": [{"Key": "k"}], "None": null, "No": []});
        let query = to_pairs(&tree, Protocol::Query);
        let ec2 = to_pairs(&tree, Protocol::Ec2);
        let names = |pairs: &[(String, String)]| {
            pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&query), ["Names.member.1", "Names.member.2", "Tags.member.1.Key"]);
        assert_eq!(names(&ec2), ["Names.1", "Names.2", "Tags.1.Key"]);
    }
}
