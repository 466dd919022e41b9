//! The part of CEL that selectors of devices are written in: from text to a tree.
//!
//! What is not known here is refused when it is parsed, never guessed at.

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<Expression>),
    /// The device that is looked at.
    Device,
    Select(Box<Expression>, String),
    Index(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Compare(Comparison, Box<Expression>, Box<Expression>),
    /// A function: of a value (`a.f(b)`), or free (`f(b)`).
    Call(Option<Box<Expression>>, Function, Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Has,
    Size,
    Quantity,
    Semver,
    StartsWith,
    EndsWith,
    Contains,
    CompareTo,
    IsGreaterThan,
    IsLessThan,
}

/// Name, whether it is a value's, number of arguments.
const FUNCTIONS: [(&str, bool, usize, Function); 11] = [
    ("has", false, 1, Function::Has),
    ("size", false, 1, Function::Size),
    ("size", true, 0, Function::Size),
    ("quantity", false, 1, Function::Quantity),
    ("semver", false, 1, Function::Semver),
    ("startsWith", true, 1, Function::StartsWith),
    ("endsWith", true, 1, Function::EndsWith),
    ("contains", true, 1, Function::Contains),
    ("compareTo", true, 1, Function::CompareTo),
    ("isGreaterThan", true, 1, Function::IsGreaterThan),
    ("isLessThan", true, 1, Function::IsLessThan),
];

/// Upstream's `CELSelectorExpressionMaxLength`, in bytes.
const LONGEST: usize = 10 * 1024;
/// Deeper than anybody writes.
const MOST_DEPTH: usize = 64;
/// Operators of one expression. Each may make the tree deeper by one, and it is walked by recursion:
/// users write these, and no stack may end for one of them.
const MOST_OPERATORS: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Number(i64),
    Sign(&'static str),
}

const SIGNS: [&str; 16] =
    ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ",", "-"];

