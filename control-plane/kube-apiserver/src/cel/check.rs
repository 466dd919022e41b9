//! Finds out what an expression gives, and refuses one that cannot work.
//!
//! Upstream: the checker of cel-go. Words and places of errors are its own.

use std::collections::HashMap;

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, StructExpr, operators,
};
use kube_cel::cel::parser::Expression;

use super::{
    Environment,
    functions::{self, Kind, Patterns},
    overloads::{self, Overload},
    place::Places,
    types::Type,
};

pub(super) struct Checked {
    pub(super) result: Type,
    pub(super) fields: Vec<(String, String)>,
    pub(super) facts: Facts,
    /// Of its literals.
    pub(super) patterns: Patterns,
}

/// What was found out about the parts of an expression, by their places in memory: as long as the tree
/// stays where it is.
#[derive(Default)]
pub(super) struct Facts {
    types: HashMap<usize, Type>,
    overloads: HashMap<usize, Vec<&'static Overload>>,
}

impl Facts {
    pub(super) fn of(&self, it: &Expression) -> Type {
        self.types.get(&std::ptr::from_ref(it).addr()).cloned().unwrap_or(Type::Dyn)
    }

    /// The ways to call a function that a call may be.
    pub(super) fn overloads(&self, it: &Expression) -> &[&'static Overload] {
        let Expr::Call(call) = &it.expr else { return &[] };
        self.overloads.get(&std::ptr::from_ref(call).addr()).map_or(&[], Vec::as_slice)
    }
}

pub(super) fn check(
    root: &Expression,
    source: &str,
    environment: &Environment,
) -> Result<Checked, String> {
    let mut checker = Checker {
        environment,
        places: Places::of(source),
        locals: Vec::new(),
        errors: Vec::new(),
        fields: Vec::new(),
        facts: Facts::default(),
        patterns: Patterns::default(),
    };
    let result = checker.visit(root);
    if checker.errors.is_empty() {
        let Checker { fields, facts, patterns, .. } = checker;
        return Ok(Checked { result, fields, facts, patterns });
    }
    Err(checker.errors.join("\n"))
}

struct Checker<'a> {
    environment: &'a Environment,
    places: Places<'a>,
    /// Names that macros bind.
    locals: Vec<(String, Type)>,
    errors: Vec<String>,
    fields: Vec<(String, String)>,
    facts: Facts,
    patterns: Patterns,
}

