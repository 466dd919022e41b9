//! What must hold of `archive`.

use std::sync::Arc;

use super::*;
use crate::registry::testing::ecr;

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn tags(ecr: &Arc<Ecr>, registry: &str, name: &str) -> Vec<String> {
    let tags = ecr.catalog.tags(&RepositoryId::new(registry, name));
    tags.into_iter().map(|(tag, _)| tag).collect()
}

/// An OCI layout of one image, with this annotation.
fn layout(annotation: &str, name: &str) -> Vec<u8> {
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    let blob = |bytes: &[u8]| json!({"digest": Digest::of(bytes).as_str(), "size": bytes.len()});
    let manifest =
        json!({"schemaVersion": 2, "config": blob(config), "layers": [blob(layer)]}).to_string();
    let mut entry = blob(manifest.as_bytes());
    entry["annotations"] = json!({annotation: name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    tar(&[
        ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"),
        (&path(config), config),
        (&path(layer), layer),
        (&path(manifest.as_bytes()), manifest.as_bytes()),
        ("index.json", index.as_bytes()),
    ])
}

#[test]
fn an_oci_layout_is_known_by_its_names() {
    let (ecr, _folder) = ecr();
    let archive = layout("io.containerd.image.name", "docker.io/library/nginx:1");
    let names = ecr.import_archive(&archive[..]).unwrap();
    assert_eq!(names, ["docker.io/library/nginx:1"]);
    assert_eq!(tags(&ecr, "docker.io", "library/nginx"), ["1"]);
    // Twice is the same as once.
    assert_eq!(ecr.import_archive(&archive[..]).unwrap(), names);
}

#[test]
fn a_compressed_archive_is_an_archive() {
    use std::io::Write;
    let (ecr, _folder) = ecr();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layout("org.opencontainers.image.ref.name", "quay.io/a/b:c")).unwrap();
    let archive = gzip.finish().unwrap();
    assert_eq!(ecr.import_archive(&archive[..]).unwrap(), ["quay.io/a/b:c"]);
}

#[test]
fn what_docker_saves_gets_a_manifest() {
    let (ecr, _folder) = ecr();
    let list = json!([{
        "Config": "config.json", "RepoTags": ["redis:7"], "Layers": ["a/layer.tar"],
    }]);
    let archive = tar(&[
        ("config.json", b"{}"),
        ("a/layer.tar", b"bytes"),
        ("manifest.json", list.to_string().as_bytes()),
    ]);
    assert_eq!(ecr.import_archive(&archive[..]).unwrap(), ["docker.io/library/redis:7"]);
    let id = RepositoryId::new("docker.io", "library/redis");
    let (digest, image) = ecr.catalog.resolve(&id, "7").unwrap();
    assert_eq!(image.media_type, manifest::OCI_MANIFEST);
    assert!(ecr.blobs.size(&digest).is_some());
}

#[test]
fn a_bad_archive_names_what_is_wrong() {
    let (ecr, _folder) = ecr();
    let import = |bytes: &[u8]| ecr.import_archive(bytes).unwrap_err().to_string();
    assert!(import(b"not a tar").contains("archive"));
    assert!(import(&tar(&[("x", b"y")])).contains("neither"));
    let list = json!([{"Config": "c.json", "RepoTags": ["a"], "Layers": []}]).to_string();
    assert!(import(&tar(&[("manifest.json", list.as_bytes())])).contains("`c.json`"));
    let digits = "0".repeat(64);
    let path = format!("blobs/sha256/{digits}");
    assert!(import(&tar(&[(&path, b"other")])).contains("digest"));
    assert!(import(&layout("org.opencontainers.image.ref.name", "latest")).contains("no names"));
}
