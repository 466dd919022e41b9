//! `matchConditions`: CEL over the request, which keeps most requests from a webhook.
//!
//! All have to be true. One that is false decides, whatever happens to the others; otherwise an error
//! is an error.
//!
//! **Invariant:** what is compiled is bounded in length and depth, since the parser recurses.

use std::collections::HashMap;

use kube_cel::{
    KubeCelExt,
    cel::{self, Program, Value as Cel},
};
use serde_json::Value;

use crate::authz::text;

const LONGEST: usize = 10 * 1024;
const DEEPEST: usize = 64;

#[derive(Default)]
pub(super) struct Conditions(Vec<(String, Program)>);

impl Conditions {
    pub(super) fn of(conditions: &[Value]) -> Result<Self, String> {
        let all = conditions.iter().map(|it| {
            let (name, expression) = (text(it, "/name"), text(it, "/expression"));
            let compiled = compile(expression).map_err(|why| format!("{name}: {why}"))?;
            Ok((name.to_owned(), compiled))
        });
        all.collect::<Result<_, String>>().map(Self)
    }

    /// Says whether they hold for a review's request.
    pub(super) fn hold(&self, request: &Value) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let mut context = cel::Context::default();
        context.register_all();
        for (name, field) in [("object", "object"), ("oldObject", "oldObject")] {
            context.add_variable_from_value(name, value(&request[field]));
        }
        let mut bare = request.clone();
        if let Some(fields) = bare.as_object_mut() {
            fields.remove("object");
            fields.remove("oldObject");
        }
        context.add_variable_from_value("request", value(&bare));
        let mut failed = None;
        for (name, program) in &self.0 {
            match program.execute(&context) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => drop(failed.get_or_insert(format!("{name}: it is not a bool"))),
                Err(error) => drop(failed.get_or_insert(format!("{name}: {error}"))),
            }
        }
        failed.map_or(Ok(true), Err)
    }
}

/// Why an expression is none.
pub(crate) fn compiles(expression: &str) -> Result<(), String> {
    compile(expression).map(drop)
}

fn compile(expression: &str) -> Result<Program, String> {
    if expression.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let mut depth = 0_usize;
    for letter in expression.bytes() {
        match letter {
            b'(' | b'[' | b'{' | b'?' | b'!' | b'-' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err("it is nested too deep".to_owned());
        }
    }
    Program::compile(expression).map_err(|error| format!("compilation failed: {error}"))
}

/// JSON as CEL has it: whole numbers are ints.
fn value(json: &Value) -> Cel {
    match json {
        Value::Null => Cel::Null,
        Value::Bool(it) => Cel::Bool(*it),
        Value::Number(it) => match it.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(it.as_f64().unwrap_or_default()),
        },
        Value::String(it) => it.as_str().into(),
        Value::Array(all) => all.iter().map(value).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, it)| (key.clone(), value(it)));
            fields.collect::<HashMap<String, Cel>>().into()
        }
    }
}
