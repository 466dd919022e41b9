//! What a target gets of an event: all of it, a part, a text of its own, or a template filled from it.
//! Pure.
//!
//! Source: EventBridge user guide, "Amazon EventBridge input transformation".
//! Deviation: a variable whose path is not in the event is `null` in a template, and nothing inside of
//! a text.

use std::collections::BTreeMap;

use aws_events::target::{InputTransformer, Target};
use aws_wire::Fault;
use serde_json::Value;

use crate::faults;

/// Of a text or a template, in characters.
const LONGEST: usize = 8192;
const LONGEST_PATH: usize = 256;
/// Of a template.
const MOST_PATHS: usize = 100;
/// In bytes, what the largest queue takes: a template may name a large event many times.
const LARGEST: usize = 1 << 20;

pub(crate) fn check(target: &Target) -> Result<(), Fault> {
    let ways =
        [target.input.is_some(), target.input_path.is_some(), target.input_transformer.is_some()];
    if ways.iter().filter(|it| **it).count() > 1 {
        return Err(faults::invalid(
            "Only one of Input, InputPath, or InputTransformer must be provided.",
        ));
    }
    if target.input.as_ref().is_some_and(|it| serde_json::from_str::<Value>(it).is_err()) {
        return Err(faults::parameter("Input", "JSON syntax error in input."));
    }
    let transformer = target.input_transformer.as_ref();
    let texts = [target.input.as_ref(), transformer.map(|it| &it.input_template)];
    if texts.into_iter().flatten().any(|it| it.chars().count() > LONGEST) {
        let reason = format!("It has {LONGEST} characters at the most.");
        return Err(faults::parameter("Input", &reason));
    }
    if transformer.is_some_and(|it| it.input_paths_map.len() > MOST_PATHS) {
        let reason = format!("It has {MOST_PATHS} paths at the most.");
        return Err(faults::parameter("InputPathsMap", &reason));
    }
    let paths = transformer.into_iter().flat_map(|it| it.input_paths_map.values());
    let is_bad = |it: &&String| it.len() > LONGEST_PATH || steps(it).is_none();
    match target.input_path.iter().chain(paths).find(is_bad) {
        Some(path) => Err(faults::parameter("InputPath", &format!("Invalid path {path}."))),
        None => Ok(()),
    }
}

/// What the rule is called in templates.
pub(crate) struct Origin<'a> {
    pub rule_arn: &'a str,
    pub rule_name: &'a str,
    pub ingested_at: &'a str,
}

pub(crate) fn render(target: &Target, event: &Value, origin: &Origin<'_>) -> String {
    if let Some(input) = &target.input {
        return input.clone();
    }
    if let Some(path) = &target.input_path {
        return find(event, path).unwrap_or(&Value::Null).to_string();
    }
    match &target.input_transformer {
        Some(transformer) => fill(transformer, event, origin),
        None => event.to_string(),
    }
}

/// One step of a path: `.name`, `['name']` or `[0]`.
enum Step {
    Field(String),
    Item(usize),
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            let (name, tail) = tail.split_at(end);
            if name.is_empty() {
                return None;
            }
            steps.push(Step::Field(name.to_owned()));
            rest = tail;
        } else {
            let (inner, tail) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = inner.strip_prefix('\'').and_then(|it| it.strip_suffix('\''));
            steps.push(match quoted {
                Some(name) => Step::Field(name.to_owned()),
                None => Step::Item(inner.parse().ok()?),
            });
            rest = tail;
        }
    }
    Some(steps)
}

fn find<'a>(event: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path)?.into_iter().try_fold(event, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Item(index) => value.get(index),
    })
}

