//! `variables.a`: computed when it is first read, once for each policy, binding and parameter.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::{
    admission::expressions::Facts,
    cel::{Budget, Error, Program, Scope, Value},
};

pub(super) struct Variables<'a> {
    facts: &'a Facts,
    programs: &'a [(String, Program)],
    known: Mutex<HashMap<usize, Result<Value, Error>>>,
}

impl<'a> Variables<'a> {
    pub(super) fn of(facts: &'a Facts, programs: &'a [(String, Program)]) -> Self {
        Self { facts, programs, known: Mutex::default() }
    }
}

impl Scope for Variables<'_> {
    fn get(&self, name: &str, budget: &mut Budget) -> Option<Result<Value, Error>> {
        self.facts.get(name, budget)
    }

    fn field(&self, name: &str, field: &str, budget: &mut Budget) -> Option<Result<Value, Error>> {
        if name != "variables" {
            return None;
        }
        let Some(at) = self.programs.iter().position(|(it, _)| it == field) else {
            return Some(Err(Error::told(format!("no such key: {field}"))));
        };
        if let Some(found) = self.known.lock().get(&at) {
            return Some(found.clone());
        }
        let value = self.programs[at].1.eval_within(self, budget).map_err(|error| match error {
            Error::Told(why) => {
                Error::Told(format!("composited variable {field:?} fails to evaluate: {why}"))
            }
            other => other,
        });
        // What ran out of its budget is begun anew, with more of it.
        if !value.as_ref().is_err_and(Error::is_final) {
            self.known.lock().insert(at, value.clone());
        }
        Some(value)
    }
}
