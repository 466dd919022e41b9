//! Trees to bytes and back, by protocol: requests and responses, results and faults.

pub mod older;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde::{Serialize, ser::Error as _};
use serde_json::{Map, Value, json};

use crate::{
    Fault, Http, form, percent, rest,
    service::{Protocol, Service},
    xml,
};

const FORM: HeaderValue =
    HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JSON_11: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const JSON_10: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");
const XML: HeaderValue = HeaderValue::from_static("text/xml;charset=UTF-8");

/// How a response is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the service's protocol says.
    Native,
    /// Query services answer JSON to `Accept: application/json`; the EKS authenticator asks so.
    Json,
    /// As the protocol says that a service of [`Protocol::Json10`] spoke before: see [`older`].
    Older,
}

/// A request before it is signed.
#[derive(Clone, Debug)]
pub struct RawRequest {
    pub method: &'static str,
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why a response is not what its protocol promises.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the response is not text")]
    NotText,
    #[error("the response is not XML")]
    Xml {
        #[source]
        source: xml::XmlError,
    },
    #[error("the response is not JSON")]
    Json {
        #[source]
        source: serde_json::Error,
    },
}

/// Writes a request.
pub fn encode_request(service: &Service, action: &str, http: Http, tree: Value) -> RawRequest {
    let mut headers = HeaderMap::new();
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => {
            headers.insert(CONTENT_TYPE, FORM);
            let mut pairs = vec![
                ("Action".to_owned(), action.to_owned()),
                ("Version".to_owned(), service.version.to_owned()),
            ];
            pairs.extend(form::to_pairs(&tree, service.protocol));
            let body = percent::join(pairs.iter().map(|(name, value)| (&**name, &**value)));
            post(headers, body)
        }
        Protocol::Json11 | Protocol::Json10 => {
            headers.insert(CONTENT_TYPE, json_kind(service));
            if let Ok(target) = HeaderValue::from_str(&format!("{}.{action}", service.target)) {
                headers.insert("x-amz-target", target);
            }
            post(headers, json_text(&tree))
        }
        Protocol::RestJson => encode_rest(headers, http, tree),
    }
}

fn json_kind(service: &Service) -> HeaderValue {
    if service.protocol == Protocol::Json10 { JSON_10 } else { JSON_11 }
}

fn post(headers: HeaderMap, body: String) -> RawRequest {
    RawRequest { method: "POST", path_and_query: "/".to_owned(), headers, body: body.into() }
}

fn encode_rest(mut headers: HeaderMap, http: Http, tree: Value) -> RawRequest {
    let Value::Object(mut fields) = tree else {
        return encode_rest(headers, http, Value::Object(Map::new()));
    };
    let mut path_and_query = rest::fill_path(http.path, &mut fields);
    let mut body = Bytes::new();
    if has_body(http.method) {
        headers.insert(CONTENT_TYPE, JSON);
        body = json_text(&Value::Object(fields)).into();
    } else {
        let pairs = rest::query_pairs(&fields);
        if !pairs.is_empty() {
            let query = percent::join(pairs.iter().map(|(name, value)| (&**name, &**value)));
            path_and_query = format!("{path_and_query}?{query}");
        }
    }
    RawRequest { method: http.method, path_and_query, headers, body }
}

/// Whether requests of this method carry their fields in the body.
pub fn has_body(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "DELETE")
}

/// A result, as far as its protocol lets it be written before the request's id is put to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Tree(Value),
    /// What is inside of the result's element. Cheap to clone.
    Xml(Arc<String>),
}

/// What items of lists are called where the answer is XML; `None`: it is JSON.
pub fn xml_items(service: &Service, form: Form) -> Option<&'static str> {
    match (service.protocol, form) {
        (Protocol::Query, Form::Native | Form::Older) => Some("member"),
        (Protocol::Ec2, _) => Some("item"),
        _ => None,
    }
}

impl Answer {
    /// In the form that [`encode_response`] wants for this service.
    pub fn of<T: Serialize>(
        value: &T,
        service: &Service,
        form: Form,
    ) -> Result<Self, xml::WriteError> {
        match xml_items(service, form) {
            Some(item) => Ok(Self::Xml(Arc::new(xml::content_of(value, item)?))),
            None => serde_json::to_value(value).map(Self::Tree).map_err(xml::WriteError::custom),
        }
    }
}

