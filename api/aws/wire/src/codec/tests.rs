//! Every protocol, there and back.

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{service, tree};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<i64>,
    enabled: bool,
    #[serde(default)]
    items: Vec<Item>,
    #[serde(default)]
    words: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    key: String,
    value: f64,
}

fn shape() -> Shape {
    let item = |key: &str| Item { key: key.to_owned(), value: 0.5 };
    Shape {
        name: "a <b> & \"c\" ü + %".to_owned(),
        size: Some(-3),
        enabled: true,
        items: vec![item("x"), item("y")],
        words: vec!["one".to_owned()],
    }
}

fn services() -> impl Iterator<Item = &'static Service> {
    ["ec2", "iam", "eks", "ssm"].into_iter().filter_map(service::find)
}

#[test]
fn a_result_survives_every_protocol() {
    for service in services() {
        for shape in [shape(), Shape { size: None, items: vec![], words: vec![], ..shape() }] {
            let by_tree = Answer::Tree(serde_json::to_value(&shape).unwrap());
            let direct = Answer::of(&shape, service, Form::Native).unwrap();
            for sent in [by_tree, direct] {
                let response = encode_response(service, "Do", &sent, "id-1", Form::Native);
                let got = decode_response(service, "Do", &response).unwrap().unwrap();
                assert_eq!(tree::from_text::<Shape>(got).unwrap(), shape, "{}", service.name);
            }
        }
    }
}

#[test]
fn a_fault_survives_every_protocol() {
    let fault = Fault::new("Some.Code", "no <such> thing").with_status(StatusCode::NOT_FOUND);
    for service in services() {
        let response = encode_fault(service, &fault, "id-1", Form::Native);
        let got = decode_response(service, "Do", &response).unwrap().unwrap_err();
        assert_eq!(got, fault, "{}", service.name);
    }
}

#[test]
fn responses_look_as_aws_writes_them() {
    let tree = json!({"vpcSet": [{"vpcId": "vpc-1"}]});
    let text = |service, tree: &Value| {
        let service = service::find(service).unwrap();
        let answer = Answer::Tree(tree.clone());
        let response = encode_response(service, "Do", &answer, "id-1", Form::Native);
        String::from_utf8(response.into_body().to_vec()).unwrap()
    };
    assert_eq!(
        text("ec2", &tree),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DoResponse \
         xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>id-1</requestId><vpcSet>\
         <item><vpcId>vpc-1</vpcId></item></vpcSet></DoResponse>"
    );
    assert_eq!(
        text("sts", &json!({"Names": ["a"]})),
        "<DoResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><DoResult><Names>\
         <member>a</member></Names></DoResult><ResponseMetadata><RequestId>id-1</RequestId>\
         </ResponseMetadata></DoResponse>"
    );
    assert!(text("sts", &Value::Null).contains("<DoResult></DoResult>"));
    assert_eq!(text("eks", &Value::Null), "{}");
    assert_eq!(text("eks", &json!({"a": null, "b": [{"c": null}]})), "{\"b\":[{}]}");
}

#[test]
fn a_code_is_found_behind_its_namespace() {
    let service = service::find("ssm").unwrap();
    let body = json!({"__type": "com.amazon#ParameterNotFound:http://x", "Message": "m"});
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let fault = decode_response(service, "Do", &response).unwrap().unwrap_err();
    assert_eq!((&*fault.code, &*fault.message), ("ParameterNotFound", "m"));
}

#[test]
fn a_rest_request_has_its_labels_in_the_path_and_the_rest_where_the_method_wants_it() {
    let service = service::find("eks").unwrap();
    let tree = json!({"name": "stead", "maxResults": 5, "include": ["a", "b"]});
    let get = Http { method: "GET", path: "/clusters/{name}" };
    let request = encode_request(service, "Do", get, tree.clone());
    assert_eq!(request.path_and_query, "/clusters/stead?include=a&include=b&maxResults=5");
    assert!(request.body.is_empty());
    let post = Http { method: "POST", path: "/clusters/{name}/x" };
    let request = encode_request(service, "Do", post, tree);
    assert_eq!(request.path_and_query, "/clusters/stead/x");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"maxResults": 5, "include": ["a", "b"]}));
}

proptest! {
    #[test]
    fn arbitrary_responses_never_panic(body in any::<Vec<u8>>(), status in 200_u16..600) {
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for service in services() {
            if let Ok(Ok(tree)) = decode_response(service, "Do", &response) {
                drop(tree::from_text::<Shape>(tree));
            }
        }
    }

    #[test]
    fn arbitrary_forms_never_panic(form in "\\PC*") {
        if let Ok(tree) = form::to_tree(percent::pairs(&form)) {
            drop(tree::from_text::<Shape>(tree));
        }
    }

    #[test]
    fn any_text_survives_a_form(name in "[a-z]{1,8}", value in "\\PC*") {
        let joined = percent::join([(&*name, &*value)]);
        prop_assert_eq!(percent::pairs(&joined), [(name, value)]);
    }
}

#[test]
fn a_service_that_spoke_query_before_says_its_errors_in_both_protocols() {
    let service = service::find("sqs").unwrap();
    let fault = Fault::new("QueueDoesNotExist", "No.")
        .with_query_code("AWS.SimpleQueueService.NonExistentQueue");
    let response = encode_fault(service, &fault, "id", Form::Native);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/x-amz-json-1.0");
    let told = "AWS.SimpleQueueService.NonExistentQueue;Sender";
    assert_eq!(header("x-amzn-query-error"), told);
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["__type"], "com.amazonaws.sqs#QueueDoesNotExist");
    let read = decode_response(service, "Do", &response).unwrap().unwrap_err();
    assert_eq!((&*read.code, &*read.message), ("QueueDoesNotExist", "No."));
}
