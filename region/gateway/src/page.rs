//! Pages of lists. A token says after which key to go on, so a page does not shift when something
//! is added or removed before it.

use aws_wire::Fault;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

const PREFIX: &str = "nst1:";

/// The token is none of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pagination token is not valid")]
pub struct InvalidToken;

impl InvalidToken {
    /// With the code that the service uses for it.
    pub fn fault(&self, code: &'static str) -> Fault {
        Fault::new(code, "Invalid value for pagination token")
    }
}

/// One page and the token of the next.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// Cuts one page of at most `size` out of `items`, which are ordered by `key`.
pub fn page<T>(
    items: Vec<T>,
    size: usize,
    token: Option<&str>,
    key: impl Fn(&T) -> String,
) -> Result<Page<T>, InvalidToken> {
    let after = token.filter(|it| !it.is_empty()).map(decode).transpose()?;
    let mut rest: Vec<T> = match after {
        None => items,
        Some(after) => items.into_iter().filter(|it| key(it) > after).collect(),
    };
    if size == 0 || rest.len() <= size {
        return Ok(Page { items: rest, next: None });
    }
    rest.truncate(size);
    let next = rest.last().map(|it| encode(&key(it)));
    Ok(Page { items: rest, next })
}

/// The token of a place in a list that is the same for every page, such as one that the request
/// itself gives.
pub fn page_mark(position: usize) -> String {
    encode(&position.to_string())
}

/// The place that a token of [`page_mark`] means.
pub fn page_position(token: &str) -> Result<usize, InvalidToken> {
    decode(token)?.parse().map_err(|_| InvalidToken)
}

fn encode(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{PREFIX}{key}"))
}

fn decode(token: &str) -> Result<String, InvalidToken> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidToken)?;
    let text = String::from_utf8(bytes).map_err(|_| InvalidToken)?;
    text.strip_prefix(PREFIX).map(str::to_owned).ok_or(InvalidToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(items: &[&str], token: Option<&str>) -> Result<Page<String>, InvalidToken> {
        let items = items.iter().map(|it| (*it).to_owned()).collect();
        page(items, 2, token, String::clone)
    }

    #[test]
    fn pages_cover_everything_once_even_when_the_list_changes() {
        let first = cut(&["a", "b", "c", "d"], None).unwrap();
        assert_eq!(first.items, ["a", "b"]);
        let second = cut(&["b", "bb", "c", "d"], first.next.as_deref()).unwrap();
        assert_eq!(second.items, ["bb", "c"]);
        let third = cut(&["c", "d"], second.next.as_deref()).unwrap();
        assert_eq!((third.items, third.next), (vec!["d".to_owned()], None));
    }

    #[test]
    fn a_foreign_token_is_refused() {
        for token in ["x", "!!!", "YQ"] {
            assert_eq!(cut(&["a"], Some(token)), Err(InvalidToken), "{token}");
        }
    }
}