/// Writes a result.
pub fn encode_response(
    service: &Service,
    action: &str,
    answer: &Answer,
    request_id: &str,
    form: Form,
) -> Response<Bytes> {
    let tree = match answer {
        Answer::Tree(tree) => tree,
        Answer::Xml(content) => {
            let body = match service.protocol {
                Protocol::Ec2 => ec2_response(service, action, content, request_id),
                _ => query_response(service, action, content, request_id),
            };
            return respond(StatusCode::OK, XML, body, request_id);
        }
    };
    let content = || {
        let mut content = String::new();
        xml::write_content(&mut content, tree, xml_items(service, form).unwrap_or("member"));
        content
    };
    let (kind, body) = match (service.protocol, form) {
        (Protocol::Query, Form::Json) => {
            let result = if tree.is_null() { json!({}) } else { tree.clone() };
            let body = json!({ format!("{action}Response"): {
                format!("{action}Result"): result,
                "ResponseMetadata": { "RequestId": request_id },
            }});
            (JSON, body.to_string())
        }
        (Protocol::Query, _) => (XML, query_response(service, action, &content(), request_id)),
        (Protocol::Json10, Form::Older) => {
            let content = older::content(action, &without_nulls(tree));
            (XML, query_response(service, action, &content, request_id))
        }
        (Protocol::Ec2, _) => (XML, ec2_response(service, action, &content(), request_id)),
        (Protocol::RestJson, _) => (JSON, json_text(tree)),
        (Protocol::Json11 | Protocol::Json10, _) => (json_kind(service), json_text(tree)),
    };
    respond(StatusCode::OK, kind, body, request_id)
}

/// Members without a value are left out, as AWS does.
fn json_text(tree: &Value) -> String {
    if tree.is_null() { "{}".to_owned() } else { without_nulls(tree).to_string() }
}