impl Checker<'_> {
    /// After an error anything goes, so that each is told once.
    fn fail(&mut self, at: usize, why: &str) -> Type {
        let shown = self.places.show(at, why);
        self.errors.push(shown);
        Type::Dyn
    }

    fn visit(&mut self, it: &Expression) -> Type {
        let of = self.part(it);
        self.facts.types.insert(std::ptr::from_ref(it).addr(), of.clone());
        of
    }

    fn part(&mut self, it: &Expression) -> Type {
        match &it.expr {
            Expr::Unspecified => Type::Dyn,
            Expr::Literal(literal) => literal_type(literal),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let optional = |at: &usize| list.optional_indices.contains(at);
                let mut of: Option<Type> = None;
                for (at, it) in list.elements.iter().enumerate() {
                    let found = unwrapped(self.visit(it), optional(&at));
                    of = Some(self.same(of, found));
                }
                Type::list(of.unwrap_or(Type::Dyn))
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (None, None);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    let key = self.visit(&entry.key);
                    keys = Some(self.same(keys, key));
                    let value = unwrapped(self.visit(&entry.value), entry.optional);
                    values = Some(self.same(values, value));
                }
                let dynamic = |of: Option<Type>| Box::new(of.unwrap_or(Type::Dyn));
                Type::Map(dynamic(keys), dynamic(values))
            }
            Expr::Struct(it) => self.structure(it),
            Expr::Comprehension(it) => self.comprehension(it),
        }
    }

    /// The elements of one list have one type, but for those of a format. Upstream: `HomogeneousAggregateLiterals`.
    fn same(&mut self, before: Option<Type>, found: Type) -> Type {
        let Some(before) = before else { return found };
        if found.may_be(&before) {
            return before.join(&found);
        }
        self.fail(0, &format!("expected type '{before}' but found '{found}'"))
    }

    fn ident(&mut self, name: &str) -> Type {
        let at = self.places.next(name);
        if let Some((_, of)) = self.locals.iter().rev().find(|(it, _)| it == name) {
            return of.clone();
        }
        if let Some(of) = self.environment.find(name) {
            return of.clone();
        }
        if functions::type_named(name).is_some() {
            return Type::Meta;
        }
        self.fail(at, &format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, select: &SelectExpr) -> Type {
        if functions::type_named(&path(&select.operand, &select.field)).is_some() {
            return Type::Meta;
        }
        let of = self.visit(&select.operand);
        let word = self.places.next(&select.field);
        let at = self.places.before(word, '.');
        if let Expr::Ident(name) = &select.operand.expr {
            self.fields.push((name.clone(), select.field.clone()));
        }
        let found = self.field(at, &of, &select.field);
        if select.test { Type::Bool } else { found }
    }

    fn field(&mut self, at: usize, of: &Type, field: &str) -> Type {
        match of {
            Type::Dyn => Type::Dyn,
            Type::Optional(inner) => {
                let inner = self.field(at, inner, field);
                optional(inner)
            }
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) => match object.field(field) {
                Some(of) => of,
                None => self.fail(at, &format!("undefined field '{field}'")),
            },
            Type::Named("kubernetes.authorization.Authorizer") if field == "requestResource" => {
                Type::Named("kubernetes.authorization.ResourceCheck")
            }
            other => self.fail(at, &format!("type '{other}' does not support field selection")),
        }
    }

    fn call(&mut self, call: &CallExpr) -> Type {
        if let Some(of) = self.special(call) {
            return of;
        }
        if let Some(name) = qualified(call) {
            self.places.next(name.split('.').next().unwrap_or_default());
            let at = self.places.next(&call.func_name);
            let at = self.places.behind(at, '(');
            let args: Vec<Type> = call.args.iter().map(|it| self.visit(it)).collect();
            return self.resolve(at, call, &name, None, &args);
        }
        let is_operator = call.func_name.contains(['_', '@']) && call.target.is_none();
        if is_operator {
            return self.operator(call);
        }
        let target = call.target.as_ref().map(|it| self.visit(it));
        let word = self.places.next(&call.func_name);
        if overloads::of(&call.func_name).is_empty() {
            let at = if target.is_some() { self.places.behind(word, '(') } else { word };
            call.args.iter().for_each(|it| drop(self.visit(it)));
            let why = format!("undeclared reference to '{}' (in container '')", call.func_name);
            return self.fail(at, &why);
        }
        let at = self.places.behind(word, '(');
        let args: Vec<Type> = match (call.func_name.as_str(), call.args.as_slice()) {
            ("format", [Expression { expr: Expr::List(list), .. }]) => {
                list.elements.iter().for_each(|it| drop(self.visit(it)));
                vec![Type::list(Type::Dyn)]
            }
            (_, args) => args.iter().map(|it| self.visit(it)).collect(),
        };
        if let Err(why) = functions::check_literals(call, &mut self.patterns) {
            return self.fail(at, &why);
        }
        self.resolve(at, call, &call.func_name, target, &args)
    }

    /// Operators stand between what they take.
    fn operator(&mut self, call: &CallExpr) -> Type {
        let signs: &[&str] = match call.func_name.as_str() {
            operators::CONDITIONAL => &["?", ":"],
            operators::INDEX | operators::OPT_INDEX => &["["],
            operators::IN => &["in"],
            operators::NOT_STRICTLY_FALSE | operators::LOGICAL_NOT | operators::NEGATE => &[],
            name => &[name.trim_matches('_')],
        };
        let mut at = match call.func_name.as_str() {
            operators::LOGICAL_NOT => self.places.next("!"),
            operators::NEGATE => self.places.next("-"),
            _ => 0,
        };
        let mut args = Vec::new();
        for (number, it) in call.args.iter().enumerate() {
            args.push(self.visit(it));
            if let Some(sign) = signs.get(number) {
                let found = self.places.next(sign);
                at = if number == 0 { found } else { at };
            }
        }
        if call.func_name == operators::OPT_SELECT {
            return self.optional_select(at, call, &args);
        }
        self.resolve(at, call, &call.func_name, None, &args)
    }

    fn optional_select(&mut self, at: usize, call: &CallExpr, args: &[Type]) -> Type {
        let field = call.args.get(1).and_then(|it| match &it.expr {
            Expr::Literal(LiteralValue::String(it)) => Some(it.inner().to_owned()),
            _ => None,
        });
        let (Some(of), Some(field)) = (args.first(), field) else { return Type::Dyn };
        if let Some(Expr::Ident(name)) = call.args.first().map(|it| &it.expr) {
            self.fields.push((name.clone(), field.clone()));
        }
        let found = self.field(at, of, &field);
        optional(found)
    }

    /// The way to call it that takes these.
    fn resolve(
        &mut self,
        at: usize,
        call: &CallExpr,
        name: &str,
        target: Option<Type>,
        args: &[Type],
    ) -> Type {
        let is_member = target.is_some();
        let all: Vec<Type> = target.into_iter().chain(args.iter().cloned()).collect();
        let fitting = overloads::of(name).iter().filter(|it| it.is_member == is_member);
        let (overloads, results): (Vec<_>, Vec<Type>) =
            fitting.filter_map(|it| Some((it, applied(it, &all)?))).unzip();
        self.facts.overloads.insert(std::ptr::from_ref(call).addr(), overloads);
        let Some(first) = results.first().cloned() else {
            let shown: Vec<String> = args.iter().map(ToString::to_string).collect();
            let shown = match all.first() {
                Some(target) if is_member => format!("{target}.({})", shown.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            let why = format!("found no matching overload for '{name}' applied to '{shown}'");
            return self.fail(at, &why);
        };
        let is_one = results[1..].iter().all(|it| it.to_string() == first.to_string());
        if is_one { first } else { Type::Dyn }
    }

    fn structure(&mut self, it: &StructExpr) -> Type {
        for word in it.type_name.split('.') {
            self.places.next(word);
        }
        let of = self.environment.structs.and_then(|find| find(&it.type_name));
        let Some(Type::Object(object)) = of else {
            let why = format!("undeclared reference to '{}' (in container '')", it.type_name);
            return self.fail(0, &why);
        };
        for entry in &it.entries {
            let EntryExpr::StructField(entry) = &entry.expr else { continue };
            let at = self.places.next(&entry.field);
            let found = unwrapped(self.visit(&entry.value), entry.optional);
            if object.field(&entry.field).is_none() {
                self.fail(at, &format!("undefined field '{}'", entry.field));
            } else if let Err(why) = object.fits(&entry.field, &found) {
                self.fail(at, &why);
            }
        }
        Type::Object(object)
    }

    fn comprehension(&mut self, it: &ComprehensionExpr) -> Type {
        let range = self.visit(&it.iter_range);
        let of = match range {
            Type::List(of) => *of,
            Type::Map(key, _) => *key,
            Type::Dyn => Type::Dyn,
            other => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, \
                     map, or dynamic)"
                );
                self.fail(0, &why)
            }
        };
        // The name stands in the text once, where the macro takes it.
        self.places.next(&it.iter_var);
        let accumulated = self.visit(&it.accu_init);
        self.locals.push((it.accu_var.clone(), accumulated.clone()));
        self.locals.push((it.iter_var.clone(), of));
        self.visit(&it.loop_cond);
        let step = self.visit(&it.loop_step);
        self.locals.pop();
        if let Some(last) = self.locals.last_mut() {
            // What a list of nothing has become.
            last.1 = if matches!(&accumulated, Type::List(_)) { step } else { accumulated };
        }
        let result = self.visit(&it.result);
        self.locals.pop();
        result
    }

    /// Macros that the parser leaves as calls: a name, or two, and what it is used in.
    fn special(&mut self, call: &CallExpr) -> Option<Type> {
        let special = functions::Special::of(call)?;
        let target = self.visit(special.target);
        let names = special.types(&target);
        self.places.next(&call.func_name);
        for (name, of) in names {
            self.places.next(&name);
            self.locals.push((name, of));
        }
        let found: Vec<Type> = special.bodies.iter().map(|it| self.visit(it)).collect();
        self.locals.truncate(self.locals.len() - special.names.len());
        let made = found.last().cloned().unwrap_or(Type::Dyn);
        if special.kind == Kind::ToEntries && !matches!(made, Type::Map(..) | Type::Dyn) {
            let why = format!(
                "found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, dyn), {made})'"
            );
            return Some(self.fail(0, &why));
        }
        Some(special.result(&target, made))
    }
}