/// What has become longer than any queue takes is not filled further: it cannot be delivered.
fn fill(transformer: &InputTransformer, event: &Value, origin: &Origin<'_>) -> String {
    let [arn, name, at] = [origin.rule_arn, origin.rule_name, origin.ingested_at].map(Value::from);
    let mut values: BTreeMap<&str, Option<&Value>> = BTreeMap::from([
        ("aws.events.rule-arn", Some(&arn)),
        ("aws.events.rule-name", Some(&name)),
        ("aws.events.event.ingestion-time", Some(&at)),
        ("aws.events.event", Some(event)),
        ("aws.events.event.json", Some(event)),
    ]);
    for (name, path) in &transformer.input_paths_map {
        values.insert(name, find(event, path));
    }
    let (mut filled, mut rest) = (String::new(), transformer.input_template.as_str());
    let mut is_in_text = false;
    while filled.len() <= LARGEST
        && let Some(it) = rest.chars().next()
    {
        let named = rest.strip_prefix('<').and_then(|it| it.split_once('>'));
        if let Some((name, tail)) = named
            && let Some(value) = values.get(name)
        {
            filled.push_str(&inserted(*value, is_in_text));
            rest = tail;
            continue;
        }
        is_in_text ^= it == '"' && !filled.ends_with('\\');
        filled.push(it);
        rest = &rest[it.len_utf8()..];
    }
    filled
}

/// Inside of a text without quotes, but so that the text stays one.
fn inserted(value: Option<&Value>, is_in_text: bool) -> String {
    match (value, is_in_text) {
        (None, true) => String::new(),
        (None, false) => "null".to_owned(),
        (Some(value), false) => value.to_string(),
        (Some(value), true) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let quoted = Value::String(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORIGIN: Origin<'_> = Origin {
        rule_arn: "arn:aws:events:us-east-1:111122223333:rule/r",
        rule_name: "r",
        ingested_at: "2026-11-23T12:00:00Z",
    };

    fn rendered(target: &Target) -> String {
        check(target).unwrap();
        let event = json!({ "resources": ["a", "b"], "detail": { "id": "i-1", "said": "\"no\"" } });
        render(target, &event, &ORIGIN)
    }

    #[test]
    fn a_target_gets_a_part_or_a_text_of_its_own() {
        let part = Target { input_path: Some("$.resources[1]".into()), ..Default::default() };
        assert_eq!(rendered(&part), r#""b""#);
        let own = Target { input: Some(r#"{"a":1}"#.into()), ..Default::default() };
        assert_eq!(rendered(&own), r#"{"a":1}"#);
        let neither = Target { input_path: Some("detail".into()), ..Default::default() };
        assert!(check(&neither).is_err());
    }

    #[test]
    fn a_template_is_filled_inside_and_outside_of_texts() {
        let paths = [("id", "$.detail.id"), ("said", "$.detail.said"), ("none", "$.detail.none")];
        let transformer = InputTransformer {
            input_paths_map: paths.map(|(name, path)| (name.into(), path.into())).into(),
            input_template: r#"{"id":<id>,"text":"<id> said <said><none>","none":<none>,"by":"<aws.events.rule-name>","<other>":1}"#.into(),
        };
        let target = Target { input_transformer: Some(transformer), ..Default::default() };
        let read: Value = serde_json::from_str(&rendered(&target)).unwrap();
        let wanted = json!({
            "id": "i-1", "text": "i-1 said \"no\"", "none": null, "by": "r", "<other>": 1,
        });
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_template_is_not_filled_beyond_what_a_queue_takes() {
        let input_template = "<aws.events.event>".repeat(400);
        let transformer = InputTransformer { input_template, ..Default::default() };
        let target = Target { input_transformer: Some(transformer), ..Default::default() };
        check(&target).unwrap();
        let event = json!({ "detail": "x".repeat(LARGEST) });
        let length = render(&target, &event, &ORIGIN).len();
        assert!((LARGEST + 1..2 * LARGEST).contains(&length), "{length}");
    }

    #[test]
    fn texts_and_paths_have_bounds() {
        let long = format!("\"{}\"", "x".repeat(LONGEST));
        let text = Target { input: Some(long.clone()), ..Default::default() };
        assert!(check(&text).is_err());
        let transformer = InputTransformer { input_template: long, ..Default::default() };
        let template = Target { input_transformer: Some(transformer), ..Default::default() };
        assert!(check(&template).is_err());
        let path = format!("$.{}", "x".repeat(LONGEST_PATH));
        assert!(check(&Target { input_path: Some(path), ..Default::default() }).is_err());
    }
}
