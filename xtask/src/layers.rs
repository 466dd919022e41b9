//! Checks that every workspace dependency points down the layers of `layers.toml`.
//!
//! The longest directory that holds a crate is its layer. Dev-dependencies are free: a test may
//! put two components side by side. And that ARCHITECTURE.md's map has every crate.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Layers {
    /// Directory → the directories that its crates may depend on; `*` is all of them.
    layer: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

pub(crate) fn check() -> anyhow::Result<()> {
    let text = fs::read_to_string("layers.toml").context("failed to read `layers.toml`")?;
    let layers: Layers = toml::from_str(&text)?;
    let metadata = metadata()?;
    let violations = violations(&layers, &metadata);
    ensure!(violations.is_empty(), "dependencies against the layers:\n{}", violations.join("\n"));
    let map = fs::read_to_string("ARCHITECTURE.md").context("failed to read `ARCHITECTURE.md`")?;
    let unmapped = unmapped(&map, &metadata);
    ensure!(
        unmapped.is_empty(),
        "crates that ARCHITECTURE.md does not name: {}",
        unmapped.join(", ")
    );
    println!("layers: {} crates, no edge goes up", metadata.packages.len());
    Ok(())
}

fn violations(layers: &Layers, metadata: &Metadata) -> Vec<String> {
    let layer_of = |path: &str| {
        let inside = Path::new(path).strip_prefix(&metadata.workspace_root).ok()?;
        layers.layer.keys().filter(|layer| inside.starts_with(layer)).max_by_key(|it| it.len())
    };
    let mut violations = Vec::new();
    for package in &metadata.packages {
        let Some(from) = layer_of(&package.manifest_path) else {
            violations.push(format!("  {} is in no layer", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let is_test_only = dependency.kind.as_deref() == Some("dev");
            let Some(to) = dependency.path.as_deref().and_then(layer_of) else { continue };
            let allowed = &layers.layer[from];
            if !(is_test_only || allowed.contains(to) || allowed.iter().any(|it| it == "*")) {
                violations
                    .push(format!("  {} ({from}) -> {} ({to})", package.name, dependency.name));
            }
        }
    }
    violations
}

/// The folders of crates that the map does not name.
fn unmapped(map: &str, metadata: &Metadata) -> Vec<String> {
    let folders = metadata.packages.iter().filter_map(|package| {
        let folder = Path::new(&package.manifest_path).parent()?;
        Some(folder.strip_prefix(&metadata.workspace_root).ok()?.display().to_string())
    });
    folders.filter(|it| !map.contains(&format!("`{it}`"))).collect()
}

fn metadata() -> anyhow::Result<Metadata> {
    let output =
        Command::new("cargo").args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    serde_json::from_slice(&output.stdout).context("failed to read `cargo metadata`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
        let layer = BTreeMap::from([
            ("base".to_owned(), vec!["base".to_owned()]),
            ("node".to_owned(), vec!["base".to_owned()]),
        ]);
        let dependency = Dependency {
            name: "d".into(),
            kind: kind.map(Into::into),
            path: Some(format!("/w/{to}")),
        };
        let package = Package {
            name: "p".into(),
            manifest_path: format!("/w/{from}/Cargo.toml"),
            dependencies: vec![dependency],
        };
        violations(
            &Layers { layer },
            &Metadata { packages: vec![package], workspace_root: "/w".into() },
        )
    }

    #[test]
    fn an_edge_down_is_allowed_and_an_edge_up_or_sideways_is_not() {
        assert!(verdict("node/kubelet", "base/clock", None).is_empty());
        assert_eq!(verdict("base/clock", "node/kubelet", None).len(), 1);
        assert_eq!(verdict("node/kubelet", "node/kube-proxy", None).len(), 1);
    }

    #[test]
    fn a_crate_that_the_map_does_not_name_is_told() {
        let package = |at: &str| Package {
            name: "p".into(),
            manifest_path: format!("/w/{at}/Cargo.toml"),
            dependencies: Vec::new(),
        };
        let packages = vec![package("base/clock"), package("base/new")];
        let metadata = Metadata { packages, workspace_root: "/w".into() };
        assert_eq!(unmapped("- `base/clock`: time, - base/new", &metadata), ["base/new"]);
    }

    #[test]
    fn tests_may_depend_on_anything() {
        assert!(verdict("node/kubelet", "node/kube-proxy", Some("dev")).is_empty());
    }
}