/// Result of an overload for these arguments, if it takes them.
fn applied(overload: &Overload, args: &[Type]) -> Option<Type> {
    if overload.args.len() != args.len() {
        return None;
    }
    let mut bound: [Option<Type>; 2] = [None, None];
    let fits =
        overload.args.iter().zip(args).all(|(wanted, found)| bind(wanted, found, &mut bound));
    fits.then(|| substituted(&overload.result, &bound))
}

fn bind(wanted: &Type, found: &Type, bound: &mut [Option<Type>; 2]) -> bool {
    match (wanted, found) {
        (Type::Any(number), found) => {
            let slot = &mut bound[usize::from(*number)];
            match slot.take() {
                Some(before) => {
                    let fits = found.may_be(&before);
                    *slot = Some(if fits { before.join(found) } else { before });
                    fits
                }
                None => {
                    *slot = Some(found.clone());
                    true
                }
            }
        }
        (_, Type::Dyn) => true,
        (Type::List(wanted), Type::List(found))
        | (Type::Optional(wanted), Type::Optional(found)) => bind(wanted, found, bound),
        (Type::Map(a, b), Type::Map(c, d)) => bind(a, c, bound) && bind(b, d, bound),
        (wanted @ (Type::List(_) | Type::Map(..) | Type::Optional(_)), found) => {
            std::mem::discriminant(wanted) == std::mem::discriminant(found)
        }
        (wanted, found) => found.may_be(wanted),
    }
}

