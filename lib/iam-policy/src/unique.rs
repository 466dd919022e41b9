//! JSON in which no name of an object comes twice: of two conditions with one operator a reader keeps
//! one, and the policy would say less than whoever wrote it sees.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// `None`: it is none.
pub(crate) fn parse(text: &str) -> Option<Value> {
    serde_json::from_str::<Unique>(text).ok().map(|it| it.0)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON whose objects have each name once")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some((name, Unique(value))) = fields.next_entry::<String, Unique>()? {
            if found.insert(name, value).is_some() {
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        Ok(Value::Object(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        while let Some(Unique(value)) = items.next_element()? {
            found.push(value);
        }
        Ok(Value::Array(found))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Policy, PolicyError};

    #[test]
    fn what_has_each_name_once_is_read_as_ever() {
        let text = r#"{"a":[1,-2,2.5,"x",true,null],"b":{"a":{}}}"#;
        assert_eq!(parse(text), serde_json::from_str(text).ok());
        assert_eq!(parse("{"), None);
        assert_eq!(parse(&"[".repeat(1000)), None);
    }

    #[test]
    fn a_condition_that_would_be_lost_is_no_policy() {
        let with = |condition: &str| {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*",
                "Resource":"*","Condition":{condition}}}}}"#
            );
            Policy::parse(&text, Kind::Identity).map(drop)
        };
        let of = |keys: &str| format!(r#""StringEquals":{keys}"#);
        let (a, b) = (of(r#"{"aws:username":"ann"}"#), of(r#"{"aws:PrincipalTag/t":"x"}"#));
        assert_eq!(with(&format!("{{{a}}}")), Ok(()));
        assert_eq!(with(&format!("{{{a},{b}}}")), Err(PolicyError::NotJson));
        let twice = of(r#"{"aws:username":"ann","aws:username":"bob"}"#);
        assert_eq!(with(&format!("{{{twice}}}")), Err(PolicyError::NotJson));
    }
}
