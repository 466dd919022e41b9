//! What the client wants to get: the format, and whether as objects, a table or metadata only.
//!
//! The first clause that can be had wins, in the order of their `q`; of equal ones those without a
//! wildcard come first.
//!
//! Upstream: the negotiation package of k8s.io/apiserver, and goautoneg.

use http::{HeaderMap, header::ACCEPT};

use crate::{resources::Resource, status::Status};

const TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

const STREAM_TYPES: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => kube_protobuf::MEDIA_TYPE,
        }
    }
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

/// The version of tables and of objects' metadata; the older one has the same fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Meta {
    #[default]
    V1,
    V1Beta1,
}

impl Meta {
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) format: Format,
    pub(crate) form: Form,
    pub(crate) meta: Meta,
}

/// One clause of an Accept header.
struct Clause<'a> {
    media: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<_> = parts.filter_map(|it| it.split_once('=')).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q");
        // What is no number is none, as upstream.
        let quality = quality.map_or(1.0, |(_, value)| value.parse().unwrap_or_default());
        Self { media, quality, parameters }
    }

    fn is_wild(&self) -> bool {
        self.media.contains('*')
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
    }

    /// What the clause asks for, if there is such a thing.
    fn accept(&self) -> Option<Accept> {
        let format = match self.media {
            "application/json" | "*/*" | "application/*" | "*" => Format::Json,
            "application/yaml" => Format::Yaml,
            kube_protobuf::MEDIA_TYPE => Format::Protobuf,
            _ => return None,
        };
        if self.parameter("stream").is_some_and(|it| !matches!(it, "" | "watch")) {
            return None;
        }
        let meta = if self.parameter("v") == Some("v1beta1") { Meta::V1Beta1 } else { Meta::V1 };
        let form = match (self.parameter("as"), self.parameter("g"), self.parameter("v")) {
            (None, ..) => Form::Object,
            (Some(form), Some("meta.k8s.io"), Some("v1" | "v1beta1")) => match form {
                "Table" => Form::Table,
                "PartialObjectMetadata" => Form::PartialMetadata,
                "PartialObjectMetadataList" => Form::PartialMetadataList,
                _ => return None,
            },
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
                Form::AggregatedDiscovery
            }
            _ => return None,
        };
        Some(Accept { format, form, meta })
    }
}

/// Of a resource: tables hold anything in their cells, which messages cannot, and custom objects
/// have no message.
pub(crate) fn of_resource(
    headers: &HeaderMap,
    resource: &Resource,
    verb: &str,
) -> Result<Accept, Status> {
    let can_be_had = |it: &Accept| match (it.form, it.format) {
        (Form::AggregatedDiscovery, _) | (Form::Table, Format::Protobuf) => false,
        (Form::Object, Format::Protobuf) => resource.custom.is_none(),
        _ => true,
    };
    let is_stream = verb == "watch";
    let found = first(headers, can_be_had).filter(|it| !is_stream || it.format != Format::Yaml);
    let types = if is_stream { STREAM_TYPES } else { TYPES };
    found.ok_or_else(|| Status::not_acceptable(types))
}

/// Of what is shown as it is only: a review has no metadata, nor has a document of discovery.
pub(crate) fn of_object(headers: &HeaderMap) -> Result<Accept, Status> {
    let found = first(headers, |it| it.form == Form::Object);
    found.ok_or_else(|| Status::not_acceptable(TYPES))
}

/// Of the groups: all that there is in one document wins wherever it stands.
pub(crate) fn of_groups(headers: &HeaderMap) -> Result<Accept, Status> {
    let is_one = |it: &Accept| it.form == Form::AggregatedDiscovery;
    // Who says nothing is given each group by itself.
    first(headers, is_one).filter(is_one).map_or_else(|| of_object(headers), Ok)
}

/// Of a refusal, which is told in any case.
pub(crate) fn of_status(headers: &HeaderMap) -> Format {
    of_object(headers).unwrap_or_default().format
}

/// Of a document that is no object: the first of these media types that a client takes.
pub(crate) fn of_document<'a>(headers: &HeaderMap, offered: &[&'a str]) -> Option<&'a str> {
    let Some(clauses) = clauses(headers) else { return offered.first().copied() };
    let fits = |clause: &Clause<'_>, it: &str| match clause.media.split_once("/*") {
        Some(("*", "")) => true,
        Some((kind, "")) => it.split('/').next() == Some(kind),
        _ => clause.media == it,
    };
    clauses.iter().find_map(|clause| offered.iter().find(|it| fits(clause, it))).copied()
}

fn first(headers: &HeaderMap, can_be_had: impl Fn(&Accept) -> bool) -> Option<Accept> {
    match clauses(headers) {
        None => Some(Accept::default()),
        Some(clauses) => clauses.iter().filter_map(Clause::accept).find(can_be_had),
    }
}

