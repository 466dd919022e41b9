//! Objects as rows: what `kubectl get` prints.
//!
//! Upstream: pkg/printers/internalversion/printers.go.

use serde_json::{Value, json};

use crate::{render::partial, resources::Resource};

/// How much of each object goes with its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    #[default]
    Metadata,
    Object,
    None,
}

impl Include {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Object") => Self::Object,
            Some("None") => Self::None,
            _ => Self::Metadata,
        }
    }
}

/// A `Table` of these objects.
pub(crate) fn render(
    _resource: &Resource,
    objects: &[Value],
    metadata: Value,
    include: Include,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells =
                json!([object["metadata"]["name"], object["metadata"]["creationTimestamp"]]);
            let mut row = json!({ "cells": cells });
            match include {
                Include::Metadata => row["object"] = partial(object),
                Include::Object => row["object"] = object.clone(),
                Include::None => {}
            }
            row
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": [
            {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": "", "priority": 0},
        ],
        "rows": rows,
    })
}