fn without_nulls(tree: &Value) -> Value {
    match tree {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn query_response(service: &Service, action: &str, content: &str, request_id: &str) -> String {
    // Go's SDK insists on the element where the model has a result, even an empty one.
    let mut body = format!(
        "<{action}Response xmlns=\"{}\"><{action}Result>{content}</{action}Result>",
        service.namespace
    );
    let metadata = json!({ "RequestId": request_id });
    xml::write_element(&mut body, "ResponseMetadata", &metadata, "member");
    body + &format!("</{action}Response>")
}

fn ec2_response(service: &Service, action: &str, content: &str, request_id: &str) -> String {
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"{}\">",
        service.namespace
    );
    xml::write_element(&mut body, "requestId", &json!(request_id), "item");
    body.reserve_exact(content.len() + action.len() + "</Response>".len());
    body.push_str(content);
    body + &format!("</{action}Response>")
}

/// Writes a fault.
pub fn encode_fault(
    service: &Service,
    fault: &Fault,
    request_id: &str,
    form: Form,
) -> Response<Bytes> {
    let at_fault = if fault.status.is_server_error() { "Receiver" } else { "Sender" };
    let code = match form {
        Form::Older => fault.query_code().unwrap_or(&fault.code),
        Form::Native | Form::Json => &*fault.code,
    };
    let error = json!({ "Type": at_fault, "Code": code, "Message": fault.message });
    let (kind, body) = match (service.protocol, form) {
        (Protocol::Query, Form::Json) => {
            (JSON, json!({ "Error": error, "RequestId": request_id }).to_string())
        }
        (Protocol::Query, _) | (Protocol::Json10, Form::Older) => {
            let mut body = format!("<ErrorResponse xmlns=\"{}\">", service.namespace);
            // In the order in which AWS writes them, for readers of raw responses.
            body.push_str("<Error><Type>");
            body.push_str(at_fault);
            body.push_str("</Type>");
            xml::write_element(&mut body, "Code", &json!(code), "member");
            xml::write_element(&mut body, "Message", &json!(fault.message), "member");
            body.push_str("</Error>");
            xml::write_element(&mut body, "RequestId", &json!(request_id), "member");
            (XML, body + "</ErrorResponse>")
        }
        (Protocol::Ec2, _) => {
            let mut body =
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error>".to_owned();
            xml::write_element(&mut body, "Code", &json!(fault.code), "item");
            xml::write_element(&mut body, "Message", &json!(fault.message), "item");
            body.push_str("</Error></Errors>");
            xml::write_element(&mut body, "RequestID", &json!(request_id), "item");
            (XML, body + "</Response>")
        }
        (Protocol::RestJson, _) => (JSON, json_fault(fault, None)),
        (Protocol::Json11, _) => (JSON_11, json_fault(fault, Some(&fault.code))),
        (Protocol::Json10, _) => {
            let kind = format!("com.amazonaws.{}#{}", service.name, fault.code);
            (JSON_10, json_fault(fault, Some(&kind)))
        }
    };
    let mut response = respond(fault.status, kind, body, request_id);
    if service.protocol == Protocol::RestJson
        && let Ok(code) = HeaderValue::from_str(&fault.code)
    {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    if service.protocol == Protocol::Json10 {
        let code = fault.query_code().unwrap_or(&fault.code);
        if let Ok(told) = HeaderValue::from_str(&format!("{code};{at_fault}")) {
            response.headers_mut().insert("x-amzn-query-error", told);
        }
    }
    response
}

fn json_fault(fault: &Fault, kind: Option<&str>) -> String {
    let mut body = fault.fields.clone();
    if let Some(kind) = kind {
        body.insert("__type".to_owned(), json!(kind));
    }
    body.insert("message".to_owned(), json!(fault.message));
    Value::Object(body).to_string()
}

fn respond(
    status: StatusCode,
    kind: HeaderValue,
    body: String,
    request_id: &str,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

/// Reads a response: its tree, or the fault that it reports.
pub fn decode_response(
    service: &Service,
    action: &str,
    response: &Response<Bytes>,
) -> Result<Result<Value, Fault>, DecodeError> {
    let is_success = response.status().is_success();
    let body = std::str::from_utf8(response.body()).map_err(|_| DecodeError::NotText)?;
    match service.protocol {
        Protocol::Query | Protocol::Ec2 => {
            if body.trim().is_empty() && !is_success {
                return Ok(Err(unnamed(response.status())));
            }
            let (_, tree) = xml::parse(body).map_err(|source| DecodeError::Xml { source })?;
            if !is_success {
                return Ok(Err(xml_fault(&tree, response.status())));
            }
            Ok(Ok(match service.protocol {
                Protocol::Query => take(tree, &format!("{action}Result")),
                _ => tree,
            }))
        }
        Protocol::RestJson | Protocol::Json11 | Protocol::Json10 => {
            let tree = match body.trim() {
                "" => Value::Null,
                text => match serde_json::from_str(text) {
                    Ok(tree) => tree,
                    Err(_) if !is_success => return Ok(Err(unnamed(response.status()))),
                    Err(source) => return Err(DecodeError::Json { source }),
                },
            };
            if is_success { Ok(Ok(tree)) } else { Ok(Err(read_json_fault(tree, response))) }
        }
    }
}

fn take(tree: Value, field: &str) -> Value {
    match tree {
        Value::Object(mut fields) => fields.remove(field).unwrap_or_default(),
        _ => Value::Null,
    }
}

fn unnamed(status: StatusCode) -> Fault {
    let message = status.canonical_reason().unwrap_or("the service gave no reason");
    Fault::new("UnknownError", message).with_status(status)
}

fn xml_fault(tree: &Value, status: StatusCode) -> Fault {
    let error = tree.get("Error").or_else(|| tree.get("Errors")?.get("Error")).unwrap_or(tree);
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    match text("Code") {
        Some(code) => Fault::new(code, text("Message").unwrap_or_default()).with_status(status),
        None => unnamed(status),
    }
}

fn read_json_fault(tree: Value, response: &Response<Bytes>) -> Fault {
    let mut fields = match tree {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let header = response.headers().get("x-amzn-errortype").and_then(|it| it.to_str().ok());
    let (in_body, code) = (text("__type"), text("code"));
    let message = text("message").or_else(|| text("Message")).unwrap_or_default();
    let code = header.map(str::to_owned).or(in_body).or(code).unwrap_or_default();
    // `namespace#Code:url`
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    if code.is_empty() {
        let mut fault = unnamed(response.status());
        fault.message = message;
        return fault;
    }
    let mut fault = Fault::new(code.to_owned(), message).with_status(response.status());
    fault.fields = fields;
    fault
}

#[cfg(test)]
mod tests;
