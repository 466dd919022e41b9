//! Names of registries, repositories and images.

/// A repository in a registry, by the registry's host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RepositoryId {
    pub(crate) registry: String,
    pub(crate) name: String,
}

impl RepositoryId {
    pub(crate) fn new(registry: &str, name: &str) -> Self {
        Self { registry: registry.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    /// As the API names it: an image of another registry that was loaded into this one is in a
    /// repository under that registry's name, as in a pull through cache.
    pub(crate) fn shown(&self) -> String {
        if self.account().is_some() { self.name.clone() } else { self.key() }
    }

    /// The repository of another registry that the API's name is of.
    pub(crate) fn of_shown(name: &str) -> Option<Self> {
        let (host, name) = name.split_once('/')?;
        let is_host = host.contains('.') || host.contains(':') || host == "localhost";
        (is_host && account_of(host).is_none()).then(|| Self::new(canonical_registry(host), name))
    }

    /// The account and region of an ECR registry.
    pub(crate) fn account(&self) -> Option<(&str, &str)> {
        account_of(&self.registry)
    }
}

/// The host name of an account's registry.
pub(crate) fn ecr_host(account: &str, region: &str) -> String {
    format!("{account}.dkr.ecr.{region}.amazonaws.com")
}

/// The account and region of `ACCOUNT.dkr.ecr.REGION.amazonaws.com`.
pub(crate) fn account_of(host: &str) -> Option<(&str, &str)> {
    let (account, rest) = host.split_once(".dkr.ecr.")?;
    let region = rest.strip_suffix(".amazonaws.com")?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let is_region = !region.is_empty() && !region.contains('.');
    (is_account && is_region).then_some((account, region))
}

/// The host that instances ask for images of all other registries (nodeadm's `hosts.toml`).
pub(crate) fn is_mirror(host: &str, region: &str) -> bool {
    host.strip_prefix("mirror.registry.").and_then(|it| it.strip_suffix(".amazonaws.com"))
        == Some(region)
}

/// Whether it can be a repository's name (the OCI distribution specification's grammar).
pub(crate) fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(is_plain)
            && bytes.last().is_some_and(is_plain)
            && bytes.iter().all(|byte| is_plain(byte) || b"._-".contains(byte))
    };
    (2..=256).contains(&name.len()) && name.split('/').all(is_part)
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    (1..=128).contains(&bytes.len())
        && bytes.first().is_some_and(is_word)
        && bytes.iter().all(|byte| is_word(byte) || b".-".contains(byte))
}

/// Takes an image's name apart as Docker does: `nginx` is `docker.io/library/nginx:latest`.
pub(crate) fn parse_image(name: &str) -> Option<(RepositoryId, String)> {
    let name = name.split('@').next().unwrap_or(name);
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let is_host = first.contains('.') || first.contains(':') || first == "localhost";
    let (registry, path) = if is_host { (first, rest) } else { ("docker.io", name) };
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, tag),
        None => (path, "latest"),
    };
    let registry = canonical_registry(registry);
    let path = match registry {
        "docker.io" if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    let is_good = path.split('/').all(|part| !part.is_empty()) && is_repository(&path);
    (is_good && is_tag(tag)).then(|| (RepositoryId::new(registry, &path), tag.to_owned()))
}

/// Docker Hub has three names.
pub(crate) fn canonical_registry(host: &str) -> &str {
    match host {
        "registry-1.docker.io" | "index.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_docker_hubs() {
        let cases = [
            ("nginx", "docker.io", "library/nginx", "latest"),
            ("redis:7.2", "docker.io", "library/redis", "7.2"),
            ("me/app:1", "docker.io", "me/app", "1"),
            ("index.docker.io/library/nginx:1", "docker.io", "library/nginx", "1"),
            ("localhost:5000/app", "localhost:5000", "app", "latest"),
            ("quay.io/a/b/c:x", "quay.io", "a/b/c", "x"),
        ];
        for (given, registry, name, tag) in cases {
            let (id, found) = parse_image(given).unwrap();
            assert_eq!((id, &*found), (RepositoryId::new(registry, name), tag), "{given}");
        }
        for bad in ["", "UPPER/x", "a/../b", "a//b", "x:ta g", "quay.io/../../etc/passwd"] {
            assert_eq!(parse_image(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_ecr_host_has_an_account_and_a_region() {
        let host = "602401143452.dkr.ecr.us-east-1.amazonaws.com";
        assert_eq!(account_of(host), Some(("602401143452", "us-east-1")));
        for bad in ["docker.io", "1.dkr.ecr.us-east-1.amazonaws.com", &format!("{host}.evil.com")] {
            assert_eq!(account_of(bad), None, "{bad}");
        }
    }
}
