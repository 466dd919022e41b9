//! The Common Expression Language as Kubernetes has it: what policies, match conditions and the rules
//! of custom resources are written in.
//!
//! [`compile`] parses (the crate `cel` does that), checks types and gives a [`Program`];
//! [`Program::eval`] walks the tree. The walk is our own: it counts what it does against a
//! [`Budget`], reads variables only when they are wanted, and builds structures (`Object{…}`).
//! Functions that need no such care are those of the crate `kube-cel`.
//!
//! **Invariant:** what is compiled is bounded in length, depth and operators, since the parser and
//! the walk recurse: one that ran out of stack would end the process. An evaluation ends when its
//! budget is used up, and no operator of the expression hides that.
//!
//! Upstream: k8s.io/apiserver/pkg/cel.
//!
//! Deviation: what an expression costs while it runs is counted much like upstream's, but not to the
//! last unit. (What it may cost at most, which definitions are refused by, is: see [`Bound`].)

mod bindings;
mod check;
mod constants;
mod cost;
mod eval;
mod functions;
mod library;
mod lists;
mod overloads;
mod place;
mod shape;
#[cfg(test)]
mod tests;
mod types;
pub(crate) mod value;

use std::{fmt, sync::Arc};

pub(crate) use kube_cel::cel::Value;
use kube_cel::cel::{
    objects::Opaque,
    parser::{Expression, Parser},
};

pub(crate) use self::cost::Bound;
pub(crate) use self::lists::{Keys, Lists};
pub(crate) use self::types::{Fields, Record, Type};
use crate::metrics::{admission::COMPILED, histogram::Timed};

const LONGEST: usize = 10 * 1024;
/// Signs before a value, one behind the other.
const MOST_PREFIXES: usize = 64;
/// Each may be a level of the expression's tree.
const MOST_OPERATORS: usize = 512;
/// Of brackets and choices in each other: a dozen of the parser's functions for each.
const MOST_NESTED: usize = 16;
/// The generated parser outgrows a worker's stack within these bounds: it, and the walk of what is
/// deep, run on one of their own, of which the kernel gives what is touched.
const STACK: usize = 256 << 20;
/// A tree of so many levels is walked where the caller stands.
const SHALLOW: usize = 48;
/// What evaluations about one object may cost before they leave the worker that they began on: a few
/// milliseconds.
const INLINE: u64 = 20_000;
/// With the variables that it reads, an expression has at most so many levels.
const DEEPEST: usize = 4096;

/// What one expression may cost. Upstream: `PerCallLimit`.
pub(crate) const PER_EXPRESSION: u64 = 1_000_000;
/// What all expressions about one object may cost. Upstream: `RuntimeCELCostBudget`.
pub(crate) const PER_OBJECT: u64 = 10_000_000;

/// What an expression may name, and what types that has.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: Vec<(String, Type)>,
    /// `Object{…}`, `JSONPatch{…}`: the type of that name.
    structs: Option<fn(&str) -> Option<Type>>,
    has_bindings: bool,
}

impl Environment {
    pub(crate) fn with(mut self, name: &str, of: Type) -> Self {
        self.variables.retain(|(it, _)| it != name);
        self.variables.push((name.to_owned(), of));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(it, _)| it != name);
        self
    }

    /// With `cel.bind`.
    pub(crate) fn with_bindings(mut self) -> Self {
        self.has_bindings = true;
        self
    }

    pub(crate) fn with_structs(mut self, structs: fn(&str) -> Option<Type>) -> Self {
        self.structs = Some(structs);
        self
    }

    fn find(&self, name: &str) -> Option<&Type> {
        self.variables.iter().find(|(it, _)| it == name).map(|(_, of)| of)
    }
}

/// What the names of an expression stand for while it runs.
pub(crate) trait Scope: Sync {
    /// `None`: no such name. What is computed for it is paid from `budget`.
    fn get(&self, name: &str, budget: &mut Budget) -> Option<Result<Value, Error>>;

