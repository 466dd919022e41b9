//! Which registry patterns match an image: `*.dkr.ecr.*.amazonaws.com`, `host:5000/team`.
//!
//! Docker Hub has two names, `docker.io` in images and `index.docker.io` in Docker's configuration.
//!
//! Upstream: `pkg/credentialprovider/keyring.go`.

/// Each dot-separated part of the pattern's host may hold `*`; the port must be equal and the path a
/// prefix.
pub(super) fn matches(pattern: &str, image: &str) -> bool {
    let (pattern_host, pattern_port, pattern_path) = parts(pattern);
    let image = with_registry(image);
    let (host, port, path) = parts(&image);
    if pattern_host == DOCKER_INDEX && pattern_path.is_empty() && is_docker_hub(&host) {
        return true;
    }
    if pattern_port != port || !path.starts_with(&pattern_path) {
        return false;
    }
    let (wanted, given): (Vec<_>, Vec<_>) =
        (pattern_host.split('.').collect(), host.split('.').collect());
    wanted.len() == given.len() && wanted.iter().zip(&given).all(|(a, b)| glob(a, b))
}

const DOCKER_INDEX: &str = "index.docker.io";
const DOCKER_HUB: &str = "docker.io";

fn is_docker_hub(host: &str) -> bool {
    host == DOCKER_HUB || host == DOCKER_INDEX
}

/// Docker Hub's images need not name their registry, nor the official ones their owner.
fn with_registry(image: &str) -> String {
    let first = image.split('/').next().unwrap_or_default();
    let names_host =
        image.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost");
    match (names_host, image.contains('/')) {
        (true, _) => image.to_owned(),
        (false, true) => format!("{DOCKER_HUB}/{image}"),
        (false, false) => format!("{DOCKER_HUB}/library/{image}"),
    }
}

fn parts(text: &str) -> (String, String, String) {
    let text = text.trim_start_matches("https://").trim_start_matches("http://");
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    // `/v1/` and `/v2/` are how old clients wrote a registry's root.
    let path = match path.trim_end_matches('/') {
        "v1" | "v2" => "",
        path => path,
    };
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    (host.to_owned(), port.to_owned(), path.to_owned())
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => {
            let Some(text) = text.strip_prefix(before) else { return false };
            (0..=text.len())
                .filter(|at| text.is_char_boundary(*at))
                .any(|at| glob(rest, &text[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_paths_have_to_fit() {
        let ecr = "111122223333.dkr.ecr.us-east-1.amazonaws.com/a:1";
        for (pattern, image, is_match) in [
            ("*.dkr.ecr.*.amazonaws.com", ecr, true),
            ("*.dkr.ecr.*.amazonaws.com", "x.y.dkr.ecr.us-east-1.amazonaws.com/a", false),
            ("*.dkr.ecr.*.amazonaws.com", "evil.com/111.dkr.ecr.us-east-1.amazonaws.com/a", false),
            ("host:5000", "host:5000/a", true),
            ("host", "host:5000/a", false),
            ("host:5000/team", "host:5000/team/a", true),
            ("host:5000/team", "host:5000/other/a", false),
            ("https://index.docker.io/v1/", "nginx", true),
            ("https://index.docker.io/v1/", "docker.io/org/app:1", true),
            ("https://index.docker.io/v1/", "org/app", true),
            ("https://index.docker.io/v1/", "example.com/org/app", false),
            ("docker.io/org", "org/app", true),
            ("docker.io/org", "other/app", false),
            ("docker.io/library", "nginx", true),
            ("*.example.com", "example.com/a", false),
        ] {
            assert_eq!(matches(pattern, image), is_match, "{pattern} {image}");
        }
    }
}
