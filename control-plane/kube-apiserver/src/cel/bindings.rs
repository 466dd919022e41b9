//! `cel.bind(name, value, body)`: a name for a value, as cel-go's extension `Bindings` has it.
//!
//! It becomes what the macro makes of it there: a loop over nothing, which begins with the value.

use kube_cel::cel::{
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr},
    parser::{Expression, Parser},
};

/// No name that an expression can write.
const UNUSED: &str = "#unused";

/// Writes all of them out.
pub(super) fn expand(it: &mut Expression) -> Result<(), String> {
    match &mut it.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => expand(&mut select.operand)?,
        Expr::Call(call) => {
            if let Some(target) = &mut call.target {
                expand(target)?;
            }
            call.args.iter_mut().try_for_each(expand)?;
        }
        Expr::List(list) => list.elements.iter_mut().try_for_each(expand)?,
        Expr::Map(map) => map.entries.iter_mut().try_for_each(entry)?,
        Expr::Struct(of) => of.entries.iter_mut().try_for_each(entry)?,
        Expr::Comprehension(all) => {
            let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } =
                &mut **all;
            [iter_range, accu_init, loop_cond, loop_step, result]
                .into_iter()
                .try_for_each(expand)?;
        }
    }
    if let Expr::Call(call) = &mut it.expr
        && is_bind(call)
    {
        it.expr = bound(std::mem::take(&mut call.args))?;
    }
    Ok(())
}

fn entry(it: &mut IdedEntryExpr) -> Result<(), String> {
    match &mut it.expr {
        EntryExpr::StructField(field) => expand(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            expand(&mut entry.key)?;
            expand(&mut entry.value)
        }
    }
}

fn is_bind(call: &CallExpr) -> bool {
    let of = call.target.as_ref().map(|it| &it.expr);
    call.func_name == "bind"
        && call.args.len() == 3
        && matches!(of, Some(Expr::Ident(name)) if name == "cel")
}

fn bound(args: Vec<Expression>) -> Result<Expr, String> {
    let parsed = |text: &str| Parser::new().parse(text).map_err(|error| error.to_string());
    let [name, value, body] =
        <[Expression; 3]>::try_from(args).map_err(|_| "cel.bind() has three parts".to_owned())?;
    let Expr::Ident(name) = name.expr else {
        return Err("cel.bind() variable names must be simple identifiers".to_owned());
    };
    Ok(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: parsed("[]")?,
        iter_var: UNUSED.to_owned(),
        iter_var2: None,
        loop_step: Expression { id: 0, expr: Expr::Ident(name.clone()) },
        accu_var: name,
        accu_init: value,
        loop_cond: parsed("false")?,
        result: body,
    })))
}
