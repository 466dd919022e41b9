//! Objects as rows: what `kubectl get` prints.
//!
//! Each kind has a [`Printer`]: its columns, and a function from an object to the cells.
//!
//! Upstream: pkg/printers/internalversion/printers.go.

mod cluster;
mod config;
mod custom;
mod network;
mod pods;
mod settings;
mod targets;
mod text;
mod workloads;

pub(crate) use self::custom::path_parts;
use clock::Clock;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{convert, negotiate::Meta, render::partial, resources::Resource};

/// How much of each object goes with its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    #[default]
    Metadata,
    Object,
    None,
}

/// How a client wants its tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) include: Include,
    pub(crate) meta: Meta,
    pub(crate) clock: Clock,
}

impl View {
    /// `text` is the query's `includeObject`.
    pub(crate) fn parse(text: Option<&str>, meta: Meta, clock: Clock) -> Self {
        let include = match text {
            Some("Object") => Include::Object,
            Some("None") => Include::None,
            _ => Include::Metadata,
        };
        Self { include, meta, clock }
    }
}

/// Name, type, and whether it is shown only by `-o wide`.
pub(super) struct Column(&'static str, Kind, bool);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Flag,
    Date,
}

const fn narrow(name: &'static str) -> Column {
    Column(name, Kind::Text, false)
}

const fn wide(name: &'static str) -> Column {
    Column(name, Kind::Text, true)
}

const fn number(name: &'static str) -> Column {
    Column(name, Kind::Number, false)
}

/// How one kind is printed.
pub(super) struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

const DEFAULT: Printer = Printer {
    columns: &[narrow("Name"), Column("Created At", Kind::Date, false)],
    cells: |object, _| {
        vec![object["metadata"]["name"].clone(), object["metadata"]["creationTimestamp"].clone()]
    },
};

fn printer(group: &str, plural: &str) -> &'static Printer {
    let found = pods::printer(group, plural)
        .or_else(|| workloads::printer(group, plural))
        .or_else(|| network::printer(group, plural))
        .or_else(|| cluster::printer(group, plural))
        .or_else(|| config::printer(group, plural))
        .or_else(|| settings::printer(group, plural));
    found.unwrap_or(&DEFAULT)
}

/// A `Table` of these objects.
pub(crate) fn render(resource: &Resource, objects: &[Value], metadata: Value, view: View) -> Value {
    let now = view.clock.now();
    let (columns, rows): (Vec<Value>, Vec<Vec<Value>>) = match &resource.custom {
        Some(custom) => (
            custom::columns(custom),
            objects.iter().map(|it| custom::cells(custom, it, now)).collect(),
        ),
        None => {
            let printer = printer(&resource.group, &resource.plural);
            let columns = printer.columns.iter().map(Column::definition).collect();
            let cells = |it: &Value| (printer.cells)(&convert::printed(resource, it), now);
            (columns, objects.iter().map(cells).collect())
        }
    };
    let rows: Vec<Value> = rows
        .into_iter()
        .zip(objects)
        .map(|(cells, object)| {
            let mut row = json!({ "cells": cells });
            match view.include {
                Include::Metadata => row["object"] = partial(object, view.meta),
                Include::Object => row["object"] = object.clone(),
                Include::None => row["object"] = Value::Null,
            }
            if resource.is("", "pods")
                && let Some(condition) = pods::row_condition(object)
            {
                row["conditions"] = json!([condition]);
            }
            row
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": view.meta.api_version(), "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

impl Column {
    fn definition(&self) -> Value {
        let kind = match self.1 {
            Kind::Text => "string",
            Kind::Number => "integer",
            Kind::Flag => "boolean",
            Kind::Date => "date",
        };
        let format = if self.0 == "Name" { "name" } else { "" };
        let priority = i32::from(self.2);
        json!({
            "name": self.0, "type": kind, "format": format, "description": "", "priority": priority,
        })
    }
}

#[cfg(test)]
mod tests;
