//! Names of images: whether one is well formed, and its tag where it has none.
//!
//! Upstream: `pkg/util/parsers` and the grammar of `distribution/reference`, whose words the errors are.

/// With a tag: the runtime does not add one.
pub(crate) fn normalized(name: &str) -> Result<String, String> {
    check(name).map_err(|error| format!("couldn't parse image name \"{name}\": {error}"))?;
    let last = name.rsplit('/').next().unwrap_or_default();
    Ok(if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") })
}

const INVALID: &str = "invalid reference format";

fn check(name: &str) -> Result<(), String> {
    let invalid = || Err(INVALID.to_owned());
    let (front, digest) = match name.split_once('@') {
        Some((front, digest)) => (front, Some(digest)),
        None => (name, None),
    };
    let slash = front.rfind('/').map_or(0, |it| it + 1);
    let (repository, tag) = match front[slash..].find(':') {
        Some(at) => (&front[..slash + at], Some(&front[slash + at + 1..])),
        None => (front, None),
    };
    let path = match repository.split_once('/') {
        Some((first, rest)) if is_host(first) => rest,
        _ => repository,
    };
    if path.is_empty() || !path.split('/').all(|it| is_component(&it.to_lowercase())) {
        return invalid();
    }
    if path.chars().any(|it| it.is_ascii_uppercase()) {
        return Err(format!("{INVALID}: repository name ({path}) must be lowercase"));
    }
    let is_tag = |it: &str| {
        let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
        (1..=128).contains(&it.len())
            && it.starts_with(is_word)
            && it.chars().all(|it| is_word(it) || matches!(it, '.' | '-'))
    };
    let is_digest = |it: &str| {
        it.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.chars().all(|it| it.is_ascii_hexdigit())
        })
    };
    if tag.is_some_and(|it| !is_tag(it)) || digest.is_some_and(|it| !is_digest(it)) {
        return invalid();
    }
    Ok(())
}

fn is_host(text: &str) -> bool {
    let is_named = text == "localhost"
        || text.contains(['.', ':'])
        || text.chars().any(|it| it.is_ascii_uppercase());
    is_named
        && text
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | ':' | '[' | ']'))
}

/// Lower-case words, separated by one dot, one or two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let is_word = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit();
    let is_bounded = text.starts_with(is_word) && text.ends_with(is_word);
    let mut separators = text.split(is_word).filter(|it| !it.is_empty());
    is_bounded
        && separators.all(|it| matches!(it, "." | "_" | "__") || it.chars().all(|it| it == '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_names_get_a_tag_and_others_are_refused_with_the_reason() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for name in ["nginx:1", "host:5000/a/b:x", "a__b/c-d.e:1", digest.as_str()] {
            assert_eq!(normalized(name).as_deref(), Ok(name));
        }
        for (name, full) in [("nginx", "nginx:latest"), ("host:5000/a", "host:5000/a:latest")] {
            assert_eq!(normalized(name).as_deref(), Ok(full));
        }
        for name in ["", ":1", "a:", "a b", "FOO/@x", "a//b", "a..b", "-a", "a:b:c", "a@sha256:1"] {
            let error = normalized(name).unwrap_err();
            assert!(error.ends_with("invalid reference format"), "{name}: {error}");
        }
        assert_eq!(
            normalized("nginx/Foo").unwrap_err(),
            "couldn't parse image name \"nginx/Foo\": invalid reference format: repository name (nginx/Foo) must be lowercase"
        );
    }
}
