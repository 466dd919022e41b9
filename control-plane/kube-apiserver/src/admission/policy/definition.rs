//! Policies and bindings, read once per change.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    admission::{
        conditions::Conditions,
        expressions::{self, Names},
        matching::Matcher,
    },
    authz::{items, text},
    cel::{self, Environment, Program, Record, Type},
};

/// What a kind of policies does.
pub(super) trait Rules: Sized {
    /// `Object{…}` and the like.
    const STRUCTS: Option<fn(&str) -> Option<Type>>;

    fn of(spec: &Value, compiler: &Compiler) -> Result<Self, String>;
}

pub(super) struct Policy<R> {
    pub(super) name: String,
    /// What it was compiled of.
    spec: Value,
    /// `failurePolicy: Ignore`
    pub(super) fails_open: bool,
    /// `apiVersion` and `kind`
    pub(super) param_kind: Option<(String, String)>,
    pub(super) matcher: Result<Matcher, String>,
    pub(super) compiled: Result<Compiled<R>, String>,
}

pub(super) struct Compiled<R> {
    pub(super) conditions: Conditions,
    pub(super) variables: Vec<(String, Program)>,
    pub(super) rules: R,
}

pub(super) struct Binding {
    pub(super) name: String,
    policy: String,
    /// `None`: all that the policy has.
    pub(super) matcher: Option<Result<Matcher, String>>,
    pub(super) param_ref: Option<Value>,
    pub(super) actions: Vec<String>,
}

/// A policy with the bindings that put it into force.
pub(super) struct Hook<R> {
    pub(super) policy: Arc<Policy<R>>,
    pub(super) bindings: Vec<Arc<Binding>>,
}

/// All that are in force, by their names. Those of `known` that are the same are not compiled again.
pub(super) fn hooks<R: Rules>(
    policies: &[Arc<Value>],
    bindings: &[Arc<Value>],
    known: &[Hook<R>],
) -> Vec<Hook<R>> {
    let mut bindings: Vec<Arc<Binding>> =
        bindings.iter().map(|it| Arc::new(Binding::of(it))).collect();
    bindings.sort_by(|a, b| a.name.cmp(&b.name));
    let hook = |policy: &Arc<Value>| {
        let name = text(policy, "/metadata/name");
        let bindings: Vec<_> = bindings.iter().filter(|it| it.policy == name).cloned().collect();
        let same = known.iter().map(|it| &it.policy);
        let same = same.into_iter().find(|it| it.name == name && it.spec == policy["spec"]);
        let policy = same.cloned().unwrap_or_else(|| Arc::new(Policy::of(name, &policy["spec"])));
        Hook { policy, bindings }
    };
    let mut hooks: Vec<Hook<R>> = policies.iter().map(hook).collect();
    hooks.retain(|it| !it.bindings.is_empty());
    hooks.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
    hooks
}

impl<R: Rules> Policy<R> {
    fn of(name: &str, spec: &Value) -> Self {
        let param_kind = spec["paramKind"].is_object().then(|| {
            let part = |field| text(spec, field).to_owned();
            (part("/paramKind/apiVersion"), part("/paramKind/kind"))
        });
        Self {
            name: name.to_owned(),
            spec: spec.clone(),
            fails_open: spec["failurePolicy"] == "Ignore",
            param_kind,
            matcher: Matcher::of(&spec["matchConstraints"]),
            compiled: Compiled::of(spec),
        }
    }
}

impl<R: Rules> Compiled<R> {
    fn of(spec: &Value) -> Result<Self, String> {
        let mut compiler = Compiler::of(spec, Type::Dyn, R::STRUCTS);
        let conditions =
            Conditions::of(items(spec, "/matchConditions"), &compiler.for_conditions())?;
        let mut variables = Vec::new();
        for it in items(spec, "/variables") {
            let (name, expression) = (text(it, "/name"), text(it, "/expression"));
            variables.push((name.to_owned(), compiler.variable(name, expression)?));
        }
        Ok(Self { conditions, rules: R::of(spec, &compiler)?, variables })
    }
}

impl Binding {
    fn of(binding: &Value) -> Self {
        let spec = &binding["spec"];
        let matcher = &spec["matchResources"];
        let actions = items(spec, "/validationActions").iter().filter_map(Value::as_str);
        Self {
            name: text(binding, "/metadata/name").to_owned(),
            policy: text(spec, "/policyName").to_owned(),
            matcher: matcher.is_object().then(|| Matcher::of(matcher)),
            param_ref: spec["paramRef"].is_object().then(|| spec["paramRef"].clone()),
            actions: actions.map(str::to_owned).collect(),
        }
    }
}

/// Compiles the expressions of one policy, in their order: each may name the variables before it.
pub(crate) struct Compiler {
    environment: Environment,
    variables: Vec<(String, Type)>,
    /// Levels that each variable needs.
    depths: HashMap<String, usize>,
}

impl Compiler {
    /// For a policy's spec; `object` and `oldObject` have that type.
    pub(crate) fn of(
        spec: &Value,
        object: Type,
        structs: Option<fn(&str) -> Option<Type>>,
    ) -> Self {
        let names = Names {
            has_params: spec["paramKind"].is_object(),
            has_authorizer: true,
            has_namespace: true,
        };
        let mut environment = expressions::environment(names, object);
        if let Some(structs) = structs {
            environment = environment.with_structs(structs);
        }
        let mut it = Self { environment, variables: Vec::new(), depths: HashMap::new() };
        it.declare();
        it
    }

    /// `params` have that type.
    pub(crate) fn with_params(mut self, of: Type) -> Self {
        self.environment = self.environment.with("params", of);
        self
    }

    /// What match conditions may name: no variables.
    pub(crate) fn for_conditions(&self) -> Environment {
        self.environment.clone().without("variables")
    }

    fn declare(&mut self) {
        let all = Record::of("kubernetes.variables", self.variables.iter().cloned());
        self.environment = std::mem::take(&mut self.environment).with("variables", all);
    }

    /// Compiles a variable and lets those behind it name it, even if it is none.
    pub(crate) fn variable(&mut self, name: &str, expression: &str) -> Result<Program, String> {
        let compiled = self.compile(expression, &[]);
        let of = compiled.as_ref().map_or(Type::Dyn, |it| it.result.clone());
        self.variables.push((name.to_owned(), of));
        self.depths.insert(name.to_owned(), compiled.as_ref().map_or(0, Program::depth));
        self.declare();
        compiled
    }

    /// A message's expression: nobody is asked what one may do.
    pub(crate) fn compile_message(&self, expression: &str) -> Result<Program, String> {
        let environment = self.environment.clone().without("authorizer");
        self.compile_in(expression, &environment, &[Type::String])
    }

    pub(crate) fn compile(&self, expression: &str, wanted: &[Type]) -> Result<Program, String> {
        self.compile_in(expression, &self.environment, wanted)
    }

    fn compile_in(
        &self,
        expression: &str,
        environment: &Environment,
        wanted: &[Type],
    ) -> Result<Program, String> {
        let program = cel::compile(expression, environment, wanted)?;
        let below = program.reads("variables").filter_map(|it| self.depths.get(it)).max().copied();
        program.deepened(below.unwrap_or_default())
    }
}
