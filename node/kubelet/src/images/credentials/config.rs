//! `CredentialProviderConfig`: which plugins there are, from one file or a folder of them.
//!
//! Upstream: `pkg/credentialprovider/plugin/config.go`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{duration::GoDuration, yaml};

pub(super) const V1: &str = "credentialprovider.kubelet.k8s.io/v1";
/// Sorted, as they are told.
const API_VERSIONS: [&str; 3] =
    [V1, "credentialprovider.kubelet.k8s.io/v1alpha1", "credentialprovider.kubelet.k8s.io/v1beta1"];
const CONFIG_VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
const KIND: &str = "CredentialProviderConfig";
const CACHE_TYPES: &str = "ServiceAccount, Token";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProviderConfig {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Provider {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub match_images: Vec<String>,
    #[serde(default)]
    pub default_cache_duration: Option<GoDuration>,
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<Variable>,
    #[serde(default)]
    pub token_attributes: Option<TokenAttributes>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variable {
    pub name: String,
    pub value: String,
}

/// The plugin is given a token of the pod's service account.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TokenAttributes {
    #[serde(default)]
    pub service_account_token_audience: String,
    /// Whether what it answers is good for the account, or for the one token.
    #[serde(default)]
    pub cache_type: String,
    #[serde(default)]
    pub require_service_account: Option<bool>,
    #[serde(default)]
    pub required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    pub optional_service_account_annotation_keys: Vec<String>,
}

/// Why plugins cannot be used. The messages are upstream's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadProvidersError {
    #[error("unable to access path \"{}\"", path.display())]
    Access {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("unable to read file \"{}\"", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no configuration files found in directory \"{}\"", .0.display())]
    Empty(PathBuf),
    #[error("error decoding config \"{}\": {message}", path.display())]
    Parse { path: PathBuf, message: String },
    #[error("duplicate provider name \"{0}\" found in configuration file(s)")]
    Duplicate(String),
    #[error("failed to validate credential provider config: {}", aggregate(.0))]
    Invalid(Vec<String>),
    #[error("plugin binary directory {} did not exist", .0.display())]
    NoFolder(PathBuf),
    #[error("plugin binary executable {} did not exist", .0.display())]
    NoPlugin(PathBuf),
}

