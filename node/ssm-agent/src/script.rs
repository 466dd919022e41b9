//! `AWS-RunShellScript`: the lines of a command as one script of root's.
//!
//! Source: `agent/plugins/runscript` of `amazon-ssm-agent`.

use std::{
    fs, io,
    os::unix::{
        fs::OpenOptionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use aws_ssm::channel::{CommandJob, CommandResult};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{terminal, user::User};

/// Of either output so much is kept; the rest is read and forgotten.
const KEPT: usize = 24_000;
const DEFAULT_LIMIT: u64 = 3600;

/// Runs the script to its end, or to the end of its time. `folder` is for scripts.
pub(crate) async fn run(folder: &Path, job: &CommandJob) -> CommandResult {
    match attempt(folder, job).await {
        Ok(result) => result,
        Err(error) => CommandResult {
            status: "Failed".to_owned(),
            code: 1,
            standard_output: String::new(),
            standard_error: format!("failed to run commands: {error}"),
        },
    }
}

async fn attempt(folder: &Path, job: &CommandJob) -> io::Result<CommandResult> {
    let given = |name: &str| job.parameters.get(name).map_or(&[][..], Vec::as_slice);
    let script = write_script(folder, &job.command_id, given("commands"))?;
    let home = script.parent().unwrap_or(folder).to_owned();
    let place = given("workingDirectory").first().filter(|it| !it.is_empty());
    let limit = given("executionTimeout").first().and_then(|it| it.parse().ok());
    let text = script.to_string_lossy().into_owned();
    let mut command = terminal::command(&User::own(), &["/bin/sh", "-c", &text]);
    command.current_dir(place.map_or(home.clone(), PathBuf::from));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    let group = child.id().and_then(|it| rustix::process::Pid::from_raw(it.cast_signed()));
    let (output, error) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(child.wait(), kept(output), kept(error)) };
    let limit = Duration::from_secs(limit.unwrap_or(DEFAULT_LIMIT));
    let ended = tokio::time::timeout(limit, all).await;
    // Also what it has left behind in its group.
    if let Some(group) = group {
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
    }
    fs::remove_dir_all(home).ok();
    let Ok((status, output, mut error)) = ended else {
        return Ok(CommandResult {
            status: "TimedOut".to_owned(),
            code: -1,
            ..CommandResult::default()
        });
    };
    let status = status?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    if code != 0 {
        error.push_str(&format!("failed to run commands: exit status {code}"));
    }
    Ok(CommandResult {
        status: if code == 0 { "Success" } else { "Failed" }.to_owned(),
        code: i64::from(code),
        standard_output: output,
        standard_error: error,
    })
}

/// The kernel reads the interpreter of the first line, where it names one.
fn write_script(folder: &Path, id: &str, lines: &[String]) -> io::Result<PathBuf> {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || it == '-';
    if id.is_empty() || !id.chars().all(is_plain) {
        return Err(io::Error::other("the command's id is not valid"));
    }
    let home = folder.join(id);
    fs::create_dir_all(&home)?;
    let path = home.join("_script.sh");
    let mut text = lines.join("\n");
    text.push('\n');
    let mut options = fs::File::options();
    let mut file = options.create(true).write(true).truncate(true).mode(0o700).open(&path)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(path)
}

async fn kept(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut block) = (Vec::new(), vec![0; 8192]);
    while let Ok(length) = stream.read(&mut block).await {
        if length == 0 {
            break;
        }
        let room = KEPT.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&block[..room]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn result(lines: &[&str], extra: &[(&str, &str)]) -> CommandResult {
        let folder = tempfile::tempdir().unwrap();
        let list = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let mut parameters = aws_ssm::session::Parameters::new();
        parameters.insert("commands".to_owned(), list(lines));
        for (name, value) in extra {
            parameters.insert((*name).to_owned(), list(&[value]));
        }
        let job = CommandJob {
            command_id: "0b1c-2".to_owned(),
            document_name: "AWS-RunShellScript".to_owned(),
            parameters,
        };
        let result = run(folder.path(), &job).await;
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of it");
        result
    }

    #[tokio::test]
    async fn the_lines_are_one_script_and_its_end_is_the_commands() {
        let good =
            result(&["x=1", "echo out $x; pwd", "echo err >&2"], &[("workingDirectory", "/")])
                .await;
        assert_eq!((good.status.as_str(), good.code), ("Success", 0));
        assert_eq!(
            (good.standard_output.as_str(), good.standard_error.as_str()),
            ("out 1\n/\n", "err\n")
        );
        let bad = result(&["exit 7"], &[]).await;
        assert_eq!((bad.status.as_str(), bad.code), ("Failed", 7));
        assert_eq!(bad.standard_error, "failed to run commands: exit status 7");
    }

    #[tokio::test]
    async fn a_script_that_takes_too_long_or_says_too_much_is_cut_off() {
        let slow = result(&["sleep 1000"], &[("executionTimeout", "1")]).await;
        assert_eq!(slow.status, "TimedOut");
        let loud = result(&["head -c 1000000 /dev/zero | tr '\\0' x"], &[]).await;
        assert_eq!((loud.status.as_str(), loud.standard_output.len()), ("Success", KEPT));
    }
}
