//! The blocks of a text in PEM, read as Go's `encoding/pem` reads them.
//!
//! Whatever is not a block is passed over: text between blocks, a block without an end, with another
//! end than its beginning, or whose content is not base64.
//!
//! Upstream: `pem.Decode`, `pem.Encode`.

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// Characters in a line of content.
const WIDTH: usize = 64;

/// Like Go's, it does not mind bits that nothing uses.
const CONTENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemBlock {
    /// `CERTIFICATE`.
    pub label: String,
    /// Whether lines like `Proc-Type: 4,ENCRYPTED` precede the content.
    pub has_headers: bool,
    pub content: Vec<u8>,
}

/// All blocks of `text`.
pub fn pem_blocks(text: &str) -> Vec<PemBlock> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let (mut blocks, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let label = lines[at].strip_prefix(BEGIN).and_then(|it| it.strip_suffix(DASHES));
        at += 1;
        let Some(label) = label else { continue };
        let headers = lines[at..].iter().take_while(|it| it.contains(':')).count();
        at += headers;
        let Some(length) = lines[at..].iter().position(|it| it.starts_with(END)) else { continue };
        if lines[at + length] != format!("{END}{label}{DASHES}") {
            continue;
        }
        let packed: String =
            lines[at..at + length].iter().flat_map(|it| it.split([' ', '\t'])).collect();
        let Ok(content) = CONTENT.decode(packed) else { continue };
        let (label, has_headers) = (label.to_owned(), headers > 0);
        blocks.push(PemBlock { label, has_headers, content });
        at += length + 1;
    }
    blocks
}

/// A block without headers.
pub fn pem_text(label: &str, content: &[u8]) -> String {
    let packed = STANDARD.encode(content);
    let mut text = format!("{BEGIN}{label}{DASHES}\n");
    let mut rest = packed.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: any index is between characters.
        let (line, after) = rest.split_at(rest.len().min(WIDTH));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("{END}{label}{DASHES}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(label: &str, content: &str) -> String {
        pem_text(label, content.as_bytes())
    }

    #[test]
    fn blocks_are_found_between_other_text_and_with_any_line_ends() {
        let text = format!("# a root\r\n{}\nmore\n{}", block("A B", "one"), block("C", "two"));
        for text in [text.clone(), text.replace('\n', "\r\n")] {
            let found = pem_blocks(&text);
            let told: Vec<_> = found.iter().map(|it| (&*it.label, &*it.content)).collect();
            assert_eq!(told, [("A B", &b"one"[..]), ("C", b"two")]);
        }
    }

    #[test]
    fn a_long_block_is_written_in_lines_and_read_back() {
        let content: Vec<u8> = (0..=255).collect();
        let text = pem_text("CERTIFICATE", &content);
        assert!(text.lines().all(|it| it.len() <= WIDTH));
        assert_eq!(pem_blocks(&text)[0].content, content);
    }

    #[test]
    fn headers_are_told_and_what_is_no_block_is_passed_over() {
        let headed = "-----BEGIN A-----\nProc-Type: 4\n\nQUFB\n-----END A-----\n";
        assert!(pem_blocks(headed)[0].has_headers);
        let good = block("G", "good");
        for bad in [
            "-----BEGIN A-----\nQUFB\n",
            "-----BEGIN A-----\nQUFB\n-----END B-----\n",
            "-----BEGIN A-----\nQUF\n-----END A-----\n",
            "x-----BEGIN A-----\nQUFB\n-----END A-----\n",
        ] {
            let found = pem_blocks(&format!("{bad}{good}"));
            let labels: Vec<_> = found.iter().map(|it| &*it.label).collect();
            assert_eq!(labels, ["G"], "{bad}");
        }
    }
}
