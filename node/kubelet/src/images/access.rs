//! Who may use an image that is already on the node.
//!
//! An image that was pulled with a secret is there for the pods that have this secret; for others it
//! is pulled again, with what they have. Images that nobody had to show a secret for, or that the node
//! itself may pull, are there for all. What is known is kept as one file per image, so that a
//! restarted kubelet lends nothing to strangers.
//!
//! Upstream: `pkg/kubelet/images/pullmanager` (KEP-2535).
//!
//! **Invariant:** a record is written before a pod may use what was pulled. That a pull is under way
//! is written before it begins: an image that came while nobody could write is nobody's.
//!
//! Deviation: a secret is recognised by what it holds, not by its name too: a pod whose secret got
//! another password pulls again.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use api_cri::v1;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::credentials::{Candidate, Owner};

/// `imagePullCredentialsVerificationPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    NeverVerify,
    /// Images that this kubelet did not pull are for everybody.
    NeverVerifyPreloadedImages,
    NeverVerifyAllowlistedImages,
    AlwaysVerify,
}

impl Policy {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "NeverVerify" => Some(Self::NeverVerify),
            "" | "NeverVerifyPreloadedImages" => Some(Self::NeverVerifyPreloadedImages),
            "NeverVerifyAllowlistedImages" => Some(Self::NeverVerifyAllowlistedImages),
            "AlwaysVerify" => Some(Self::AlwaysVerify),
            _ => None,
        }
    }
}

/// What is known of one image, by the runtime's id of it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    image_ref: String,
    /// Everybody may use it.
    is_open: bool,
    /// Digests of the secrets that it was pulled with.
    secrets: Vec<String>,
    /// The service accounts that it was pulled for.
    #[serde(default)]
    accounts: Vec<String>,
}

impl Record {
    fn is_for(&self, credential: &Candidate) -> bool {
        match &credential.owner {
            Owner::Account(account) => self.accounts.contains(account),
            Owner::Node | Owner::Secret => self.secrets.contains(&digest(&credential.auth)),
        }
    }
}

pub(crate) struct Access {
    folder: PathBuf,
    policy: Policy,
    allowlist: Vec<String>,
    /// What was pulled since the runtime's images began to be listed. One change at a time.
    fresh: Mutex<HashSet<String>>,
}

impl Access {
    pub(crate) fn new(root: &Path, policy: Policy, allowlist: Vec<String>) -> Self {
        let folder = root.join("image_manager").join("pulled");
        Self { folder, policy, allowlist, fresh: Mutex::default() }
    }

    /// Whether an image that is there may be used by whoever has these credentials.
    pub(super) fn is_granted(
        &self,
        name: &str,
        image_ref: &str,
        credentials: &[Candidate],
    ) -> bool {
        match (self.policy, self.read(image_ref)) {
            (Policy::NeverVerify, _) => true,
            (_, None) if self.intent(name).exists() => false,
            (Policy::NeverVerifyPreloadedImages, None) => true,
            (Policy::NeverVerifyAllowlistedImages, None) => self.is_listed(name),
            (Policy::AlwaysVerify, None) => false,
            (_, Some(record)) => record.is_open || credentials.iter().any(|it| record.is_for(it)),
        }
    }

    /// Whether credentials have to be looked at at all, which costs requests.
    pub(super) fn is_open(&self, name: &str, image_ref: &str) -> bool {
        self.is_granted(name, image_ref, &[])
    }

    /// A pull begins.
    pub(super) fn begin(&self, name: &str) {
        let written =
            fs::create_dir_all(self.intents()).and_then(|()| fs::write(self.intent(name), name));
        if let Err(error) = written {
            warn!(name, %error, "that a pull begins was not written down");
        }
    }

    /// A pull has ended, well or not.
    pub(super) fn end(&self, name: &str) {
        drop(fs::remove_file(self.intent(name)));
    }

    fn intents(&self) -> PathBuf {
        self.folder.with_file_name("pulling")
    }

    fn intent(&self, name: &str) -> PathBuf {
        self.intents().join(format!("sha256-{}", hex(name.as_bytes())))
    }

    /// An image has been pulled: with a secret, with the node's own rights, or with nothing.
    pub(super) fn note(&self, image_ref: &str, with: Option<&Candidate>) {
        let mut fresh = self.fresh.lock();
        fresh.insert(image_ref.to_owned());
        let mut record = self.read(image_ref).unwrap_or_default();
        record.image_ref = image_ref.to_owned();
        match with.map(|it| (&it.owner, it)) {
            None | Some((Owner::Node, _)) => record.is_open = true,
            Some((_, it)) if record.is_for(it) => {}
            Some((Owner::Account(account), _)) => record.accounts.push(account.clone()),
            Some((Owner::Secret, it)) => record.secrets.push(digest(&it.auth)),
        }
        if let Err(error) = self.write(&record) {
            warn!(image_ref, %error, "who pulled an image was not written down");
        }
    }