    /// The field of a name of which fields are computed one by one, like `variables`. `None`: the
    /// name is not of that kind.
    fn field(&self, name: &str, field: &str, budget: &mut Budget) -> Option<Result<Value, Error>> {
        let _ = (name, field, budget);
        None
    }

    /// Which of the lists in its values are no plain ones.
    fn lists(&self) -> Option<&Lists> {
        None
    }
}

/// What evaluations may still cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u64,
    /// Of the expression that runs now: never more.
    within: u64,
    /// What may still be spent where the caller stands, on a worker that others wait for.
    inline: u64,
}

impl Budget {
    pub(crate) fn new(all: u64) -> Self {
        Self { left: all, within: PER_EXPRESSION.min(all), inline: INLINE }
    }

    fn charge(&mut self, cost: u64) -> Result<(), Error> {
        if cost > self.within {
            let is_last = self.left == self.within;
            self.left -= self.within;
            self.within = 0;
            return Err(if is_last { Error::Budget } else { Error::Cost });
        }
        self.left -= cost;
        self.within -= cost;
        self.inline = self.inline.saturating_sub(cost);
        Ok(())
    }
}

/// What a function of a [`Receiver`] costs. Upstream: the authorizer's.
const RECEIVER_COST: u64 = 350;

type Method = dyn Fn(&str, &[Value]) -> Result<Value, Error> + Send + Sync;

/// A value of which functions are the caller's own, like the authorizer's: it gets the name and the
/// arguments of each.
pub(crate) struct Receiver(Box<Method>);

impl Receiver {
    pub(crate) fn value(
        call: impl Fn(&str, &[Value]) -> Result<Value, Error> + Send + Sync + 'static,
    ) -> Value {
        Value::Opaque(Arc::new(Self(Box::new(call))))
    }
}

/// Each is itself alone.
impl PartialEq for Receiver {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Receiver {}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

impl Opaque for Receiver {
    fn runtime_type_name(&self) -> &str {
        "receiver"
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The expression cost more than one may.
    Cost,
    /// All together cost more than they may.
    Budget,
    /// What a [`Receiver`] has to find out first: the caller does, and begins anew.
    Waits,
    /// As the expression's own error: `no such key: a`.
    Told(String),
}

impl Error {
    pub(crate) fn told(why: impl Into<String>) -> Self {
        Self::Told(why.into())
    }

    /// `&&` and the like pass by an expression's own errors only.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Told(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cost => "operation cancelled: actual cost limit exceeded",
            Self::Budget => {
                "validation failed due to running out of cost budget, no further validation rules \
                 will be run"
            }
            Self::Waits => "the authorizer has not answered",
            Self::Told(why) => why,
        })
    }
}

/// An expression that can run.
pub(crate) struct Program {
    root: Expression,
    /// What it gives, as far as that is known.
    pub(crate) result: Type,
    /// Levels of its tree, with those of the variables that it reads.
    depth: usize,
    /// `variables.a`: the fields that it may read of each name.
    fields: Vec<(String, String)>,
    written: eval::Written,
}

/// Compiles what gives one of `wanted` (nothing: anything).
pub(crate) fn compile(
    expression: &str,
    environment: &Environment,
    wanted: &[Type],
) -> Result<Program, String> {
    compile_within(expression, environment, wanted, None).map(|it| it.0)
}

/// As [`compile`], and tells what it can cost at most, with variables of at most that size.
pub(crate) fn estimate(
    expression: &str,
    environment: &Environment,
    wanted: &[Type],
    bound: &Bound,
) -> Result<(Program, u64), String> {
    compile_within(expression, environment, wanted, Some(bound))
}

