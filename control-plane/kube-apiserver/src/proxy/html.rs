//! Links of a page behind a proxy, made to stay behind it.
//!
//! A page that says `/style.css` means its own server's; behind `…/proxy` that path is the API
//! server's. Such attributes get the proxy's path in front; all else goes through byte for byte, tag
//! by tag as it comes, so that a page of any size needs no room.
//!
//! Upstream: `rewriteHTML` of k8s.io/apimachinery/pkg/util/proxy.
//! Deviation: pages that come compressed are not looked into.

use bytes::Bytes;
use http::{HeaderMap, header};

use super::forward::relocated;

/// What is longer than this and still no whole tag goes through as it is.
const LONGEST_TAG: usize = 64 << 10;

/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 5] = ["script", "style", "textarea", "title", "xmp"];

/// Whether an answer is a page with links.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let is_plain = matches!(text(header::CONTENT_ENCODING), "" | "identity");
    let media = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default();
    is_plain && media.trim().eq_ignore_ascii_case("text/html")
}

/// Attributes that hold links.
fn links(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "applet" => &["codebase"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// A page on its way.
#[derive(Debug)]
pub(super) struct Page {
    backend: String,
    prefix: String,
    /// The start of a tag whose end has not come yet.
    rest: Vec<u8>,
    /// Within an element whose content is text: its name.
    raw: Option<&'static str>,
}

impl Page {
    pub(super) fn new(backend: String, prefix: String) -> Self {
        Self { backend, prefix, rest: Vec::new(), raw: None }
    }

    /// What can go on, now that this has come.
    pub(super) fn take(&mut self, data: &[u8]) -> Bytes {
        let mut input = std::mem::take(&mut self.rest);
        input.extend_from_slice(data);
        let mut out = Vec::with_capacity(input.len());
        let mut left = input.as_slice();
        while let Some(at) = left.iter().position(|it| *it == b'<') {
            out.extend_from_slice(&left[..at]);
            left = &left[at..];
            let Some(length) = self.tag_length(left) else {
                if left.len() < LONGEST_TAG {
                    self.rest = left.to_vec();
                    return out.into();
                }
                break;
            };
            self.tag(&left[..length], &mut out);
            left = &left[length..];
        }
        out.extend_from_slice(left);
        out.into()
    }

    /// What was held back, once nothing comes any more.
    pub(super) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.rest).into()
    }

    /// How long what begins with `<` is; `None` if its end has not come.
    fn tag_length(&self, text: &[u8]) -> Option<usize> {
        if let Some(raw) = self.raw {
            let end = format!("</{raw}");
            let start = text.get(..end.len())?;
            return Some(if start.eq_ignore_ascii_case(end.as_bytes()) { end.len() } else { 1 });
        }
        if b"<!--".starts_with(&text[..text.len().min(4)]) {
            let end = text.windows(3).skip(4).position(|it| it == b"-->")?;
            return Some(4 + end + 3);
        }
        let mut quote = None;
        for (at, letter) in text.iter().enumerate() {
            match (quote, *letter) {
                (None, b'>') => return Some(at + 1),
                (None, it @ (b'"' | b'\'')) => quote = Some(it),
                (Some(open), it) if open == it => quote = None,
                _ => {}
            }
        }
        None
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        if self.raw.is_some() {
            if tag.len() > 1 {
                self.raw = None;
            }
            return out.extend_from_slice(tag);
        }
        let length = tag[1..].iter().take_while(|it| it.is_ascii_alphanumeric()).count();
        let element = String::from_utf8_lossy(&tag[1..=length]).to_ascii_lowercase();
        self.raw = RAW.into_iter().find(|it| *it == element);
        let wanted = links(&element);
        if wanted.is_empty() {
            return out.extend_from_slice(tag);
        }
        let mut done = 0;
        for (name, from, to) in attributes(tag, length + 1) {
            if !wanted.contains(&&*name) {
                continue;
            }
            let Ok(value) = std::str::from_utf8(&tag[from..to]) else { continue };
            if let Some(moved) = relocated(value, &self.backend, &self.prefix) {
                out.extend_from_slice(&tag[done..from]);
                out.extend_from_slice(moved.as_bytes());
                done = to;
            }
        }
        out.extend_from_slice(&tag[done..]);
    }
}

