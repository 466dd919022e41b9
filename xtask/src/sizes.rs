//! Checks that every source file says what it is for and stays small enough to read.
//!
//! A file's size is that of its body: an inline `#[cfg(test)] mod tests` does not count, a file of
//! tests may be longer.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;

const BODY_LIMIT: usize = 600;
const TEST_FILE_LIMIT: usize = 1000;

pub(crate) fn check() -> anyhow::Result<()> {
    let files = sources(Path::new("."))?;
    let mut bodies = Vec::new();
    let mut faults = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file)?;
        let body = body_lines(&text);
        faults.extend(faults_of(file, &text, body));
        bodies.push(body);
    }
    bodies.sort_unstable();
    let at = |percent: usize| bodies.get(bodies.len() * percent / 100).copied().unwrap_or(0);
    println!("sizes: {} files, median {} lines, p90 {}", bodies.len(), at(50), at(90));
    ensure!(faults.is_empty(), "files to mend:\n{}", faults.join("\n"));
    Ok(())
}

fn faults_of(file: &Path, text: &str, body: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let is_test = file.components().any(|it| it.as_os_str() == "tests")
        || file.file_stem().is_some_and(|it| it == "tests");
    let limit = if is_test { TEST_FILE_LIMIT } else { BODY_LIMIT };
    if !text.starts_with("//!") {
        faults.push(format!("  {}: does not open with `//!`", file.display()));
    }
    if body > limit {
        faults.push(format!("  {}: {body} lines, the limit is {limit}", file.display()));
    }
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        faults.push(format!("  {}: use `name.rs` beside `name/`", file.display()));
    }
    faults
}

/// Without the inline module of tests, which ends a file; `#[cfg(test)] use …` and `mod tests;` do not.
fn body_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_tests = |pair: &[&str]| {
        let opens = pair[1].contains("mod ") && pair[1].ends_with(['{', '}']);
        pair[0] == "#[cfg(test)]" && opens
    };
    lines.windows(2).position(is_tests).unwrap_or(lines.len())
}

/// All Rust files that git would track, but for those of build folders.
pub(crate) fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_tests_do_not_count() {
        assert_eq!(body_lines("//! a\nfn a() {}\n#[cfg(test)]\nmod tests {}\n"), 2);
        assert_eq!(body_lines("//! a\n#[cfg(test)]\nuse b;\nfn a() {}\n"), 4);
        assert_eq!(body_lines("//! a\n#[cfg(test)]\nmod tests;\nfn a() {}\n"), 4);
    }

    #[test]
    fn a_file_without_a_header_or_too_long_is_a_fault() {
        let long = "//! a\n".repeat(601);
        assert_eq!(faults_of(Path::new("src/a.rs"), &long, 601).len(), 1);
        assert_eq!(faults_of(Path::new("src/a/tests.rs"), &long, 601).len(), 0);
        assert_eq!(faults_of(Path::new("src/mod.rs"), "fn a() {}", 1).len(), 2);
    }
}
