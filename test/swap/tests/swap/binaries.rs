//! Programs that are given: each runs until it is dropped, and what it says is kept.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// How much of what a program said is shown.
const WORDS: usize = 4000;

pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    pub(crate) fn start(binary: &Path, folder: &Path, arguments: &[String]) -> Self {
        let name = binary.file_name().unwrap().to_string_lossy().into_owned();
        Self::start_by(Command::new(binary).args(arguments), &name, folder)
    }

    /// What `command` starts, which is to be called so.
    pub(crate) fn start_by(command: &mut Command, name: &str, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        // Nothing of this machine's configuration is to be found by them.
        command.current_dir(folder).env("HOME", folder).env_remove("KUBECONFIG");
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// What it said, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        Some(format!("{} ended with {status}: {}", self.name, self.last_words()))
    }

    pub(crate) fn last_words(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let start = text.floor_char_boundary(text.len().saturating_sub(WORDS));
        format!("--- {}\n{}", self.name, &text[start..])
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
