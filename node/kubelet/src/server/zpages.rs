//! `/flagz` and `/statusz`: for people who look at one kubelet, as text, and as an object for tools that
//! ask for one.
//!
//! Upstream: `component-base/zpages`.

use std::fmt::Write;

use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use serde_json::{Value, json};
use transport::Body;

use super::{Server, json_answer, text};
use crate::settings::VERSION;

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
const GROUP: &str = "config.k8s.io";
/// Other paths that are worth a look.
const PATHS: [&str; 4] = ["/configz", "/healthz", "/metrics", "/pods"];

/// How a client wants to have it.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// In this version.
    Object(&'static str),
}

impl Server {
    pub(super) fn flagz(&self, headers: &HeaderMap) -> Response<Body> {
        let flags = &self.context.settings.flags;
        answer("Flagz", headers, json!({ "flags": flags }), || {
            let lines: Vec<_> =
                flags.iter().map(|(flag, value)| format!("{flag}={value}\n")).collect();
            format!("\nkubelet flagz\n{WARNING}\n\n{}", lines.concat())
        })
    }

    pub(super) fn statusz(&self, headers: &HeaderMap) -> Response<Body> {
        let up = self.context.clock.now().as_second() - self.started.as_second();
        let object = json!({
            "startTime": self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "uptimeSeconds": up,
            "binaryVersion": VERSION,
            "paths": PATHS,
        });
        answer("Statusz", headers, object, || {
            let mut page = format!("\nkubelet statusz\n{WARNING}\n\n");
            let started = self.started.strftime("%a %b %e %H:%M:%S UTC %Y");
            add(&mut page, format_args!("Started: {started}\n"));
            let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
            add(&mut page, format_args!("Up: {hours} hr {minutes:02} min {seconds:02} sec\n"));
            add(&mut page, format_args!("Binary version: {VERSION}\n"));
            add(&mut page, format_args!("Paths: {}\n", PATHS.join(" ")));
            page
        })
    }
}

fn answer(
    kind: &str,
    headers: &HeaderMap,
    mut object: Value,
    page: impl FnOnce() -> String,
) -> Response<Body> {
    let accept = headers.get(ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    match form(accept, kind) {
        Some(Form::Text) => text(StatusCode::OK, page()),
        Some(Form::Object(version)) => {
            object["kind"] = json!(kind);
            object["apiVersion"] = json!(format!("{GROUP}/{version}"));
            object["metadata"] = json!({ "name": "kubelet" });
            json_answer(&object)
        }
        None => {
            let message = format!(
                "only the following media types are accepted: text/plain, application/json;v=v1beta1;g={GROUP};as={kind}\n"
            );
            text(StatusCode::NOT_ACCEPTABLE, message)
        }
    }
}

/// The first of the forms that are asked for and there. A tool names the object that it knows.
fn form(accept: &str, kind: &str) -> Option<Form> {
    accept.split(',').find_map(|wanted| {
        let mut parts = wanted.split(';').map(str::trim);
        match parts.next()? {
            "" | "*/*" | "text/*" | "text/plain" => Some(Form::Text),
            "application/json" => {
                let parameters: Vec<_> = parts.collect();
                let has = |name: &str, value: &str| {
                    parameters.iter().any(|it| it.split_once('=') == Some((name, value)))
                };
                let mut versions = ["v1beta1", "v1alpha1"].into_iter();
                let version = versions.find(|it| has("v", it))?;
                (has("g", GROUP) && has("as", kind)).then_some(Form::Object(version))
            }
            _ => None,
        }
    })
}

fn add(page: &mut String, line: std::fmt::Arguments<'_>) {
    let written = page.write_fmt(line);
    debug_assert!(written.is_ok(), "writing into memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_name_the_object_that_they_know_and_everybody_else_reads() {
        let object = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        assert_eq!(form(object, "Statusz"), Some(Form::Object("v1beta1")));
        assert_eq!(form(object, "Flagz"), None);
        assert_eq!(form("application/json", "Statusz"), None);
        for accept in ["", "*/*", "text/plain; charset=utf-8", "application/yaml, text/plain"] {
            assert_eq!(form(accept, "Statusz"), Some(Form::Text), "{accept}");
        }
        let both = format!("application/json, {}, */*", object.replace(";v=", "; v="));
        assert_eq!(form(&both, "Statusz"), Some(Form::Object("v1beta1")));
    }
}