/// What a client says that it takes, if it says anything, in the order of its wishes.
fn clauses(headers: &HeaderMap) -> Option<Vec<Clause<'_>>> {
    let mut all = headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok()).peekable();
    // An empty one says nothing.
    all.peek().filter(|it| !it.is_empty())?;
    let clauses = all.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty());
    let mut clauses: Vec<Clause<'_>> = clauses.map(Clause::parse).collect();
    clauses.sort_by(|a, b| {
        b.quality.total_cmp(&a.quality).then_with(|| a.is_wild().cmp(&b.is_wild()))
    });
    Some(clauses)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::{Catalog, custom};

    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

    fn headers(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, text.parse().unwrap())])
    }

    fn of(text: &str, verb: &str) -> Result<(Format, Form), Status> {
        let pods = Catalog::builtin().find("", "v1", "pods").unwrap();
        of_resource(&headers(text), &pods, verb).map(|it| (it.format, it.form))
    }

    fn of_custom(text: &str) -> Result<(Format, Form), Status> {
        let definition = json!({"spec": {
            "group": "x.io", "names": {"plural": "xs", "kind": "X"}, "scope": "Cluster",
            "versions": [{"name": "v1", "served": true, "schema": {}}],
        }});
        let custom = custom::resources(&definition).remove(0);
        of_resource(&headers(text), &custom, "get").map(|it| (it.format, it.form))
    }

    #[test]
    fn the_first_clause_that_can_be_had_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=\
                       v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(of(kubectl, "get").unwrap(), (Format::Json, Form::Table));
        let go = format!("{PROTOBUF}, application/json");
        assert_eq!(of(&go, "get").unwrap(), (Format::Protobuf, Form::Object));
        assert_eq!(of("*/*", "get").unwrap(), (Format::Json, Form::Object));
        let table = format!("{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,application/json");
        assert_eq!(of(&table, "get").unwrap(), (Format::Json, Form::Object));
    }

    #[test]
    fn an_empty_header_says_nothing() {
        assert_eq!(of("", "get").unwrap(), (Format::Json, Form::Object));
        assert_eq!(of_groups(&headers("")).unwrap().form, Form::Object);
        assert_eq!(of_document(&headers(""), &["text/plain"]), Some("text/plain"));
        assert_eq!(of(",", "get").unwrap_err().code, 406);
    }

    #[test]
    fn what_is_wanted_more_comes_first_and_a_wildcard_last() {
        let found = of(&format!("application/json;q=0.5,{PROTOBUF};q=0.8"), "get").unwrap();
        assert_eq!(found.0, Format::Protobuf);
        assert_eq!(of(&format!("*/*,{PROTOBUF}"), "get").unwrap().0, Format::Protobuf);
        assert_eq!(
            of("application/yaml;q=x,application/json;q=0.1", "get").unwrap().0,
            Format::Json
        );
    }

    #[test]
    fn custom_objects_come_as_protobuf_by_their_metadata_only() {
        let refused = of_custom(PROTOBUF).unwrap_err();
        assert_eq!(refused.code, 406);
        assert_eq!(
            refused.message,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
        assert_eq!(of_custom(&format!("{PROTOBUF},*/*")).unwrap().0, Format::Json);
        let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        assert_eq!(of_custom(&partial).unwrap(), (Format::Protobuf, Form::PartialMetadata));
    }

    #[test]
    fn there_are_no_streams_of_yaml_and_nothing_in_cbor() {
        let refused = of("application/yaml", "watch").unwrap_err();
        assert_eq!(
            refused.message,
            "only the following media types are accepted: application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
        let stream = format!("{PROTOBUF};stream=watch");
        assert_eq!(of(&stream, "watch").unwrap().0, Format::Protobuf);
        assert_eq!(of("application/json;stream=other", "watch").unwrap_err().code, 406);
        assert_eq!(of("application/cbor", "get").unwrap_err().code, 406);
        assert_eq!(of_status(&headers("application/cbor")), Format::Json);
        assert_eq!(of_status(&headers(PROTOBUF)), Format::Protobuf);
    }

    #[test]
    fn a_review_is_no_table_but_what_comes_next() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(of_object(&headers(table)).unwrap_err().code, 406);
        let both = headers(&format!("{table},application/json"));
        assert_eq!(of_object(&both).unwrap().form, Form::Object);
    }

    #[test]
    fn discovery_in_one_document_wins_wherever_it_stands() {
        let form = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let both = headers(&format!("application/json,{PROTOBUF};{form}"));
        let found = of_groups(&both).unwrap();
        assert_eq!((found.format, found.form), (Format::Protobuf, Form::AggregatedDiscovery));
        assert_eq!(of_groups(&HeaderMap::new()).unwrap().form, Form::Object);
    }
}
