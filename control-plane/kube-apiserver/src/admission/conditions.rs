//! `matchConditions`: CEL over the request, which keeps most requests from a webhook or a policy.
//!
//! All have to be true. One that is false decides, whatever happens to the others; otherwise an error
//! is an error.
//!
//! Upstream: k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    authz::text,
    cel::{self, Budget, Environment, Error, Program, Scope, Type},
    metrics::match_conditions::Outcome,
};

/// Upstream: `RuntimeCELCostBudgetMatchConditions`.
const BUDGET: u64 = cel::PER_OBJECT / 4;

/// What came of conditions.
pub(super) struct Held {
    pub(super) result: Result<bool, String>,
    errors: u64,
    took: Duration,
}

impl Held {
    pub(super) fn outcome(&self) -> Outcome {
        Outcome { errors: self.errors, is_excluded: false, took: self.took }
    }
}

#[derive(Default)]
pub(super) struct Conditions(Vec<(String, Program)>);

impl Conditions {
    pub(super) fn of(conditions: &[Value], environment: &Environment) -> Result<Self, String> {
        let all = conditions.iter().map(|it| {
            let (name, expression) = (text(it, "/name"), text(it, "/expression"));
            let compiled = cel::compile(expression, environment, &[Type::Bool]);
            Ok((expression.to_owned(), compiled.map_err(|why| format!("{name}: {why}"))?))
        });
        all.collect::<Result<_, String>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says whether they hold.
    pub(super) fn hold(&self, scope: &dyn Scope) -> Held {
        let (began, mut errors) = (Instant::now(), 0);
        let result = self.result(scope, &mut errors);
        Held { result, errors, took: began.elapsed() }
    }

    fn result(&self, scope: &dyn Scope, errors: &mut u64) -> Result<bool, String> {
        let (mut budget, mut failed) = (Budget::new(BUDGET), Vec::new());
        let mut fail = |why: String| {
            *errors += 1;
            if !failed.contains(&why) {
                failed.push(why);
            }
        };
        for (expression, program) in &self.0 {
            match program.eval(scope, &mut budget) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => return Ok(false),
                Ok(_) => fail(format!("expression '{expression}' is not a bool")),
                Err(error @ Error::Budget) => return Err(error.to_string()),
                Err(error) => fail(format!("expression '{expression}' resulted in error: {error}")),
            }
        }
        match failed.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}
