//! Percent-encoding, as AWS signs it: only unreserved characters stay.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &VALUE.remove(b'/');

/// A name or value of a query string, or one segment of a path.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, VALUE).to_string()
}

/// A whole path: slashes stay.
pub(crate) fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// Decodes; bytes that are not UTF-8 become replacement characters.
pub fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Decodes a name or value of a form, where `+` stands for a space.
pub(crate) fn decode_form(text: &str) -> String {
    if text.contains('+') { decode(&text.replace('+', " ")) } else { decode(text) }
}

/// The decoded pairs of a query string or form.
pub fn pairs(form: &str) -> Vec<(String, String)> {
    each_pair(form).collect()
}

/// The same one by one, to look for one in what may be long: together they take many times its
/// memory.
pub fn each_pair(form: &str) -> impl Iterator<Item = (String, String)> {
    form.split('&').filter(|it| !it.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(name), decode_form(value))
    })
}

/// The query string of these pairs.
pub(crate) fn join<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs = pairs.into_iter().map(|(name, value)| encode(name) + "=" + &encode(value));
    pairs.collect::<Vec<_>>().join("&")
}
