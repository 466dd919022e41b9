//! How large the tree of a CEL expression can become, told from its text before anything parses it.
//!
//! Texts and comments are passed over: what is in them is no operator.
//!
//! **Invariant:** never less than what a parser makes of the expression; for text that is no
//! expression, whatever it is, some answer.

use std::{iter::Peekable, str::Chars};

/// Upper bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Of one chain each may be a level.
    pub operators: usize,
    /// Brackets and choices that lie in each other.
    pub nesting: usize,
    /// `!` or `-` one behind the other.
    pub prefixes: usize,
}

pub(super) fn of(expression: &str) -> Shape {
    let bare = bare(expression);
    Shape { operators: operators(&bare), nesting: nesting(&bare), prefixes: prefixes(&bare) }
}

/// The expression with a letter in the place of each text, and without comments.
fn bare(expression: &str) -> String {
    let (mut bare, mut rest) = (String::new(), expression.chars().peekable());
    while let Some(it) = rest.next() {
        match it {
            '/' if rest.peek() == Some(&'/') => {
                rest.by_ref().find(|it| *it == '\n');
                bare.push('\n');
            }
            '"' | '\'' => {
                skip_text(it, is_raw(&bare), &mut rest);
                bare.push('t');
            }
            it => bare.push(it),
        }
    }
    bare
}

/// Whether the word before a quotation mark says that a backslash is one: `r`, `br`.
fn is_raw(before: &str) -> bool {
    let word = before.rsplit(|it: char| !(it.is_alphanumeric() || it == '_')).next();
    let is_prefix = |it: &str| it.len() <= 2 && it.bytes().all(|it| b"rRbB".contains(&it));
    word.is_some_and(|it| is_prefix(it) && it.contains(['r', 'R']))
}

/// Reads on behind the end of a text of which the first mark is read.
fn skip_text(mark: char, is_raw: bool, rest: &mut Peekable<Chars<'_>>) {
    let mut marks = 1;
    while marks < 3 && rest.next_if_eq(&mark).is_some() {
        marks += 1;
    }
    // Two are an empty text.
    let wanted = match marks {
        2 => return,
        marks => marks,
    };
    let mut seen = 0;
    while let Some(it) = rest.next() {
        match it {
            '\\' if !is_raw => {
                rest.next();
                seen = 0;
            }
            it if it == mark => seen += 1,
            _ => seen = 0,
        }
        if seen == wanted {
            return;
        }
    }
}

/// All that can make a level, and the word `in`. Signs of two letters are one.
fn operators(bare: &str) -> usize {
    let mut signs = 0;
    let mut letters = bare.chars().peekable();
    while let Some(it) = letters.next() {
        let pairs = match it {
            '=' | '!' | '<' | '>' => '=',
            '&' | '|' => it,
            '+' | '-' | '*' | '/' | '%' | '.' | '?' | '[' | '(' | '{' => {
                signs += 1;
                continue;
            }
            _ => continue,
        };
        letters.next_if_eq(&pairs);
        signs += 1;
    }
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    signs + bare.split(|it: char| !is_part(it)).filter(|it| *it == "in").count()
}

/// A choice holds what follows it, up to the next comma or the end of its brackets.
fn nesting(bare: &str) -> usize {
    // Of each open bracket, how many choices of its present element are open.
    let (mut choices, mut depth, mut deepest) = (vec![0_usize], 0_usize, 0);
    let mut before = ' ';
    for it in bare.chars().filter(|it| !it.is_whitespace()) {
        match it {
            '(' | '[' | '{' => {
                choices.push(0);
                depth += 1;
            }
            ')' | ']' | '}' if choices.len() > 1 => {
                depth -= 1 + choices.pop().unwrap_or_default();
            }
            ',' => depth -= choices.last_mut().map_or(0, std::mem::take),
            // `a.?b` and `a[?b]` are selections.
            '?' if !matches!(before, '.' | '[') => {
                depth += 1;
                choices.last_mut().into_iter().for_each(|it| *it += 1);
            }
            _ => {}
        }
        deepest = deepest.max(depth);
        before = it;
    }
    deepest
}

fn prefixes(bare: &str) -> usize {
    let (mut run, mut longest) = (0_usize, 0);
    for it in bare.chars().filter(|it| !it.is_whitespace()) {
        run = if matches!(it, '!' | '-') { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(operators: usize, nesting: usize, prefixes: usize) -> Shape {
        Shape { operators, nesting, prefixes }
    }

    #[test]
    fn only_what_lies_in_each_other_is_deep() {
        assert_eq!(of("a - b - c == !d"), shape(4, 0, 1));
        assert_eq!(of("!!a != - -1"), shape(5, 0, 2));
        assert_eq!(of("[a ? 1 : 2, b ? 3 : 4]"), shape(3, 2, 0));
        assert_eq!(of("a ? b : c ? d : e"), shape(2, 2, 0));
        assert_eq!(of("((a)) && (b)"), shape(4, 2, 0));
        assert_eq!(of("a.?b[?c].d in e"), shape(6, 1, 0));
        assert_eq!(of("))) ((("), shape(3, 3, 0));
    }

    #[test]
    fn texts_and_comments_hold_no_operators() {
        for text in [
            r#"'((("!?-'"#,
            r#""it\'s \"((" "#,
            r#"r'\' + b'-'"#,
            r#"'''a'(b''('''"#,
            r#""""("("""#,
            "'' // (!-",
        ] {
            let Shape { nesting, prefixes, .. } = of(text);
            assert_eq!((nesting, prefixes), (0, 0), "{text}");
        }
        // One that does not end takes all.
        assert_eq!(of("'((("), shape(0, 0, 0));
        assert_eq!(of(r"br'\' + (a)"), shape(2, 1, 0));
        assert_eq!(of("car'(' + (a)"), shape(2, 1, 0));
    }
}
