//! Functions of the crates `cel` and `kube-cel`, called with values.
//!
//! **Invariant:** a panic of theirs is an error of the expression.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kube_cel::{
    KubeCelExt,
    cel::{
        Context, ExecutionError, Value,
        common::ast::{CallExpr, Expr},
        parser::Expression,
    },
};

use super::Error;

thread_local! {
    static FUNCTIONS: Context<'static> = Context::default().with_all();
}

/// Calls `name`, on `target` if there is one.
pub(super) fn call(name: &str, target: Option<Value>, args: Vec<Value>) -> Result<Value, Error> {
    let ident = |name: String| Expression { id: 0, expr: Expr::Ident(name) };
    let called = catch_unwind(AssertUnwindSafe(|| {
        FUNCTIONS.with(|functions| {
            let mut context = functions.new_inner_scope();
            let count = args.len();
            for (at, it) in args.into_iter().enumerate() {
                context.add_variable_from_value(format!("@{at}"), it);
            }
            let target = target.map(|it| {
                context.add_variable_from_value("@", it);
                Box::new(ident("@".to_owned()))
            });
            let call = CallExpr {
                func_name: name.to_owned(),
                target,
                args: (0..count).map(|at| ident(format!("@{at}"))).collect(),
            };
            context.resolve(&Expression { id: 0, expr: Expr::Call(call) })
        })
    }));
    match called {
        Ok(result) => result.map_err(|error| told(&error)),
        Err(_) => Err(Error::told(format!("{name}: the function panicked"))),
    }
}

/// An error of the crate in the words of cel-go.
pub(super) fn told(error: &ExecutionError) -> Error {
    Error::Told(match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedUnaryOperator(..)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::ValuesNotComparable(..) => "no such overload".to_owned(),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(at) => match at {
            Value::Int(at) => format!("index out of bounds: {at}"),
            _ => "index out of bounds".to_owned(),
        },
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => other.to_string(),
    })
}
