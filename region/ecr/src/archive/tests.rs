//! What must hold of `archive`.

use std::sync::Arc;

use aws_ecr::{
    image::{DescribeImages, DescribeImagesRequest, ListImages, ListImagesRequest},
    repository::{DescribeRepositories, DescribeRepositoriesRequest},
};
use region_gateway::{Caller, Handle};

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

#[tokio::test]
async fn what_was_loaded_is_listed_under_the_name_of_its_registry() {
    let (ecr, _folder) = ecr();
    let archive = layout("io.containerd.image.name", "docker.io/library/nginx:1");
    ecr.import_archive(&archive[..]).unwrap();
    let root = Caller::root("111122223333", "us-east-1", ecr.config.clock.now());
    let asked = DescribeRepositoriesRequest::default();
    let found = Handle::<DescribeRepositories>::handle(&*ecr, &root, asked).await.unwrap();
    let repository = &found.repositories[0];
    let name = repository.repository_name.clone();
    assert_eq!(name, "docker.io/library/nginx");
    assert_eq!(repository.registry_id, "111122223333");
    assert_eq!(repository.repository_uri, "docker.io/library/nginx", "what a pod is to name");
    assert!(repository.repository_arn.ends_with(":repository/docker.io/library/nginx"));

    let named =
        DescribeRepositoriesRequest { repository_names: vec![name.clone()], ..Default::default() };
    let again = Handle::<DescribeRepositories>::handle(&*ecr, &root, named).await.unwrap();
    assert_eq!(again, found);
    let asked = ListImagesRequest { repository_name: name.clone(), ..Default::default() };
    let images = Handle::<ListImages>::handle(&*ecr, &root, asked).await.unwrap().image_ids;
    assert_eq!(images[0].image_tag.as_deref(), Some("1"));
    let asked = DescribeImagesRequest { repository_name: name, ..Default::default() };
    let details = Handle::<DescribeImages>::handle(&*ecr, &root, asked).await.unwrap();
    let image = &details.image_details[0];
    assert_eq!(
        (image.image_tags.as_slice(), image.repository_name.as_str()),
        (&["1".to_owned()][..], "docker.io/library/nginx")
    );
    assert!(image.image_size_in_bytes > 0 && image.image_pushed_at > 0.0);
    assert_eq!(Some(image.image_digest.as_str()), images[0].image_digest.as_deref());
    // No name leads into the repositories of another account.
    let other = "602401143452.dkr.ecr.us-east-1.amazonaws.com/eks/pause";
    let asked = ListImagesRequest { repository_name: other.to_owned(), ..Default::default() };
    let refused = Handle::<ListImages>::handle(&*ecr, &root, asked).await.unwrap_err();
    assert_eq!(refused.code, "RepositoryNotFoundException");
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

/// Some bytes of an archive, and then the disk does not answer.
struct Failing(io::Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::from_raw_os_error(5)),
            count => Ok(count),
        }
    }
}

#[test]
fn a_disk_that_fails_is_not_blamed_on_the_archive() {
    let (first, _folder) = ecr();
    let whole = tar(&[("x", &[b'y'; 2000]), ("z", b"y")]);
    for length in [0, 100, 1000] {
        let file = Failing(io::Cursor::new(whole[..length].to_vec()));
        let error = first.import_archive(file).unwrap_err();
        assert!(matches!(error, ImportError::Read { .. }), "{length}: {error}");
        assert!(!error.is_of_archive());
    }
    let (second, folder) = ecr();
    std::fs::remove_dir_all(folder.path()).unwrap();
    let error = second.import_archive(&whole[..]).unwrap_err();
    assert!(matches!(error, ImportError::Blobs { .. }), "{error}");
    assert!(!error.is_of_archive());
}

#[test]
fn a_bad_archive_names_what_is_wrong() {
    let (ecr, _folder) = ecr();
    let import = |bytes: &[u8]| {
        let error = ecr.import_archive(bytes).unwrap_err();
        assert!(error.is_of_archive(), "{error}");
        error.to_string()
    };
    for other in [&b"not a tar".repeat(100)[..], b"\x1f\x8bnot gzip", b"short"] {
        assert!(import(other).contains("no archive of images"), "{}", import(other));
    }
    assert!(import(&tar(&[("x", b"y")])).contains("neither"));
    let whole = tar(&[("x", &[b'y'; 2000]), ("z", b"y")]);
    assert!(import(&whole[..1000]).contains("cut off or broken"));
    let list = json!([{"Config": "c.json", "RepoTags": ["a"], "Layers": []}]).to_string();
    assert!(import(&tar(&[("manifest.json", list.as_bytes())])).contains("`c.json`"));
    let digits = "0".repeat(64);
    let path = format!("blobs/sha256/{digits}");
    assert!(import(&tar(&[(&path, b"other")])).contains("digest"));
    assert!(import(&layout("org.opencontainers.image.ref.name", "latest")).contains("no names"));
}
