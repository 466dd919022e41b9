//! `matchConditions`: CEL over the request, which keeps most requests from a webhook.
//!
//! All have to be true. One that is false decides, whatever happens to the others; otherwise an error
//! is an error.
//!
//! **Invariant:** what is compiled is bounded in length, depth and operators, since the parser and
//! the evaluation recurse: one that ran out of stack would end the process.
//!
//! Deviation: the cost of an evaluation is not bounded beyond that.

mod shape;

use std::collections::HashMap;

use kube_cel::{
    KubeCelExt,
    cel::{self, Program, Value as Cel},
};
use serde_json::Value;

use crate::authz::text;

const LONGEST: usize = 10 * 1024;
/// Signs before a value, one behind the other.
const MOST_PREFIXES: usize = 64;
/// Each may be a level of the expression's tree.
const MOST_OPERATORS: usize = 512;
/// Of brackets and choices in each other: a dozen of the parser's functions for each.
const MOST_NESTED: usize = 16;
/// The generated parser outgrows a worker's stack within these bounds: it, and the evaluation, run on
/// one of their own, of which the kernel gives what is touched.
const STACK: usize = 256 << 20;

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
    let shape = shape::of(expression);
    if shape.operators > MOST_OPERATORS {
        return Err("it has too many operators".to_owned());
    }
    if shape.nesting > MOST_NESTED || shape.prefixes > MOST_PREFIXES {
        return Err("it is nested too deep".to_owned());
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
            "!".repeat(MOST_PREFIXES) + "true",
            "-".repeat(MOST_PREFIXES) + "1 == 1",
            "true?true:".repeat(MOST_NESTED) + "true",
            "true?".repeat(MOST_NESTED) + "true" + &":true".repeat(MOST_NESTED),
            "[true].all(x,".repeat(MOST_NESTED / 2) + "x" + &")".repeat(MOST_NESTED / 2),
            "{1:".repeat(MOST_NESTED) + "1" + &"}".repeat(MOST_NESTED) + " == {}",
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

    /// What upstream takes: many signs, and few of them in each other.
    #[test]
    fn many_choices_negations_and_differences_beside_each_other_are_no_depth() {
        let clause = "(!has(object.spec) ? true : object.a - 1 == -object.b - -1)";
        let many = [clause; 30].join(" && ");
        let words = format!("request.name != '{}'", "!?-([{".repeat(200));
        let comment = format!("true // {}\n && true", "((((!!!!----????".repeat(50));
        let list = format!("[{}].size() == 90", ["true ? 1 : 2"; 90].join(", "));
        for expression in [many, words, comment, list] {
            let condition = json!([{ "name": "c", "expression": expression }]);
            let conditions = Conditions::of(condition.as_array().unwrap()).unwrap();
            let request = json!({ "name": "n", "object": { "a": 3, "b": -3 } });
            assert_eq!(conditions.hold(&request), Ok(true), "{expression}");
        }
    }

    #[test]
    fn what_could_outgrow_the_stack_is_refused_with_its_reason() {
        for (expression, why) in [
            ("(".repeat(17) + "true" + &")".repeat(17), "it is nested too deep"),
            ("true?true:".repeat(17) + "true", "it is nested too deep"),
            ("!".repeat(65) + "true", "it is nested too deep"),
            ("- ".repeat(65) + "1 == 1", "it is nested too deep"),
            ("1 + ".repeat(513) + "1 == 1", "it has too many operators"),
            (format!("'{}' == ''", "a".repeat(LONGEST)), "it is longer than 10240 bytes"),
        ] {
            assert_eq!(compiles(&expression), Err(why.to_owned()), "{expression}");
        }
    }
}
