//! Container images made from Debian's packages, as OCI archives.
//!
//! Nothing is pulled from an image registry: `apt-get download` fetches the packages, their files
//! become one uncompressed layer. Packages are cached beside the archives; an archive that exists
//! is made again only when its recipe changed. Python's packages come from the environment of the
//! tests' clients, which `make tools` makes.

mod layer;
mod packages;
mod python;

use std::{fs, path::Path};

use anyhow::Context;
use oci_archive::Image;

/// What an image is made of.
#[derive(Debug)]
struct Recipe {
    /// The name by which containers ask for it.
    name: &'static str,
    packages: &'static [&'static str],
    /// What of the test clients' Python environment is in it.
    python: &'static [&'static str],
    /// Files of our own: path, content, mode.
    files: &'static [(&'static str, &'static str, u32)],
    entrypoint: &'static [&'static str],
    cmd: &'static [&'static str],
    user: &'static str,
    /// Changes with this file's recipes, so that stale archives are made again.
    revision: u32,
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nredis:x:999:999::/data:/bin/sh\n\
                      www-data:x:33:33::/var/www:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nredis:x:999:\nwww-data:x:33:\nadm:x:4:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Files that every image has.
const COMMON: &[(&str, &str, u32)] = &[
    ("etc/passwd", PASSWD, 0o644),
    ("etc/group", GROUP, 0o644),
    ("etc/nsswitch.conf", NSSWITCH, 0o644),
    ("usr/bin/wget", WGET, 0o755),
];

const WGET: &str = include_str!("images/wget.sh");
const GUESTBOOK_CGI: &str = include_str!("images/guestbook.sh");

/// The welcome page of the package, and logs where `kubectl logs` finds them.
const NGINX_CONF: &str = "server {\n  listen 80 default_server;\n  root /usr/share/nginx/html;\n  \
                          access_log /dev/stdout;\n  error_log /dev/stderr;\n}\n";

const RECIPES: &[Recipe] = &[
    // Not Debian's static one: its shell runs its own `wget`, whatever stands in the path.
    Recipe {
        name: "docker.io/library/busybox:1.35",
        packages: &["busybox", "libc6"],
        python: &[],
        files: &[],
        entrypoint: &[],
        cmd: &["sh"],
        user: "",
        revision: 2,
    },
    Recipe {
        name: "docker.io/library/redis:7.0",
        packages: &[
            "busybox",
            "redis-server",
            "redis-tools",
            "libc6",
            "libatomic1",
            "libjemalloc2",
            "liblzf1",
            "libsystemd0",
            "libssl3",
            "libgcc-s1",
            "libstdc++6",
            "libcap2",
            "libgcrypt20",
            "libgpg-error0",
            "liblz4-1",
            "liblzma5",
            "libzstd1",
        ],
        python: &[],
        files: &[],
        entrypoint: &[],
        cmd: &["redis-server", "--protected-mode", "no", "--dir", "/data"],
        user: "999:999",
        revision: 2,
    },
    Recipe {
        name: "docker.io/library/nginx:1.22",
        packages: &[
            "busybox",
            "nginx",
            "nginx-common",
            "libc6",
            "libcrypt1",
            "libpcre2-8-0",
            "libssl3",
            "zlib1g",
        ],
        python: &[],
        files: &[("etc/nginx/conf.d/default.conf", NGINX_CONF, 0o644)],
        entrypoint: &[],
        cmd: &["nginx", "-g", "daemon off;"],
        user: "",
        revision: 3,
    },
    Recipe {
        name: "docker.io/nodestead/guestbook:v1",
        packages: &[
            "busybox",
            "fcgiwrap",
            "libfcgi0ldbl",
            "redis-tools",
            "libc6",
            "libatomic1",
            "libjemalloc2",
            "liblzf1",
            "libsystemd0",
            "libssl3",
            "libgcc-s1",
            "libstdc++6",
            "libcap2",
            "libgcrypt20",
            "libgpg-error0",
            "liblz4-1",
            "liblzma5",
            "libzstd1",
        ],
        python: &[],
        files: &[("usr/lib/cgi-bin/guestbook", GUESTBOOK_CGI, 0o755)],
        entrypoint: &[],
        // One process: of several, some spin in `waitpid`.
        cmd: &["fcgiwrap", "-c", "1", "-s", "unix:/run/guestbook/cgi.sock"],
        user: "",
        revision: 3,
    },
    // The newest boto3 on Debian's Python, with the models of the services that are here.
    Recipe {
        name: "docker.io/nodestead/boto3:v1",
        packages: &[
            "busybox",
            "python3-minimal",
            "python3.11-minimal",
            "libpython3.11-minimal",
            "libpython3.11-stdlib",
            "media-types",
            "libbz2-1.0",
            "libc6",
            "libcrypt1",
            "libexpat1",
            "libffi8",
            "liblzma5",
            "libssl3",
            "libuuid1",
            "zlib1g",
        ],
        python: &["boto3", "botocore", "s3transfer", "jmespath", "urllib3", "dateutil", "six.py"],
        files: &[],
        entrypoint: &[],
        cmd: &["python3"],
        user: "65534:65534",
        revision: 2,
    },
];

