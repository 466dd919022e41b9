//! Applies transactions in a network namespace, by netlink or by `nft`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::sched::{CloneFlags, setns};

use crate::{Family, Table, Transaction, native};

/// How much of a refused line an error quotes.
const QUOTED_LEN: usize = 200;

/// nftables in one namespace. Cheap to make and to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nft {
    program: OsString,
    netns: Option<PathBuf>,
    kept: native::Kept,
}

/// Why a transaction was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("`{name}` cannot be the name of a table, chain or set: nft reserves or misreads it")]
    Name { name: String },
    #[error("failed to enter the network namespace `{}`", netns.display())]
    Enter {
        netns: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to run `nft` (is the package nftables installed?)")]
    Run {
        #[source]
        source: io::Error,
    },
    #[error("the kernel refused a change to table `{table}`: {message}")]
    Refused { table: String, message: String },
    #[error("nft printed something that is not the JSON it promises")]
    Output {
        #[source]
        source: serde_json::Error,
    },
}

impl ApplyError {
    pub(crate) fn refused(table: &str, message: &str, command: &str) -> Self {
        let message = if command.is_empty() {
            message.to_owned()
        } else {
            let quoted: String = command.chars().take(QUOTED_LEN).collect();
            format!("{message} in `{quoted}`")
        };
        Self::Refused { table: table.to_owned(), message }
    }
}

impl Nft {
    /// In the caller's namespace.
    pub fn here() -> Self {
        Self { program: program(), netns: None, kept: native::Kept::default() }
    }

    /// In the namespace at `netns` (`/run/netns/NAME`, `/proc/PID/ns/net`).
    pub fn at(netns: impl Into<PathBuf>) -> Self {
        Self { netns: Some(netns.into()), ..Self::here() }
    }

    /// Applies all of `transaction` or nothing. Where it can be said in netlink, no process starts.
    pub fn apply(&self, transaction: &Transaction) -> Result<(), ApplyError> {
        if let Some(name) = transaction.wrong_name() {
            return Err(ApplyError::Name { name: name.to_owned() });
        }
        if transaction.is_empty() {
            return Ok(());
        }
        if let Some(messages) = native::encode(transaction) {
            return native::send(self.netns.as_deref(), &self.kept, transaction, messages);
        }
        let output = self.run(&["-f", "-"], &transaction.text())?;
        if output.status.success() {
            return Ok(());
        }
        Err(ApplyError::Refused {
            table: transaction.table().to_owned(),
            message: brief(&String::from_utf8_lossy(&output.stderr)),
        })
    }

    /// [`Self::apply`] for async callers: nft runs on a thread where blocking is allowed.
    pub async fn apply_async(&self, transaction: Transaction) -> Result<(), ApplyError> {
        let nft = self.clone();
        let done = tokio::task::spawn_blocking(move || nft.apply(&transaction)).await;
        done.unwrap_or_else(|error| Err(ApplyError::Run { source: io::Error::other(error) }))
    }

    /// Puts `table` in place of the one of its name.
    pub fn replace(&self, table: &Table) -> Result<(), ApplyError> {
        self.apply(&Transaction::replace(table))
    }

    /// Makes `table` unless there is one of its name, which stays as it is, whoever makes it meanwhile.
    pub fn ensure(&self, table: &Table) -> Result<(), ApplyError> {
        match self.apply(&Transaction::create(table)) {
            Err(ApplyError::Refused { .. }) if self.has_table(table.family, &table.name)? => Ok(()),
            done => done,
        }
    }

    /// Turns `old` into `new`; replaces the table where the kernel turns out not to hold `old`
    /// (first start, or someone else's hand in it).
    pub fn update(&self, old: Option<&Table>, new: &Table) -> Result<(), ApplyError> {
        if let Some(old) = old {
            match self.apply(&new.changes_from(old)) {
                Err(ApplyError::Refused { .. }) => {}
                other => return other,
            }
        }
        self.replace(new)
    }

    /// Deletes the table, if there is one.
    pub fn delete_table(&self, family: Family, table: &str) -> Result<(), ApplyError> {
        self.apply(&Transaction::delete(family, table))
    }

    /// Whether the table is there.
    pub fn has_table(&self, family: Family, table: &str) -> Result<bool, ApplyError> {
        Ok(self.tables(family)?.iter().any(|it| it == table))
    }

    /// The names of all tables.
    pub fn tables(&self, family: Family) -> Result<Vec<String>, ApplyError> {
        let output = self.run(&["-j", "list", "tables", family.as_str()], "")?;
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|source| ApplyError::Output { source })?;
        let objects = listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names = objects.iter().filter_map(|object| object["table"]["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// The table as nft prints it; `None` where there is none.
    pub fn list_table(&self, family: Family, table: &str) -> Result<Option<String>, ApplyError> {
        let output = self.run(&["list", "table", family.as_str(), table], "")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(text))
    }

    pub(crate) fn run(&self, args: &[&str], input: &str) -> Result<Output, ApplyError> {
        let Some(netns) = &self.netns else {
            return self.spawn(args, input).map_err(|source| ApplyError::Run { source });
        };
        let failed = |source| ApplyError::Enter { netns: netns.clone(), source };
        let namespace = File::open(netns).map_err(failed)?;
        // A child starts in the namespace of the thread that makes it.
        let done = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&namespace, CloneFlags::CLONE_NEWNET)
                        .map_err(|errno| failed(errno.into()))?;
                    self.spawn(args, input).map_err(|source| ApplyError::Run { source })
                })
                .join()
        });
        done.unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
    }

    fn spawn(&self, args: &[&str], input: &str) -> io::Result<Output> {
        let mut child = Command::new(&self.program)
            .args(args)
            .current_dir(Path::new("/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        std::thread::scope(|scope| {
            let write = move || {
                if let Some(mut pipe) = stdin {
                    // nft says itself what it did not like where it closes its end early.
                    drop(pipe.write_all(input.as_bytes()));
                }
            };
            if input.len() < 32 * 1024 {
                // It fits into the pipe.
                write();
            } else {
                scope.spawn(write);
            }
            child.wait_with_output()
        })
    }
}

/// Where distributions put it: a container's or a CNI plug-in's `PATH` may lack `sbin`.
fn program() -> OsString {
    let known = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
    known.into_iter().find(|path| Path::new(path).exists()).unwrap_or("nft").into()
}

/// The first error of nft's output with the line it complains about.
fn brief(stderr: &str) -> String {
    let mut lines = stderr.lines().skip_while(|line| !line.contains("Error:"));
    let Some(error) = lines.next() else { return stderr.trim().to_owned() };
    let message = error.split_once("Error: ").map_or(error, |(_, message)| message);
    match lines.next().map(str::trim).filter(|line| !line.is_empty()) {
        None => message.to_owned(),
        Some(line) => {
            let quoted: String = line.chars().take(QUOTED_LEN).collect();
            format!("{message} in `{quoted}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_place() {
        let stderr = "/dev/stdin:1:9-11: Error: Could not process rule: No such file or directory\n\
                      add rule ip t c accept\n              ^\n";
        assert_eq!(
            brief(stderr),
            "Could not process rule: No such file or directory in `add rule ip t c accept`"
        );
    }

    #[test]
    fn a_reserved_name_is_refused_before_nft_sees_it() {
        let mut table = Table::new(Family::Ip, "t");
        table.chain("fwd");
        let error = Nft::here().replace(&table).unwrap_err();
        assert!(matches!(error, ApplyError::Name { name } if name == "fwd"));
    }
}