pub(crate) fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, operators: 0, bound: Vec::new() };
    let expression = parser.or()?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => Err(format!("{} is not supported here", shown(token))),
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{name}`"),
        Token::Text(text) => format!("{text:?}"),
        Token::Number(number) => number.to_string(),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let (mut rest, mut all) = (text.trim_start(), Vec::new());
    while let Some(first) = rest.chars().next() {
        let (token, after) = if first == '"' || first == '\'' {
            quoted(rest, first)?
        } else if first.is_ascii_digit() {
            let end = rest.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let number = rest[..end].parse();
            let number = number.map_err(|_| format!("`{}` is not supported", &rest[..end]))?;
            (Token::Number(number), &rest[end..])
        } else if first.is_ascii_alphabetic() || first == '_' {
            let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
            let end = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
            (Token::Name(rest[..end].to_owned()), &rest[end..])
        } else {
            let sign = SIGNS.into_iter().find(|it| rest.starts_with(it));
            let sign = sign.ok_or_else(|| format!("`{first}` is not supported"))?;
            (Token::Sign(sign), &rest[sign.len()..])
        };
        all.push(token);
        rest = after.trim_start();
    }
    Ok(all)
}

fn quoted(text: &str, quote: char) -> Result<(Token, &str), String> {
    let (mut out, mut is_escaped) = (String::new(), false);
    for (at, it) in text.char_indices().skip(1) {
        if is_escaped {
            match it {
                '\\' | '"' | '\'' | '`' => out.push(it),
                'n' => out.push('\n'),
                't' => out.push('\t'),
                _ => return Err(format!("the escape `\\{it}` is not supported")),
            }
            is_escaped = false;
        } else if it == '\\' {
            is_escaped = true;
        } else if it == quote {
            return Ok((Token::Text(out), &text[at + 1..]));
        } else {
            out.push(it);
        }
    }
    Err("a text does not end".to_owned())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    operators: usize,
    /// Names that `cel.bind` gave, with what they stand for and the operators in it. It is put in their
    /// place, and counts each time.
    bound: Vec<(String, Expression, usize)>,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Sign(it)) if *it == sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(format!("`{sign}` is missing")) }
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.operators += more;
        match self.operators > MOST_OPERATORS {
            true => Err("it has too many operators".to_owned()),
            false => Ok(()),
        }
    }

    fn or(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err("it is nested too deeply".to_owned());
        }
        let mut left = self.and()?;
        while self.take("||") {
            self.count(1)?;
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.relation()?;
        while self.take("&&") {
            self.count(1)?;
            left = Expression::And(Box::new(left), Box::new(self.relation()?));
        }
        Ok(left)
    }

    fn relation(&mut self) -> Result<Expression, String> {
        use Comparison as C;
        let left = self.unary()?;
        let comparison = match self.peek() {
            Some(Token::Name(name)) if name == "in" => C::In,
            Some(Token::Sign("==")) => C::Equal,
            Some(Token::Sign("!=")) => C::NotEqual,
            Some(Token::Sign("<")) => C::Less,
            Some(Token::Sign("<=")) => C::LessOrEqual,
            Some(Token::Sign(">")) => C::Greater,
            Some(Token::Sign(">=")) => C::GreaterOrEqual,
            _ => return Ok(left),
        };
        self.at += 1;
        Ok(Expression::Compare(comparison, Box::new(left), Box::new(self.unary()?)))
    }

    fn unary(&mut self) -> Result<Expression, String> {
        let mut is_negated = false;
        while self.take("!") {
            is_negated = !is_negated;
        }
        if self.take("-") {
            return match self.primary()? {
                Expression::Number(number) if !is_negated => Ok(Expression::Number(-number)),
                _ => Err("`-` is not supported here".to_owned()),
            };
        }
        let value = self.postfix()?;
        Ok(if is_negated { Expression::Not(Box::new(value)) } else { value })
    }

    fn postfix(&mut self) -> Result<Expression, String> {
        let mut value = self.primary()?;
        loop {
            self.count(1)?;
            if self.take(".") {
                let Some(Token::Name(name)) = self.peek().cloned() else {
                    return Err("a name is missing after `.`".to_owned());
                };
                self.at += 1;
                value = if self.take("(") {
                    self.call(Some(value), &name)?
                } else {
                    Expression::Select(Box::new(value), name)
                };
            } else if self.take("[") {
                let index = self.or()?;
                self.expect("]")?;
                value = Expression::Index(Box::new(value), Box::new(index));
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Result<Expression, String> {
        if self.take("(") {
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("[") {
            return self.list("]").map(Expression::List);
        }
        let token = self.peek().cloned().ok_or("it ends too early")?;
        self.at += 1;
        match token {
            Token::Text(text) => Ok(Expression::Text(text)),
            Token::Number(number) => Ok(Expression::Number(number)),
            Token::Name(name) if self.take("(") => self.call(None, &name),
            Token::Name(name) if name == "cel" && self.take(".") => self.bind(),
            Token::Name(name) if self.bound.iter().any(|it| it.0 == name) => self.value(&name),
            Token::Name(name) => match name.as_str() {
                "device" => Ok(Expression::Device),
                "true" => Ok(Expression::Flag(true)),
                "false" => Ok(Expression::Flag(false)),
                _ => Err(format!("`{name}` is not supported")),
            },
            Token::Sign(sign) => Err(format!("`{sign}` is not supported here")),
        }
    }

    /// `cel.bind(name, value, body)`, behind the dot.
    fn bind(&mut self) -> Result<Expression, String> {
        let word = self.peek().cloned();
        self.at += 1;
        if word != Some(Token::Name("bind".to_owned())) {
            return Err("`cel` is not supported".to_owned());
        }
        self.expect("(")?;
        let Some(Token::Name(name)) = self.peek().cloned() else {
            return Err("`cel.bind()` begins with a name".to_owned());
        };
        self.at += 1;
        self.expect(",")?;
        let before = self.operators;
        let value = self.or()?;
        self.expect(",")?;
        self.bound.push((name, value, self.operators - before));
        let body = self.or();
        self.bound.pop();
        let body = body?;
        self.expect(")")?;
        Ok(body)
    }

    fn value(&mut self, name: &str) -> Result<Expression, String> {
        let found = self.bound.iter().rev().find(|it| it.0 == name).cloned();
        let (_, value, operators) = found.ok_or_else(|| format!("`{name}` is not supported"))?;
        self.count(operators)?;
        Ok(value)
    }

    fn call(&mut self, of: Option<Expression>, name: &str) -> Result<Expression, String> {
        let arguments = self.list(")")?;
        let is_it = |it: &&(&str, bool, usize, Function)| {
            it.0 == name && it.1 == of.is_some() && it.2 == arguments.len()
        };
        let (.., function) =
            FUNCTIONS.iter().find(is_it).ok_or_else(|| format!("`{name}()` is not supported"))?;
        let is_field = matches!(arguments.first(), Some(Expression::Select(..)));
        if *function == Function::Has && !is_field {
            return Err("`has()` asks for a field".to_owned());
        }
        Ok(Expression::Call(of.map(Box::new), *function, arguments))
    }

    fn list(&mut self, end: &str) -> Result<Vec<Expression>, String> {
        let mut all = Vec::new();
        while !self.take(end) {
            if !all.is_empty() {
                self.expect(",")?;
            }
            all.push(self.or()?);
        }
        Ok(all)
    }
}