/// The names of a tag's attributes, and where their values are.
fn attributes(tag: &[u8], mut at: usize) -> Vec<(String, usize, usize)> {
    let is_end = |it: &u8| it.is_ascii_whitespace() || matches!(*it, b'>' | b'/');
    let skip = |from: usize, test: &dyn Fn(&u8) -> bool| {
        from + tag[from..].iter().take_while(|it| test(it)).count()
    };
    let mut found = Vec::new();
    loop {
        at = skip(at, &|it| is_end(it) || *it == b'=');
        let end = skip(at, &|it| !is_end(it) && *it != b'=');
        if end == at {
            return found;
        }
        let name = String::from_utf8_lossy(&tag[at..end]).to_ascii_lowercase();
        at = skip(end, &u8::is_ascii_whitespace);
        if tag.get(at) != Some(&b'=') {
            continue;
        }
        at = skip(at + 1, &u8::is_ascii_whitespace);
        let (from, to, next) = match tag.get(at) {
            Some(quote @ (b'"' | b'\'')) => {
                let to = skip(at + 1, &|it| it != quote);
                (at + 1, to, (to + 1).min(tag.len()))
            }
            _ => {
                let to = skip(at, &|it| !it.is_ascii_whitespace() && *it != b'>');
                (at, to, to)
            }
        };
        found.push((name, from, to));
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page::new("10.0.0.1:80".into(), "/p/proxy".into())
    }

    fn whole(text: &str) -> String {
        let mut page = page();
        let mut out = page.take(text.as_bytes()).to_vec();
        out.extend_from_slice(&page.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rooted_links_stay_behind_the_proxy_and_nothing_else_changes() {
        for (before, after) in [
            (r#"<a href="/rewriteme">test</a>"#, r#"<a href="/p/proxy/rewriteme">test</a>"#),
            ("<IMG alt='>' SRC='/a.png'>", "<IMG alt='>' SRC='/p/proxy/a.png'>"),
            ("<form action=/do method=post>", "<form action=/p/proxy/do method=post>"),
            (r#"<a href="http://10.0.0.1:80/x">"#, r#"<a href="/p/proxy/x">"#),
        ] {
            assert_eq!(whole(before), after);
        }
        for same in [
            r#"<a href="next">"#,
            r#"<a href="http://example.com/x">"#,
            r#"<a href="/p/proxy/x">"#,
            r#"<p title="/x">"#,
            r#"<script>x = '<a href="/x">'; if (1 < 2) {}</script>"#,
            r#"<!-- <a href="/x"> -->"#,
            "a < b and <",
            "<a href=",
        ] {
            assert_eq!(whole(same), same);
        }
        let behind = r#"<script src="/s.js"></script><a href="/x">"#;
        assert_eq!(whole(behind), r#"<script src="/p/proxy/s.js"></script><a href="/p/proxy/x">"#);
    }

    #[test]
    fn a_page_may_come_in_pieces_of_any_size() {
        let text =
            r#"<html><!-- c --><script>"</scrip"</script><a b href="/x">é</a><img src='/y'/>"#;
        let wanted = whole(text);
        for size in 1..text.len() {
            let mut page = page();
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                out.extend_from_slice(&page.take(piece));
            }
            out.extend_from_slice(&page.finish());
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "pieces of {size}");
        }
    }

    #[test]
    fn a_tag_without_end_does_not_fill_the_memory() {
        let mut page = page();
        let endless = page.take(format!("<a {}", "x".repeat(LONGEST_TAG)).as_bytes());
        assert!(endless.len() > LONGEST_TAG && page.finish().is_empty());
    }
}