/// Makes every image below `out` that is not there yet. `venv` is the test clients' Python
/// environment; where there is none, the images that need it are left out.
pub(crate) fn make_all(out: &Path, venv: &Path) -> anyhow::Result<()> {
    let cache = out.join("packages");
    fs::create_dir_all(&cache)?;
    for recipe in RECIPES {
        let archive = out.join(archive_name(recipe));
        if archive.exists() {
            remove_older(recipe, out)?;
            continue;
        }
        let site = python::site(venv);
        if !recipe.python.is_empty() && site.is_none() {
            println!("image {} is not made: run `make tools` first", recipe.name);
            continue;
        }
        println!("image {}", recipe.name);
        let site = site.unwrap_or_default();
        make(recipe, &cache, &site, &archive)
            .with_context(|| format!("image `{}`", recipe.name))?;
        remove_older(recipe, out)?;
    }
    Ok(())
}

/// `docker.io/library/redis:7.0`, revision 1 → `redis-7.0-r1.tar`.
fn archive_name(recipe: &Recipe) -> String {
    format!("{}{}.tar", stem(recipe), recipe.revision)
}

fn stem(recipe: &Recipe) -> String {
    let last = recipe.name.rsplit('/').next().unwrap_or(recipe.name);
    format!("{}-r", last.replace(':', "-"))
}

/// Removes what earlier revisions left: whoever loads the whole folder would load them too.
fn remove_older(recipe: &Recipe, out: &Path) -> anyhow::Result<()> {
    for revision in 1..recipe.revision {
        let stale = out.join(format!("{}{revision}.tar", stem(recipe)));
        if stale.exists() {
            fs::remove_file(stale)?;
        }
    }
    Ok(())
}

fn make(recipe: &Recipe, cache: &Path, site: &Path, archive: &Path) -> anyhow::Result<()> {
    let mut packages = layer::Packages::new()?;
    for package in recipe.packages {
        packages.add(&packages::fetch(package, cache)?)?;
    }
    // The first file of a path wins: ours stand before busybox's links.
    for (path, content, mode) in COMMON.iter().chain(recipe.files) {
        packages.layer.add_file(path, content.as_bytes(), *mode)?;
    }
    packages.add_busybox_links()?;
    let mut layer = packages.layer;
    for part in recipe.python {
        python::add(&mut layer, site, part)?;
    }
    for folder in ["tmp", "data", "run", "proc", "sys", "dev", "root", "var/log/nginx"] {
        let is_shared = folder == "tmp" || folder == "data";
        layer.add_folder(folder, if is_shared { 0o1777 } else { 0o755 })?;
    }
    let strings = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
    let image = Image {
        name: recipe.name.to_owned(),
        entrypoint: strings(recipe.entrypoint),
        cmd: strings(recipe.cmd),
        user: recipe.user.to_owned(),
        layer: layer.finish()?,
    };
    Ok(image.write(archive)?)
}

#[cfg(test)]
mod tests;
