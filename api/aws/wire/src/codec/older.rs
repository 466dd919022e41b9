//! SQS in the query protocol, which its clients spoke until November 2023 and AWS goes on to serve:
//! other names for the same members, lists and maps flattened under names in the singular.
//!
//! Source: Amazon SQS API reference, "Making Query API requests using the AWS query protocol".

use serde_json::{Map, Value};

use crate::xml;

/// Lists of requests, as the older protocol and as JSON calls them.
const LISTS: [(&str, &str); 7] = [
    ("AttributeName", "AttributeNames"),
    ("MessageAttributeName", "MessageAttributeNames"),
    ("MessageSystemAttributeName", "MessageSystemAttributeNames"),
    ("TagKey", "TagKeys"),
    ("SendMessageBatchRequestEntry", "Entries"),
    ("DeleteMessageBatchRequestEntry", "Entries"),
    ("ChangeMessageVisibilityBatchRequestEntry", "Entries"),
];

/// Maps: their two names, and what an entry's key is called.
const MAPS: [(&str, &str, &str); 4] = [
    ("Attribute", "Attributes", "Name"),
    ("MessageAttribute", "MessageAttributes", "Name"),
    ("MessageSystemAttribute", "MessageSystemAttributes", "Name"),
    ("Tag", "Tags", "Key"),
];

/// Parameters of the older protocol as what the newer one has in its body.
pub fn request(action: &str, tree: Value) -> Value {
    let Value::Object(fields) = tree else { return tree };
    let renamed = fields.into_iter().map(|(name, value)| {
        if let Some((_, plural)) = LISTS.iter().find(|(it, _)| *it == name) {
            return ((*plural).to_owned(), items(action, value));
        }
        let map = MAPS.iter().find(|(one, all, _)| *one == name || *all == name);
        match map.and_then(|(_, all, key)| Some((*all, entries(&value, key)?))) {
            // The one member whose name begins with a small letter.
            Some(("Tags", map)) if action == "CreateQueue" => ("tags".to_owned(), map),
            Some((all, map)) => (all.to_owned(), map),
            None => (name, value),
        }
    });
    Value::Object(renamed.collect())
}

/// The parameter that names a queue.
pub const QUEUE_URL: &str = "QueueUrl";

/// A request to a queue's own URL is about that queue, whether its parameters name it or not.
pub fn address(tree: &mut Value, path: &str) {
    let path = path.trim_end_matches('/');
    let mut segments = path.trim_start_matches('/').split('/');
    let (account, name) = (segments.next(), segments.next().filter(|it| !it.is_empty()));
    if let (Some(_), Some(_), None, Some(fields)) =
        (account, name, segments.next(), tree.as_object_mut())
    {
        fields.insert(QUEUE_URL.to_owned(), Value::from(path));
    }
}

/// A list's items may have maps of their own. They stay numbered, which says their order.
fn items(action: &str, list: Value) -> Value {
    let Value::Object(numbered) = list else { return list };
    numbered.into_iter().map(|(number, it)| (number, request(action, it))).collect()
}

/// `{"1": {"Name": n, "Value": v}}` as `{n: v}`.
fn entries(numbered: &Value, key: &str) -> Option<Value> {
    let pair = |entry: &Value| {
        let name = entry.get(key)?.as_str()?.to_owned();
        Some((name, entry.get("Value").cloned().unwrap_or_else(|| Value::from(""))))
    };
    numbered.as_object()?.values().map(pair).collect::<Option<Map<_, _>>>().map(Value::Object)
}

/// What is inside of the result's element, for an answer in JSON.
pub(super) fn content(action: &str, answer: &Value) -> String {
    let mut content = String::new();
    write(&mut content, action, answer);
    content
}

