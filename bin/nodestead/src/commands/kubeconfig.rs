//! `nodestead kubeconfig`: a way into a cluster as any user, by a certificate of the cluster's authority.
//!
//! With it components that are not ours take the place of ours, each as the user that upstream's roles are
//! bound to. Of a region's clusters, and of a `nodestead run kube-apiserver`, by its data directory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use clock::Clock;
use kube::config::Kubeconfig as Read;
use pki::{Ca, Credentials, Kubeconfig, Profile, Usage};

use crate::{
    cli,
    failure::{Failure, NEXT},
    layout::Layout,
};

pub(crate) fn run(args: &cli::Kubeconfig) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    print!("{}", of(&layout, args, Clock::system())?);
    Ok(())
}

/// Where a cluster's authority is, and its administrator's kubeconfig.
struct Place {
    authority: PathBuf,
    kubeconfig: PathBuf,
}

fn of(layout: &Layout, args: &cli::Kubeconfig, clock: Clock) -> anyhow::Result<String> {
    let place = place(layout, args.cluster.as_deref())?;
    let known = Read::read_from(&place.kubeconfig).map_err(|error| {
        let what = format!("cannot read `{}` ({error})", place.kubeconfig.display());
        Failure::new(what, NEXT)
    })?;
    let cluster = known.clusters.first().context("the kubeconfig has no cluster")?;
    let reached = cluster.cluster.clone().unwrap_or_default();
    let trusted = reached.certificate_authority_data.context("the kubeconfig trusts nobody")?;
    let ca = Ca::from_pem(
        &read(&place.authority.with_extension("crt"))?,
        &read(&place.authority.with_extension("key"))?,
    )?;
    let group = args.group.as_deref().or_else(|| group(&args.user));
    let profile = Profile {
        cn: args.user.clone(),
        organizations: group.map(str::to_owned).into_iter().collect(),
        sans: Vec::new(),
        usages: vec![Usage::Client],
        not_after: clock.now() + Duration::from_secs(u64::from(args.hours) * 3600),
    };
    let config = Kubeconfig {
        name: cluster.name.clone(),
        server: reached.server.context("the kubeconfig names no server")?,
        ca_pem: String::from_utf8(BASE64_STANDARD.decode(trusted)?)?,
        tls_server_name: None,
        credentials: Credentials::Certificate(ca.issue(&profile)?),
    };
    Ok(config.render()?)
}

/// The groups without which these users would be nobody.
fn group(user: &str) -> Option<&'static str> {
    match user {
        "kubernetes-admin" => Some("system:masters"),
        user if user.starts_with("system:node:") => Some("system:nodes"),
        _ => None,
    }
}

fn place(layout: &Layout, cluster: Option<&str>) -> anyhow::Result<Place> {
    let root = layout.root();
    let alone = root.join("admin.conf");
    if alone.exists() && cluster.is_none() {
        return Ok(Place { authority: root.join("pki/ca"), kubeconfig: alone });
    }
    let name = match cluster {
        Some(name) => name.to_owned(),
        None => crate::clusters::own(layout).ok_or_else(|| {
            Failure::new(format!("no cluster is known on `{}`", root.display()), NEXT)
        })?,
    };
    // A name is no way to another folder.
    if name.contains('/') || name.starts_with('.') {
        let next = "`nodestead status` names the region's clusters";
        return Err(Failure::usage(format!("`{name}` is no name of a cluster"), next).into());
    }
    let folder = layout.clusters().join(name);
    Ok(Place { authority: folder.join("ca"), kubeconfig: folder.join("kubeconfig") })
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::unreadable(path, &error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// A folder as `nodestead run kube-apiserver` or `up` leaves it, with this authority.
    fn write(folder: &Path, authority: &str, kubeconfig: &str) -> Ca {
        let ca = Ca::new("kubernetes").unwrap();
        let config = Kubeconfig {
            name: "stead".into(),
            server: "https://127.0.0.1:6443".into(),
            ca_pem: ca.certificate_pem().into(),
            tls_server_name: None,
            credentials: Credentials::Token("t".into()),
        };
        let authority = folder.join(authority);
        std::fs::create_dir_all(authority.parent().unwrap()).unwrap();
        std::fs::write(authority.with_extension("crt"), ca.certificate_pem()).unwrap();
        std::fs::write(authority.with_extension("key"), ca.key_pem()).unwrap();
        let kubeconfig = folder.join(kubeconfig);
        std::fs::create_dir_all(kubeconfig.parent().unwrap()).unwrap();
        std::fs::write(kubeconfig, config.render().unwrap()).unwrap();
        ca
    }

    fn made(folder: &Path, words: &[&str]) -> anyhow::Result<Read> {
        let all = ["nodestead", "kubeconfig", "--data-dir", folder.to_str().unwrap()];
        let cli = Cli::parse_from(all.iter().chain(words));
        let Command::Kubeconfig(args) = cli.command else { panic!("another command") };
        let text = of(&Layout::new(folder)?, &args, Clock::system())?;
        Ok(Read::from_yaml(&text)?)
    }

    fn subject(config: &Read) -> (String, Vec<String>) {
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        let pem = BASE64_STANDARD.decode(user.client_certificate_data.as_ref().unwrap()).unwrap();
        let subject = pki::subject_of_pem(&String::from_utf8(pem).unwrap()).unwrap();
        (subject.common_name, subject.organizations)
    }

    #[test]
    fn a_component_a_node_and_a_person_get_in_as_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let ca = write(folder.path(), "pki/ca", "admin.conf");
        for (words, name, groups) in [
            (&["system:kube-scheduler"][..], "system:kube-scheduler", &[][..]),
            (&["system:node:n1"][..], "system:node:n1", &["system:nodes"][..]),
            (&["jane", "--group", "developers"][..], "jane", &["developers"][..]),
            (&[][..], "kubernetes-admin", &["system:masters"][..]),
        ] {
            let config = made(folder.path(), words).unwrap();
            let (found, organizations) = subject(&config);
            assert_eq!(found, name);
            assert_eq!(organizations, groups);
            let cluster = config.clusters[0].cluster.as_ref().unwrap();
            assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
            let trusted = cluster.certificate_authority_data.as_ref().unwrap();
            assert_eq!(BASE64_STANDARD.decode(trusted).unwrap(), ca.certificate_pem().as_bytes());
        }
    }

    #[test]
    fn a_regions_clusters_have_their_own_authorities() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "clusters/other/ca", "clusters/other/kubeconfig");
        assert!(made(folder.path(), &["u"]).is_err(), "none is the region's own");
        assert!(made(folder.path(), &["u", "--cluster", "other"]).is_ok());
        write(folder.path(), "clusters/stead/ca", "kubeconfig");
        write(folder.path(), "clusters/stead/ca", "clusters/stead/kubeconfig");
        assert_eq!(subject(&made(folder.path(), &["u"]).unwrap()).0, "u");
        for wrong in ["../stead", "nobody"] {
            assert!(made(folder.path(), &["u", "--cluster", wrong]).is_err(), "{wrong}");
        }
    }
}