    /// Before the runtime's images are listed, for [`Self::retain`].
    pub(crate) fn begin_sweep(&self) {
        self.fresh.lock().clear();
    }

    /// Images that are gone are forgotten. One that was pulled while the images were listed is not
    /// among them, and stays.
    pub(crate) fn retain(&self, exists: impl Fn(&str) -> bool) {
        let fresh = self.fresh.lock();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let record = fs::read(entry.path()).ok();
            let record = record.and_then(|it| serde_json::from_slice::<Record>(&it).ok());
            let is_gone = |it: Record| !exists(&it.image_ref) && !fresh.contains(&it.image_ref);
            if record.is_some_and(is_gone) {
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    /// Listed by name without a tag, or below a prefix that ends in `/*`.
    fn is_listed(&self, name: &str) -> bool {
        let last = name.rfind('/').map_or(0, |it| it + 1);
        let end = name[last..].find([':', '@']).map_or(name.len(), |it| last + it);
        let name = &name[..end];
        self.allowlist.iter().any(|it| match it.strip_suffix("/*") {
            Some(prefix) => name.strip_prefix(prefix).is_some_and(|it| it.starts_with('/')),
            None => it == name,
        })
    }

    fn path(&self, image_ref: &str) -> PathBuf {
        self.folder.join(format!("sha256-{}", hex(image_ref.as_bytes())))
    }

    fn read(&self, image_ref: &str) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path(image_ref)).ok()?).ok()
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(&record.image_ref);
        let new = path.with_extension("new");
        fs::write(&new, json!(record).to_string())?;
        fs::rename(new, path)
    }
}

fn digest(auth: &v1::AuthConfig) -> String {
    let parts = [&auth.username, &auth.password, &auth.identity_token, &auth.registry_token];
    hex(json!(parts).to_string().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(password: &str) -> Candidate {
        let auth = v1::AuthConfig { password: password.to_owned(), ..Default::default() };
        Candidate { auth, owner: Owner::Secret }
    }

    #[test]
    fn an_image_that_was_pulled_with_a_secret_is_for_those_who_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let access = || Access::new(folder.path(), Policy::NeverVerifyPreloadedImages, Vec::new());
        assert!(access().is_granted("a:1", "sha256:1", &[]), "it was there before");
        access().note("sha256:1", Some(&secret("x")));
        let after = access();
        assert!(!after.is_granted("a:1", "sha256:1", &[]));
        assert!(!after.is_granted("a:1", "sha256:1", &[secret("y")]));
        assert!(after.is_granted("a:1", "sha256:1", &[secret("y"), secret("x")]));
        // A service account's, whatever its token was exchanged for.
        let account = |name: &str, word: &str| Candidate {
            owner: Owner::Account(name.to_owned()),
            ..secret(word)
        };
        assert!(!after.is_granted("a:1", "sha256:1", &[account("sa", "x")]));
        after.note("sha256:1", Some(&account("sa", "1")));
        assert!(after.is_granted("a:1", "sha256:1", &[account("sa", "2")]));
        assert!(!after.is_granted("a:1", "sha256:1", &[account("other", "1")]));
        after.note("sha256:1", Some(&Candidate { owner: Owner::Node, ..secret("z") }));
        assert!(after.is_granted("a:1", "sha256:1", &[]), "the node may pull it itself");
        after.retain(|_| false);
        assert!(after.read("sha256:1").is_some(), "pulled while the images were listed");
        after.begin_sweep();
        after.retain(|_| false);
        assert!(after.read("sha256:1").is_none());
    }

    #[test]
    fn an_image_whose_pull_was_cut_off_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::new(folder.path(), Policy::NeverVerifyPreloadedImages, Vec::new());
        access.begin("a:1");
        assert!(!access.is_granted("a:1", "r", &[secret("x")]));
        access.note("r", Some(&secret("x")));
        access.end("a:1");
        assert!(access.is_granted("a:1", "r", &[secret("x")]));
    }

    #[test]
    fn the_policy_says_what_is_asked_of_images_that_nobody_pulled() {
        let folder = tempfile::tempdir().unwrap();
        let list = vec!["host:5000/base/*".to_owned(), "nginx".to_owned()];
        let ask = |policy: &str, name: &str| {
            let policy = Policy::parse(policy).unwrap();
            Access::new(folder.path(), policy, list.clone()).is_granted(name, "r", &[])
        };
        assert!(ask("NeverVerify", "a"));
        assert!(!ask("AlwaysVerify", "nginx:1"));
        assert!(ask("NeverVerifyAllowlistedImages", "nginx:1"));
        assert!(ask("NeverVerifyAllowlistedImages", "host:5000/base/a@sha256:0"));
        assert!(!ask("NeverVerifyAllowlistedImages", "host:5000/basement:1"));
    }
}