fn substituted(of: &Type, bound: &[Option<Type>; 2]) -> Type {
    let inner = |it: &Type| Box::new(substituted(it, bound));
    match of {
        Type::Any(number) => bound[usize::from(*number)].clone().unwrap_or(Type::Dyn),
        Type::List(it) => Type::List(inner(it)),
        Type::Optional(it) => Type::Optional(inner(it)),
        Type::Map(a, b) => Type::Map(inner(a), inner(b)),
        other => other.clone(),
    }
}

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

/// An optional of an optional is one.
fn optional(of: Type) -> Type {
    if matches!(of, Type::Optional(_)) { of } else { Type::Optional(Box::new(of)) }
}

/// `[?a]` holds what is in `a`.
fn unwrapped(of: Type, is_optional: bool) -> Type {
    match of {
        Type::Optional(inner) if is_optional => *inner,
        other => other,
    }
}

/// `a.b` of nested selections, or nothing where it is none.
fn path(operand: &Expression, field: &str) -> String {
    match &operand.expr {
        Expr::Ident(name) => format!("{name}.{field}"),
        Expr::Select(select) => format!("{}.{field}", path(&select.operand, &select.field)),
        _ => String::new(),
    }
}

/// `sets.contains`: functions with a name before their own.
pub(super) fn qualified(call: &CallExpr) -> Option<String> {
    let Expr::Ident(prefix) = &call.target.as_ref()?.expr else { return None };
    if !overloads::is_prefix(prefix) {
        return None;
    }
    let name = format!("{prefix}.{}", call.func_name);
    (!overloads::of(&name).is_empty()).then_some(name)
}

/// Levels of a tree.
pub(super) fn depth(it: &Expression) -> usize {
    let entries = |all: &[kube_cel::cel::common::ast::IdedEntryExpr]| {
        let of = |it: &EntryExpr| match it {
            EntryExpr::StructField(it) => depth(&it.value),
            EntryExpr::MapEntry(it) => depth(&it.key).max(depth(&it.value)),
        };
        all.iter().map(|it| of(&it.expr)).max().unwrap_or_default()
    };
    let below = match &it.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => 0,
        Expr::Select(select) => depth(&select.operand),
        Expr::Call(call) => {
            let target = call.target.as_ref().map_or(0, |it| depth(it));
            call.args.iter().map(depth).max().unwrap_or_default().max(target)
        }
        Expr::List(list) => list.elements.iter().map(depth).max().unwrap_or_default(),
        Expr::Map(map) => entries(&map.entries),
        Expr::Struct(it) => entries(&it.entries),
        Expr::Comprehension(it) => {
            let parts = [&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result];
            parts.into_iter().map(depth).max().unwrap_or_default()
        }
    };
    below + 1
}
