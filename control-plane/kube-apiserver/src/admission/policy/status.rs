//! `status` of a ValidatingAdmissionPolicy: what its expressions get wrong about the kinds that it
//! names.
//!
//! The warnings change nothing of what the policy does.
//!
//! Deviation: a policy is checked in the write that brings or changes it; upstream's controller does
//! it a moment later.
//!
//! Upstream: typechecking.go of k8s.io/apiserver/pkg/admission/plugin/policy/validating.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{definition::Compiler, types};
use crate::{
    authz::{items, text},
    cel::Type,
    decode,
    resources::{Catalog, Resource},
};

/// Upstream: `maxTypesToCheck`.
const MOST_TYPES: usize = 10;
const COMPILATION: &str = "compilation failed: ";

/// Fills in the status of a policy that is new, or of another generation than the one that was
/// checked.
pub(crate) fn prepare(catalog: &Catalog, policy: &mut Value) {
    let generation = policy["metadata"]["generation"].clone();
    if policy["status"]["observedGeneration"] == generation
        && policy["status"]["typeChecking"].is_object()
    {
        return;
    }
    let warnings = warnings(catalog, &policy["spec"]);
    let checked =
        if warnings.is_empty() { json!({}) } else { json!({ "expressionWarnings": warnings }) };
    if !policy["status"].is_object() {
        policy["status"] = json!({});
    }
    policy["status"]["observedGeneration"] = generation;
    policy["status"]["typeChecking"] = checked;
}

fn warnings(catalog: &Catalog, spec: &Value) -> Vec<Value> {
    let kinds = kinds(catalog, &spec["matchConstraints"]);
    let kinds: Vec<(String, Compiler)> =
        kinds.iter().filter_map(|it| Some((shown(it), compiler(catalog, spec, it)?))).collect();
    let mut warnings = Vec::new();
    for (at, validation) in items(spec, "/validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = validation[field].as_str().unwrap_or_default();
            if expression.trim().is_empty() {
                continue;
            }
            let found: Vec<String> =
                kinds.iter().filter_map(|(kind, it)| wrong(kind, it, expression)).collect();
            if !found.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{at}].{field}"),
                    "warning": found.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// As Go prints a kind with its group and version.
fn shown(kind: &Resource) -> String {
    let Resource { group, version, kind, .. } = kind;
    format!("{group}/{version}, Kind={kind}")
}

/// For expressions about objects of that kind.
fn compiler(catalog: &Catalog, spec: &Value, kind: &Resource) -> Option<Compiler> {
    let object = types::of_schema(decode::shape(kind)?);
    let mut compiler = Compiler::of(spec, object, None);
    let param = &spec["paramKind"];
    let param = catalog.of_kind(text(param, "/apiVersion"), text(param, "/kind"));
    if let Some(shape) = param.as_deref().and_then(decode::shape) {
        compiler = compiler.with_params(types::of_schema(shape));
    }
    for it in items(spec, "/variables") {
        drop(compiler.variable(text(it, "/name"), text(it, "/expression")));
    }
    Some(compiler)
}

/// What is wrong with an expression about objects of a kind.
fn wrong(kind: &str, compiler: &Compiler, expression: &str) -> Option<String> {
    let anything: &[Type] = &[];
    let why = compiler.compile(expression, anything).err()?;
    Some(format!("{kind}: {}\n", why.strip_prefix(COMPILATION).unwrap_or(&why)))
}

/// The kinds that the rules name without a wildcard.
fn kinds(catalog: &Catalog, constraints: &Value) -> Vec<Arc<Resource>> {
    let mut found: Vec<Arc<Resource>> = Vec::new();
    for rule in items(constraints, "/resourceRules") {
        let words = |field: &str| {
            let all = items(rule, field).iter().filter_map(Value::as_str);
            all.collect::<Vec<_>>()
        };
        let (groups, versions) = (words("/apiGroups"), words("/apiVersions"));
        if [&groups, &versions].iter().any(|it| it.iter().any(|it| it.contains('*'))) {
            continue;
        }
        let resources = words("/resources");
        let resources = resources.iter().filter(|it| !it.contains(['*', '/']));
        for resource in resources {
            for (group, version) in
                groups.iter().flat_map(|group| versions.iter().map(move |it| (group, it)))
            {
                found.extend(catalog.find(group, version, resource));
            }
        }
    }
    found.sort_by(|a, b| (&a.group, &a.version, &a.kind).cmp(&(&b.group, &b.version, &b.kind)));
    found.dedup_by(|a, b| Arc::ptr_eq(a, b));
    found.truncate(MOST_TYPES);
    found
}
