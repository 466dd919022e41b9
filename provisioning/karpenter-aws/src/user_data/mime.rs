//! User data of several parts: a MIME message, as cloud-init and nodeadm read it (RFC 2046).
//!
//! Parts are passed on as they are, with their headers: what is said of their encoding is theirs.

/// One part: its headers, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    headers: Vec<String>,
    content: String,
}

impl Part {
    pub(super) fn new(kind: &str, content: &str) -> Self {
        Self { headers: vec![format!("Content-Type: {kind}")], content: content.to_owned() }
    }

    /// What its content is.
    #[cfg(test)]
    pub(super) fn kind(&self) -> &str {
        header(&self.headers, "content-type").unwrap_or_default()
    }
}

/// The parts of a message; `None`: it is none of several parts.
pub(super) fn parts(text: &str) -> Option<Vec<Part>> {
    let (headers, body) = split(text);
    let kind = header(&headers, "content-type")?;
    let is_multipart = kind.to_ascii_lowercase().starts_with("multipart/");
    let boundary = boundary(kind).filter(|it| is_multipart && !it.is_empty())?;
    let (open, close) = (format!("--{boundary}"), format!("--{boundary}--"));
    let mut parts: Vec<Vec<&str>> = Vec::new();
    // What is before the first boundary is for nobody.
    for line in body.lines() {
        let bare = line.trim_end();
        if bare == close {
            break;
        } else if bare == open {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(line);
        }
    }
    let each = parts.into_iter().map(|lines| {
        let text = lines.join("\n");
        let (headers, content) = split(&text);
        Part { headers, content: content.to_owned() }
    });
    Some(each.collect())
}

/// The message of these parts.
pub(super) fn joined(parts: &[Part]) -> String {
    let is_in = |boundary: &str| {
        let line = format!("--{boundary}");
        parts.iter().any(|it| it.content.lines().any(|it| it.starts_with(&line)))
    };
    // Upstream's; a script may have a line that begins like it.
    let boundary = if is_in("//") { "==KARPENTER==" } else { "//" };
    let mut message = format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n"
    );
    for part in parts {
        message.push_str(&format!("--{boundary}\r\n{}\r\n\r\n", part.headers.join("\r\n")));
        message.push_str(&part.content);
        message.push_str("\r\n");
    }
    message.push_str(&format!("--{boundary}--\r\n"));
    message
}

/// The headers and what is after the empty line that ends them. A header that goes on over several
/// lines is one.
fn split(text: &str) -> (Vec<String>, &str) {
    let mut headers: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        let line = line.trim_end();
        match headers.last_mut() {
            _ if line.is_empty() => return (headers, after),
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            _ if line.split_once(':').is_some_and(|(name, _)| is_name(name)) => {
                headers.push(line.to_owned());
            }
            _ => return (headers, rest),
        }
        rest = after;
    }
    (headers, rest)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
}

fn header<'a>(headers: &'a [String], name: &str) -> Option<&'a str> {
    let mut pairs = headers.iter().filter_map(|it| it.split_once(':'));
    pairs.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn boundary(kind: &str) -> Option<&str> {
    let mut parameters = kind.split(';').filter_map(|it| it.split_once('='));
    let found = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"));
    found.map(|(_, value)| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_comes_apart_again_whatever_its_lines_begin_with() {
        let script = Part::new("text/x-shellscript", "#!/bin/sh\n\n--// is no end\nkey: value");
        let config = Part::new("application/node.eks.aws", "kind: NodeConfig\n");
        let all = [script, config];
        let joined = joined(&all);
        assert!(joined.contains("boundary=\"==KARPENTER==\""));
        let apart = parts(&joined).unwrap();
        let contents = |it: &[Part]| -> Vec<String> {
            it.iter().map(|it| it.content.trim_end().to_owned()).collect()
        };
        assert_eq!(contents(&apart), contents(&all));
    }

    #[test]
    fn headers_may_go_on_and_boundaries_need_no_quotes() {
        let text = "Content-Type: multipart/mixed;\r\n boundary=b; charset=x\r\n\r\nfor nobody\r\n\
                    --b\r\nContent-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n\
                    --b--\r\n";
        let found = parts(text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].headers[1], "Content-Transfer-Encoding: base64");
        assert_eq!(found[0].content.trim(), "eA==");
    }

    #[test]
    fn a_script_or_a_document_is_no_message() {
        for text in
            ["#!/bin/sh\necho a: b", "kind: NodeConfig\nspec: {}\n", "Content-Type: a/b\n\nx"]
        {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