fn write(out: &mut String, action: &str, tree: &Value) {
    let Value::Object(fields) = tree else { return xml::write_content(out, tree, "member") };
    for (name, value) in fields {
        let map = MAPS.iter().find(|(_, all, _)| *all == name);
        match (value, map) {
            (Value::Object(entries), Some((one, _, key))) => {
                for (its, value) in entries {
                    element(out, one, |out| {
                        xml::write_element(out, key, &Value::from(its.as_str()), "member");
                        element(out, "Value", |out| write(out, action, value));
                    });
                }
            }
            (Value::Array(items), _) => {
                let one = singular(action, name);
                items.iter().for_each(|it| element(out, &one, |out| write(out, action, it)));
            }
            (Value::Null, _) => {}
            _ => element(out, name, |out| write(out, action, value)),
        }
    }
}

fn element(out: &mut String, name: &str, inside: impl FnOnce(&mut String)) {
    *out += &format!("<{name}>");
    inside(out);
    *out += &format!("</{name}>");
}

/// What an item of an answer's list is called.
fn singular(action: &str, name: &str) -> String {
    match name {
        "QueueUrls" | "queueUrls" => "QueueUrl".to_owned(),
        "Messages" => "Message".to_owned(),
        "Successful" => format!("{action}ResultEntry"),
        "Failed" => "BatchResultErrorEntry".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{form, percent};

    fn asked(action: &str, parameters: &str) -> Value {
        request(action, form::to_tree(percent::pairs(parameters)).unwrap())
    }

    #[test]
    fn flattened_lists_and_maps_are_those_of_the_newer_protocol() {
        let create = asked(
            "CreateQueue",
            "QueueName=jobs&Attribute.1.Name=DelaySeconds&Attribute.1.Value=5&Tag.1.Key=a\
             &Tag.1.Value=b",
        );
        let expected =
            json!({"QueueName": "jobs", "Attributes": {"DelaySeconds": "5"}, "tags": {"a": "b"}});
        assert_eq!(create, expected);
        for name in ["Tag", "Tags"] {
            let tag = asked("TagQueue", &format!("{name}.1.Key=a&{name}.1.Value="));
            assert_eq!(tag, json!({"Tags": {"a": ""}}), "{name}");
        }
        let batch = asked(
            "SendMessageBatch",
            "SendMessageBatchRequestEntry.1.Id=a&SendMessageBatchRequestEntry.1.MessageAttribute.1\
             .Name=n&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType=String",
        );
        let attributes = json!({"n": {"DataType": "String"}});
        let entry = json!({"Id": "a", "MessageAttributes": attributes});
        assert_eq!(batch, json!({"Entries": {"1": entry}}));
        let receive = asked("ReceiveMessage", "AttributeName.1=All&MaxNumberOfMessages=3");
        assert_eq!(receive, json!({"AttributeNames": {"1": "All"}, "MaxNumberOfMessages": "3"}));
    }

    #[test]
    fn answers_are_flattened_again() {
        let answer = json!({"Messages": [{"Body": "a<b", "Attributes": {"SentTimestamp": "1"},
            "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "7"}}}]});
        let expected = "<Message><Body>a&lt;b</Body><Attribute><Name>SentTimestamp</Name>\
                        <Value>1</Value></Attribute><MessageAttribute><Name>n</Name><Value>\
                        <DataType>Number</DataType><StringValue>7</StringValue></Value>\
                        </MessageAttribute></Message>";
        let parsed = |content: &str| xml::parse(&format!("<r>{content}</r>")).unwrap().1;
        assert_eq!(parsed(&content("ReceiveMessage", &answer)), parsed(expected));
        let answer = json!({"Successful": [{"Id": "a"}], "Failed": []});
        let told = content("DeleteMessageBatch", &answer);
        assert_eq!(
            told,
            "<DeleteMessageBatchResultEntry><Id>a</Id></DeleteMessageBatchResultEntry>"
        );
        let answer = json!({"queueUrls": ["u", "v"], "NextToken": null});
        let told = content("ListDeadLetterSourceQueues", &answer);
        assert_eq!(told, "<QueueUrl>u</QueueUrl><QueueUrl>v</QueueUrl>");
    }
}
