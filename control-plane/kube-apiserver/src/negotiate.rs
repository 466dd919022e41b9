//! What the client wants to get: the format, and whether as objects, a table or metadata only.
//!
//! Upstream: the negotiation package of k8s.io/apiserver.

use http::{HeaderMap, header::ACCEPT};

use crate::status::Status;

const JSON_TYPES: &str = "application/json, application/yaml, application/json;stream=watch";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
}

/// The form of the objects in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Object,
    Table,
    PartialMetadata,
    PartialMetadataList,
    /// `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
    AggregatedDiscovery,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) format: Format,
    pub(crate) form: Form,
}

/// One clause of an Accept header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|it| it.split_once('=')).collect();
        Self { media, parameters }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
    }

    /// What the clause asks for, if it can be had.
    fn accept(&self) -> Option<Accept> {
        let format = match self.media {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            _ => return None,
        };
        let version = self.parameter("v");
        let form = match (self.parameter("as"), self.parameter("g")) {
            (None, _) => Form::Object,
            (Some("Table"), Some("meta.k8s.io")) if version == Some("v1") => Form::Table,
            (Some("PartialObjectMetadata"), Some("meta.k8s.io")) if version == Some("v1") => {
                Form::PartialMetadata
            }
            (Some("PartialObjectMetadataList"), Some("meta.k8s.io")) if version == Some("v1") => {
                Form::PartialMetadataList
            }
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"))
                if version == Some("v2") =>
            {
                Form::AggregatedDiscovery
            }
            _ => return None,
        };
        Some(Accept { format, form })
    }
}

/// The first clause that can be satisfied (clients of Kubernetes order them by preference).
pub(crate) fn accept(headers: &HeaderMap) -> Result<Accept, Status> {
    first(headers, |_| true)
}

/// The same, of a resource whose objects are shown as they are only: a review has no metadata.
pub(crate) fn accept_object(headers: &HeaderMap) -> Result<Accept, Status> {
    first(headers, |it| it.form == Form::Object)
}

fn first(headers: &HeaderMap, can_be_had: fn(&Accept) -> bool) -> Result<Accept, Status> {
    let mut all = headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok()).peekable();
    if all.peek().is_none() {
        return Ok(Accept::default());
    }
    let mut clauses = all.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty());
    let found = clauses.find_map(|it| Clause::parse(it).accept().filter(can_be_had));
    found.ok_or_else(|| Status::not_acceptable(JSON_TYPES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Accept, Status> {
        accept(&HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())]))
    }

    #[test]
    fn the_first_clause_that_can_be_had_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=\
                       v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(of(kubectl).unwrap().form, Form::Table);
        let go = "application/vnd.kubernetes.protobuf, application/json";
        assert_eq!(of(go).unwrap(), Accept::default());
        assert_eq!(of("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
        assert_eq!(of("*/*").unwrap(), Accept::default());
    }

    #[test]
    fn a_review_is_no_table_but_what_comes_next() {
        let headers = |text: &str| HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())]);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(accept_object(&headers(table)).unwrap_err().code, 406);
        let both = headers(&format!("{table},application/json"));
        assert_eq!(accept_object(&both).unwrap().form, Form::Object);
    }
}
