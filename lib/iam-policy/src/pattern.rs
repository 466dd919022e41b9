//! Text with `*`, `?` and `${variables}`.
//!
//! A variable's value is literal: a star in a tag never becomes a wildcard.

use crate::Context;

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Exactly(char),
    /// `?`
    One,
    /// `*`
    Any,
}

/// How much of a policy's text is special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wildcards {
    /// `StringEquals`
    Literal,
    /// `StringLike`, resources, ARNs
    Glob,
}

/// Whether `text` matches `pattern`. `variables` is `None` for policies of version 2008-10-17.
///
/// Gives `None` when a variable has no value.
pub(crate) fn matches(
    pattern: &str,
    text: &str,
    wildcards: Wildcards,
    variables: Option<&Context>,
) -> Option<bool> {
    if !pattern.contains("${") || variables.is_none() {
        return Some(match wildcards {
            Wildcards::Literal => pattern == text,
            Wildcards::Glob => glob(pattern, text),
        });
    }
    let tokens = expand(pattern, wildcards, variables?)?;
    Some(run(&tokens, &text.chars().collect::<Vec<_>>()))
}

/// The pattern with its variables replaced and nothing special left. `None`: one has no value.
pub(crate) fn text(pattern: &str, variables: Option<&Context>) -> Option<String> {
    let Some(context) = variables else { return Some(pattern.to_owned()) };
    let characters = expand(pattern, Wildcards::Literal, context)?.into_iter();
    Some(
        characters
            .filter_map(|it| if let Token::Exactly(it) = it { Some(it) } else { None })
            .collect(),
    )
}

/// Matches without variables.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    glob_bytes(pattern.as_bytes(), text.as_bytes())
}

/// As [`run`], without copies: deciding does this for every action of every policy, and most differ in
/// their first character. A `?` takes a whole character.
fn glob_bytes(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, next_character(text, t)),
            Some(it) if *it == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                None => return false,
                Some((at, from)) => {
                    let from = next_character(text, from);
                    star = Some((at, from));
                    (p, t) = (at + 1, from);
                }
            },
        }
    }
    pattern[p..].iter().all(|it| *it == b'*')
}

/// Where the character after the one at `at` begins, in UTF-8.
fn next_character(text: &[u8], at: usize) -> usize {
    let is_inside = |it: &&u8| **it & 0b1100_0000 == 0b1000_0000;
    at + 1 + text[at + 1..].iter().take_while(is_inside).count()
}

fn token(character: char, wildcards: Wildcards) -> Token {
    match (character, wildcards) {
        ('*', Wildcards::Glob) => Token::Any,
        ('?', Wildcards::Glob) => Token::One,
        (other, _) => Token::Exactly(other),
    }
}

/// Replaces variables. `${*}`, `${?}` and `${$}` stand for the characters themselves.
fn expand(pattern: &str, wildcards: Wildcards, context: &Context) -> Option<Vec<Token>> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(start) = rest.find("${") {
        tokens.extend(rest[..start].chars().map(|it| token(it, wildcards)));
        let Some(length) = rest[start..].find('}') else {
            rest = &rest[start..];
            tokens.extend(rest.chars().map(|it| token(it, wildcards)));
            return Some(tokens);
        };
        let name = &rest[start + 2..start + length];
        tokens.extend(value(name, context)?.chars().map(Token::Exactly));
        rest = &rest[start + length + 1..];
    }
    tokens.extend(rest.chars().map(|it| token(it, wildcards)));
    Some(tokens)
}

/// `key` or `key, 'default'`.
fn value<'a>(variable: &'a str, context: &'a Context) -> Option<&'a str> {
    if let "*" | "?" | "$" = variable {
        return Some(variable);
    }
    let (key, default) = match variable.split_once(',') {
        None => (variable.trim(), None),
        Some((key, default)) => {
            let default = default.trim();
            let inner = default.strip_prefix('\'').and_then(|it| it.strip_suffix('\''));
            (key.trim(), inner)
        }
    };
    context.single(key).or(default)
}

/// The keys of a pattern's variables; the escapes are none.
pub(crate) fn variables(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split("${").skip(1).filter_map(|it| {
        let inner = it.split_once('}')?.0;
        let key = inner.split_once(',').map_or(inner, |(key, _)| key).trim();
        (!matches!(key, "*" | "?" | "$")).then_some(key)
    })
}

/// Linear in practice and never worse than the product of the lengths: only the last star is
/// gone back to.
fn run(pattern: &[Token], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Token::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Token::One) => (p, t) = (p + 1, t + 1),
            Some(Token::Exactly(it)) if *it == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                None => return false,
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
            },
        }
    }
    pattern[p..].iter().all(|it| *it == Token::Any)
}

/// `ArnLike`: the six parts are matched one by one, so a star does not reach over a colon, except
/// in the last.
pub(crate) fn arn(pattern: &str, text: &str, variables: Option<&Context>) -> Option<bool> {
    if pattern == "*" {
        return Some(true);
    }
    let mut patterns = parts(pattern).into_iter();
    let mut texts = text.splitn(6, ':');
    loop {
        match (patterns.next(), texts.next()) {
            (None, None) => return Some(true),
            (Some(pattern), Some(text)) => {
                if !matches(pattern, text, Wildcards::Glob, variables)? {
                    return Some(false);
                }
            }
            _ => return Some(false),
        }
    }
}

/// The six parts of an ARN's pattern. Colons inside of `${…}` belong to the variable.
fn parts(pattern: &str) -> Vec<&str> {
    let (mut found, mut start, mut in_variable) = (Vec::new(), 0, false);
    for (at, character) in pattern.char_indices() {
        match character {
            '{' if pattern[..at].ends_with('$') => in_variable = true,
            '}' => in_variable = false,
            ':' if !in_variable && found.len() < 5 => {
                found.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&pattern[start..]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_a_whole() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("**a", "a", true),
            ("ab", "abc", false),
            ("?", "é", true),
            ("??", "é", false),
            ("*?x", "ééx", true),
            ("*é", "aéé", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_star_in_a_value_is_only_a_star() {
        let context = Context::new().with("aws:username", "*");
        let test = |text| matches("home/${aws:username}/*", text, Wildcards::Glob, Some(&context));
        assert_eq!(test("home/*/x"), Some(true));
        assert_eq!(test("home/bob/x"), Some(false));
    }

    #[test]
    fn variables_have_defaults_and_escapes() {
        let context = Context::new();
        let test = |pattern, text| matches(pattern, text, Wildcards::Glob, Some(&context));
        assert_eq!(test("${aws:PrincipalTag/team, 'none'}-*", "none-1"), Some(true));
        assert_eq!(test("${aws:PrincipalTag/team}", "none"), None);
        assert_eq!(test("a${*}", "ab"), Some(false));
        assert_eq!(test("a${*}", "a*"), Some(true));
        assert_eq!(test("a${", "a${"), Some(true));
        assert_eq!(matches("${x}", "${x}", Wildcards::Glob, None), Some(true));
    }

    #[test]
    fn a_star_in_an_arn_stays_in_its_part() {
        let user = "arn:aws:iam::111122223333:user/a:b";
        assert_eq!(arn("arn:aws:iam::*:user/*", user, None), Some(true));
        assert_eq!(arn("arn:aws:*:user/*", user, None), Some(false));
        let context = Context::new().with("aws:PrincipalAccount", "111122223333");
        let mine = "arn:aws:iam::${aws:PrincipalAccount}:user/*";
        assert_eq!(arn(mine, user, Some(&context)), Some(true));
    }
}