fn aggregate(messages: &[String]) -> String {
    match messages {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Reads, merges and validates, and looks whether the programs are there.
pub(super) fn load(config: &Path, folder: &Path) -> Result<Vec<Provider>, LoadProvidersError> {
    if !folder.is_dir() {
        return Err(LoadProvidersError::NoFolder(folder.to_owned()));
    }
    let (mut all, mut names) = (Vec::<Provider>::new(), BTreeSet::new());
    for path in files(config)? {
        for provider in read(&path)? {
            if !names.insert(provider.name.clone()) {
                return Err(LoadProvidersError::Duplicate(provider.name));
            }
            all.push(provider);
        }
    }
    let wrong = validate(&all);
    if !wrong.is_empty() {
        return Err(LoadProvidersError::Invalid(wrong));
    }
    match all.iter().map(|it| folder.join(&it.name)).find(|it| !is_program(it)) {
        Some(missing) => Err(LoadProvidersError::NoPlugin(missing)),
        None => Ok(all),
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

/// The file, or those of a folder in the order of their names.
fn files(config: &Path) -> Result<Vec<PathBuf>, LoadProvidersError> {
    let failed = |source| LoadProvidersError::Access { path: config.to_owned(), source };
    if !config.metadata().map_err(failed)?.is_dir() {
        return Ok(vec![config.to_owned()]);
    }
    let entries = std::fs::read_dir(config).map_err(failed)?.flatten().map(|it| it.path());
    let is_one = |it: &PathBuf| {
        let extension = it.extension().and_then(|it| it.to_str());
        !it.is_dir() && matches!(extension, Some("json" | "yaml" | "yml"))
    };
    let mut files: Vec<_> = entries.filter(is_one).collect();
    files.sort();
    if files.is_empty() {
        return Err(LoadProvidersError::Empty(config.to_owned()));
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<Provider>, LoadProvidersError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LoadProvidersError::Read { path: path.to_owned(), source })?;
    let failed = |message: String| LoadProvidersError::Parse { path: path.to_owned(), message };
    let config: ProviderConfig = yaml::from_str(&text).map_err(|it| failed(it.to_string()))?;
    if config.kind != KIND {
        return Err(failed(format!("failed to decode \"{}\" (wrong Kind)", config.kind)));
    }
    if !CONFIG_VERSIONS.contains(&config.api_version.as_str()) {
        let version = config.api_version;
        return Err(failed(format!("no kind \"{KIND}\" is registered for version \"{version}\"")));
    }
    Ok(config.providers)
}

fn validate(all: &[Provider]) -> Vec<String> {
    let mut wrong = Vec::new();
    if all.is_empty() {
        wrong.push("providers: Required value: at least 1 item in plugins is required".to_owned());
    }
    for it in all {
        name(&it.name, &mut wrong);
        match it.api_version.as_str() {
            "" => wrong.push("providers.apiVersion: Required value".to_owned()),
            version if API_VERSIONS.contains(&version) => {}
            version => {
                let known = API_VERSIONS.map(|it| format!("\"{it}\"")).join(", ");
                wrong.push(format!(
                    "providers.apiVersion: Unsupported value: \"{version}\": supported values: {known}"
                ));
            }
        }
        if it.match_images.is_empty() {
            wrong.push(
                "providers.matchImages: Required value: at least 1 item in matchImages is required"
                    .to_owned(),
            );
        }
        if it.default_cache_duration.is_none() {
            wrong.push("providers.defaultCacheDuration: Required value".to_owned());
        }
        if let Some(attributes) = &it.token_attributes {
            token_attributes(it, attributes, &mut wrong);
        }
    }
    wrong
}

fn name(name: &str, wrong: &mut Vec<String>) {
    let mut refuse = |why: &str| {
        wrong
            .push(format!("providers.name: Invalid value: \"{name}\": provider name cannot {why}"));
    };
    if name.contains('/') {
        refuse("contain '/'");
    }
    if name.contains(' ') {
        refuse("contain spaces");
    }
    if matches!(name, "." | "..") {
        refuse(&format!("be '{name}'"));
    }
}

fn token_attributes(provider: &Provider, it: &TokenAttributes, wrong: &mut Vec<String>) {
    let at = "providers.tokenAttributes";
    if it.service_account_token_audience.is_empty() {
        wrong.push(format!("{at}.serviceAccountTokenAudience: Required value"));
    }
    if it.require_service_account.is_none() {
        wrong.push(format!("{at}.requireServiceAccount: Required value"));
    }
    if provider.api_version != V1 {
        wrong.push(format!(
            "{at}: Forbidden: tokenAttributes is only supported for {V1} API version"
        ));
    }
    let required = &it.required_service_account_annotation_keys;
    if it.require_service_account == Some(false) && !required.is_empty() {
        wrong.push(format!("{at}.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set"));
    }
    let optional = &it.optional_service_account_annotation_keys;
    for (field, keys) in [("required", required), ("optional", optional)] {
        let mut seen = BTreeSet::new();
        for key in keys.iter().filter(|it| !seen.insert(it.as_str())) {
            let field = format!("{at}.{field}ServiceAccountAnnotationKeys");
            wrong.push(format!("{field}: Duplicate value: \"{key}\""));
        }
    }
    let both: BTreeSet<_> = required.iter().filter(|it| optional.contains(it)).collect();
    if !both.is_empty() {
        let both: Vec<_> = both.into_iter().map(|it| format!("\"{it}\"")).collect();
        let both = both.join(",");
        wrong.push(format!(
            "{at}: Invalid value: [{both}]: annotation keys cannot be both required and optional"
        ));
    }
    match it.cache_type.as_str() {
        "ServiceAccount" | "Token" => {}
        "" => wrong.push(format!("{at}.cacheType: Required value: cacheType is required to be set when tokenAttributes is specified. Supported values are: {CACHE_TYPES}")),
        other => wrong.push(format!(
            "{at}.cacheType: Unsupported value: \"{other}\": supported values: \"ServiceAccount\", \"Token\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n";
    const GOOD: &str = "{name: p, matchImages: [a.example], defaultCacheDuration: 1h, apiVersion: credentialprovider.kubelet.k8s.io/v1}";

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(files: &[(&str, &str)]) -> Self {
            let this = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(this.0.path().join("config")).unwrap();
            for (name, providers) in files {
                let text = format!("{HEAD}providers:\n{providers}");
                std::fs::write(this.0.path().join("config").join(name), text).unwrap();
            }
            for name in ["p", "q"] {
                let path = this.0.path().join(name);
                std::fs::write(&path, "").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            this
        }

        fn load(&self) -> Result<Vec<String>, String> {
            let all = load(&self.0.path().join("config"), self.0.path());
            let all = all.map_err(|it| it.to_string())?;
            Ok(all.into_iter().map(|it| it.name).collect())
        }
    }

    #[test]
    fn a_folder_of_configurations_is_one() {
        let second = GOOD.replace("name: p", "name: q");
        let first = format!("- {GOOD}\n");
        let second = format!("- {second}\n");
        let folder = Folder::with(&[("2.yaml", &first), ("1.yml", &second), ("x.txt", "- {}")]);
        assert_eq!(folder.load().unwrap(), ["q", "p"]);
        let twice = Folder::with(&[("1.yaml", &first), ("2.yaml", &first)]);
        let duplicate = "duplicate provider name \"p\" found in configuration file(s)";
        assert_eq!(twice.load().unwrap_err(), duplicate);
        let none = Folder::with(&[]).load().unwrap_err();
        assert!(none.starts_with("no configuration files found in directory"), "{none}");
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let wrong = |from: &str, to: &str| {
            let text = format!("- {}\n", GOOD.replace(from, to));
            Folder::with(&[("1.yaml", &text)]).load().unwrap_err()
        };
        let prefix = "failed to validate credential provider config: ";
        for (from, to, message) in [
            (
                "name: p",
                "name: a/b",
                "providers.name: Invalid value: \"a/b\": provider name cannot contain '/'",
            ),
            (
                "matchImages: [a.example], ",
                "",
                "providers.matchImages: Required value: at least 1 item in matchImages is required",
            ),
            ("defaultCacheDuration: 1h, ", "", "providers.defaultCacheDuration: Required value"),
            (
                "io/v1}",
                "io/v2}",
                "providers.apiVersion: Unsupported value: \"credentialprovider.kubelet.k8s.io/v2\": supported values: \"credentialprovider.kubelet.k8s.io/v1\", \"credentialprovider.kubelet.k8s.io/v1alpha1\", \"credentialprovider.kubelet.k8s.io/v1beta1\"",
            ),
            (
                "name: p",
                "name: p, tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token}",
                "providers.tokenAttributes.requireServiceAccount: Required value",
            ),
            (
                "name: p",
                "name: p, tokenAttributes: {serviceAccountTokenAudience: a, requireServiceAccount: true}",
                "providers.tokenAttributes.cacheType: Required value: cacheType is required to be set when tokenAttributes is specified. Supported values are: ServiceAccount, Token",
            ),
        ] {
            assert_eq!(wrong(from, to), format!("{prefix}{message}"));
        }
        let missing = wrong("name: p", "name: missing");
        assert!(missing.ends_with("/missing did not exist"), "{missing}");
        let unknown = wrong("name: p", "name: p, surprise: 1");
        assert!(unknown.contains("unknown field `surprise`"), "{unknown}");
    }
}