fn compile_within(
    expression: &str,
    environment: &Environment,
    wanted: &[Type],
    bound: Option<&Bound>,
) -> Result<(Program, u64), String> {
    bounded(expression)?;
    let _took = Timed::new(&COMPILED);
    with_room(|| {
        let parser = Parser::new().enable_optional_syntax(true);
        let failed = |why: &dyn fmt::Display| format!("compilation failed: {why}");
        let mut root = parser.parse(expression).map_err(|why| failed(&why))?;
        if environment.has_bindings {
            bindings::expand(&mut root).map_err(|why| failed(&why))?;
        }
        let checked = check::check(&root, expression, environment).map_err(|why| failed(&why))?;
        let fits = wanted.is_empty() || wanted.iter().any(|it| checked.result.may_be(it));
        if !fits {
            return Err(unwanted(wanted));
        }
        let most = bound.map_or(0, |it| cost::most(&root, &checked.facts, it));
        let depth = check::depth(&root);
        let check::Checked { result, fields, patterns, .. } = checked;
        let constants = constants::Constants::of(&root);
        let written = eval::Written { patterns, constants };
        Ok((Program { root, result, depth, fields, written }, most))
    })
}

fn unwanted(wanted: &[Type]) -> String {
    match wanted {
        [one] => format!("must evaluate to {one}"),
        all => {
            let names: Vec<_> = all.iter().map(ToString::to_string).collect();
            format!("must evaluate to one of {}", names.join(", "))
        }
    }
}

fn bounded(expression: &str) -> Result<(), String> {
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
    Ok(())
}

impl Program {
    /// Levels that an evaluation needs, with those of what it reads.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The fields of `name` that the expression may read.
    pub(crate) fn reads<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(it, _)| it == name).map(|(_, field)| field.as_str())
    }

    /// Says that what it reads needs so many levels more. Refuses what would need too many.
    pub(crate) fn deepened(mut self, by: usize) -> Result<Self, String> {
        self.depth += by;
        if self.depth > DEEPEST {
            return Err("it is nested too deep".to_owned());
        }
        Ok(self)
    }

    /// Runs it. What it costs is taken from `budget`.
    pub(crate) fn eval(&self, scope: &dyn Scope, budget: &mut Budget) -> Result<Value, Error> {
        if self.depth <= SHALLOW {
            return match self.begin(scope, budget) {
                Some(value) => value,
                None => off_worker(|| self.eval_within(scope, budget)),
            };
        }
        with_room(|| Ok(self.eval_within(scope, budget)))
            .unwrap_or_else(|why| Err(Error::Told(why)))
    }

    /// Evaluates it where the caller stands, if what may be spent there suffices; if not, nothing was
    /// spent.
    fn begin(&self, scope: &dyn Scope, budget: &mut Budget) -> Option<Result<Value, Error>> {
        let mut trial = *budget;
        trial.within = PER_EXPRESSION.min(trial.left).min(trial.inline);
        let is_whole = trial.within == PER_EXPRESSION.min(trial.left);
        let value = eval::run(&self.root, &self.written, scope, &mut trial);
        if !is_whole && matches!(value, Err(Error::Cost | Error::Budget)) {
            budget.inline = 0;
            return None;
        }
        let outer = budget.within;
        *budget = trial;
        budget.within = outer.min(budget.left);
        Some(value)
    }

    /// As [`Program::eval`], for one of which others are evaluated by the way: it stands on their
    /// stack already.
    pub(crate) fn eval_within(
        &self,
        scope: &dyn Scope,
        budget: &mut Budget,
    ) -> Result<Value, Error> {
        let outer = budget.within;
        budget.within = PER_EXPRESSION.min(budget.left);
        let value = eval::run(&self.root, &self.written, scope, budget);
        budget.within = outer.min(budget.left);
        value
    }
}

/// Does `work` on a thread with a stack for recursion.
fn with_room<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    off_worker(|| {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(STACK);
            let started = thread.spawn_scoped(scope, work).map_err(|error| error.to_string())?;
            started.join().unwrap_or_else(|_| Err("its evaluation panicked".to_owned()))
        })
    })
}

/// Does what takes long while another thread goes on with the tasks of this one, where there is another.
fn off_worker<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|it| it.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
