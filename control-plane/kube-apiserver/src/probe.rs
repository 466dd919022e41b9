//! Expressions and definitions by themselves: what the fuzz targets and `make bench` look at, without a
//! server around it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    cel::{self, Budget, Environment, Error, Scope, Type, value},
    custom_resources, decode,
    resources::{Catalog, Resource, custom},
    schema::structural::shaping,
    status::FieldError,
    strategy::Part,
    validation,
};

/// What an expression gives for `object`, or why it gives nothing.
pub fn evaluate(expression: &str, object: &Value) -> Result<Value, String> {
    struct One(cel::Value);
    impl Scope for One {
        fn get(&self, name: &str, _: &mut Budget) -> Option<Result<cel::Value, Error>> {
            (name == "object").then(|| Ok(self.0.clone()))
        }
    }
    let environment = Environment::default().with("object", Type::Dyn);
    let program = cel::compile(expression, &environment, &[])?;
    let mut budget = Budget::new(cel::PER_OBJECT);
    let told = |error: Error| error.to_string();
    let found = program.eval(&One(value::from_json(object)), &mut budget).map_err(told)?;
    value::to_json(&found, &mut budget).map_err(told)
}

/// A CustomResourceDefinition that was accepted; of its versions the first.
#[derive(Debug)]
pub struct Definition(Arc<Resource>);

impl Definition {
    /// Takes a definition as a server would, or says what is wrong with it.
    pub fn of(mut definition: Value) -> Result<Self, Vec<String>> {
        let catalog = Catalog::with(Vec::new(), Vec::new());
        let found = catalog.find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let definitions = found.ok_or_else(|| vec!["there are no definitions".to_owned()])?;
        if let Some(shape) = decode::shape(&definitions) {
            let validation = decode::FieldValidation::Ignore;
            decode::typed(&definitions, &shape, &mut definition, validation)
                .map_err(|status| vec![status.message])?;
        }
        custom_resources::prepare(&mut definition, "2026-01-01T00:00:00Z", &catalog);
        let found = validation::create(&definitions, &definition);
        if !found.is_empty() {
            return Err(told(&found));
        }
        let mut all = custom::resources(&definition);
        if all.is_empty() {
            Err(vec!["no version is served".to_owned()])
        } else {
            Ok(Self(all.remove(0)))
        }
    }

    /// One whose objects have this schema.
    pub fn of_schema(schema: Value) -> Result<Self, Vec<String>> {
        Self::of(json!({
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "things", "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema}}],
            },
        }))
    }

    /// Removes from an object what the schema does not have, and adds its defaults.
    pub fn shape(&self, object: &mut Value) {
        if let Some(custom) = &self.0.custom {
            shaping::prune(object, custom.node(), &mut Vec::new());
            shaping::default(object, custom.node());
        }
    }

    /// What is wrong with an object; `old` is what it replaces.
    pub fn faults(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        told(&match old {
            Some(old) => validation::update(&self.0, Part::Main, old, object).0,
            None => validation::create(&self.0, object),
        })
    }

    /// What its rules alone find.
    pub fn broken_rules(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let custom = self.0.custom.as_ref();
        let found = custom.map(|it| validation::rules::check(it, object, old)).unwrap_or_default();
        told(&found.faults)
    }
}

fn told(faults: &[FieldError]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}
