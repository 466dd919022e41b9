//! `matchConditions`: CEL over the request, which keeps most requests from a webhook.
//!
//! All have to be true. One that is false decides, whatever happens to the others; otherwise an error
//! is an error.
//!
//! **Invariant:** what is compiled is bounded in length, depth and operators, since the parser and
//! the evaluation recurse: one that ran out of stack would end the process.
//!
//! Deviation: the cost of an evaluation is not bounded beyond that.

use std::collections::HashMap;

use kube_cel::{
    KubeCelExt,
    cel::{self, Program, Value as Cel},
};
use serde_json::Value;

use crate::authz::text;

const LONGEST: usize = 10 * 1024;
const DEEPEST: usize = 64;
/// Each may be a level of the expression's tree. Those in texts count too.
const MOST_OPERATORS: usize = 256;
/// The generated parser outgrows a worker's stack within these bounds: it, and the evaluation, run on
/// one of their own, of which the kernel gives what is touched.
const STACK: usize = 256 << 20;
/// Of brackets and choices alone.
const MOST_NESTED: usize = 16;

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
        with_room(|| self.evaluate(request))
    }

    fn evaluate(&self, request: &Value) -> Result<bool, String> {
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
    if operators(expression) > MOST_OPERATORS {
        return Err("it has too many operators".to_owned());
    }
    if nesting(expression) > MOST_NESTED {
        return Err("it is nested too deep".to_owned());
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
    with_room(|| {
        Program::compile(expression).map_err(|error| format!("compilation failed: {error}"))
    })
}

/// Does `work` on a thread with a stack for recursion.
fn with_room<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(STACK);
        let started = thread.spawn_scoped(scope, work).map_err(|error| error.to_string())?;
        started.join().unwrap_or_else(|_| Err("its evaluation panicked".to_owned()))
    })
}

/// Signs, and the word `in`.
fn operators(expression: &str) -> usize {
    let signs = expression.bytes().filter(|it| b"+-*/%<>=!&|?:.,[({".contains(it)).count();
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    let words = expression.split(|it: char| !is_part(it)).filter(|it| *it == "in").count();
    signs + words
}

/// How deep brackets and choices lie in each other: a dozen of the parser's functions for each.
fn nesting(expression: &str) -> usize {
    let (mut open, mut deepest, mut choices) = (0_usize, 0, 0);
    for letter in expression.bytes() {
        match letter {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'?' => choices += 1,
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest + choices
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_of_any_shape_is_refused_or_evaluated_and_ends_no_thread() {
        let most = MOST_OPERATORS;
        let shapes = [
            "1+".repeat(most - 10) + "1 == 1",
            "true&&".repeat(most / 2 - 1) + "true",
            "object".to_owned() + &".a".repeat(most - 1),
            "object".to_owned() + &"[0]".repeat(most - 1),
            "1 in ".repeat(most - 2) + "[1]",
            "(".repeat(MOST_NESTED) + "true" + &")".repeat(MOST_NESTED),
            "!".repeat(DEEPEST) + "true",
            "true?true:".repeat(MOST_NESTED) + "true",
            "[".repeat(MOST_NESTED) + &"]".repeat(MOST_NESTED) + " == []",
            "1+".repeat(LONGEST / 2 - 5) + "1 == 1",
            "true&&".repeat(LONGEST / 6 - 5) + "true",
            "true?true:".repeat(LONGEST / 10 - 5) + "true",
            "object".to_owned() + &".a".repeat(LONGEST / 2 - 10),
            "object".to_owned() + &"[0]".repeat(LONGEST / 3 - 10),
            "(".repeat(LONGEST / 2),
            "!".repeat(LONGEST - 10) + "true",
            "1 in ".repeat(LONGEST / 5 - 5) + "[1]",
            "true||false&&".repeat(LONGEST / 13 - 5) + "true",
        ];
        for shape in shapes {
            let condition = json!([{"name": "c", "expression": shape}]);
            // Refused, or an answer: either is one.
            if let Ok(conditions) = Conditions::of(condition.as_array().unwrap()) {
                drop(conditions.hold(&json!({"object": {"a": 1}})));
            }
        }
    }
}
