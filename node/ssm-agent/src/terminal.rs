//! A program on a terminal of its own.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use aws_ssm::{channel::Size, message::payload};
use lifecycle::Scope;
use linux_process::Duplex;
use rustix::{pty::OpenptFlags, termios::Winsize};
use tokio::process::Child;

use crate::{
    program::{BLOCK, Input, Inside, Program, pair},
    user::User,
};

/// What is left of a program's output is read for so long after its end.
const REST: Duration = Duration::from_millis(500);

/// Starts a program of this user.
pub(crate) fn start(scope: &Scope, user: &User, argv: &[&str]) -> io::Result<Program> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&outer)?;
    rustix::pty::unlockpt(&outer)?;
    let inner: OwnedFd = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
    user.own_terminal(&inner)?;
    let mut command = command(user, argv);
    let stream = || inner.try_clone().map(Stdio::from);
    command.stdin(stream()?).stdout(stream()?).stderr(stream()?);
    linux_process::on_terminal(&mut command, inner.try_clone()?);
    let mut command = tokio::process::Command::from(command);
    let child = command.kill_on_drop(true).spawn()?;
    // The terminal's inner end is the program's alone from here on: its end is heard by that.
    drop((command, inner));
    let outer = Duplex::new(outer)?;
    let (program, inside) = pair();
    drop(scope.spawn("terminal", drive(outer, child, inside)));
    Ok(program)
}

/// The program with the user's environment.
pub(crate) fn command(user: &User, argv: &[&str]) -> Command {
    let (program, args) = argv.split_first().map_or(("/bin/sh", &[][..]), |it| (*it.0, it.1));
    let mut command = Command::new(program);
    command.args(args).env_clear().current_dir("/usr/bin");
    command.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
    command.env(
        "PATH",
        "/opt/nodestead/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    user.enter(&mut command);
    command
}

async fn drive(outer: Duplex, mut child: Child, inside: Inside) {
    let Inside { mut input, output } = inside;
    let reading = async {
        while let Some(block) = read(&outer).await {
            if output.send((payload::OUTPUT, block)).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some(input) = input.recv().await {
            match input {
                Input::Data(bytes) => {
                    if outer.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Input::Size(size) => resize(&outer, size),
                Input::Disconnect => {}
            }
        }
    };
    let has_ended = tokio::select! {
        () = reading => true,
        () = writing => false,
        _ = child.wait() => true,
    };
    if has_ended {
        // Whoever holds the terminal longer than the program is not waited for.
        let rest = async {
            while let Some(block) = read(&outer).await {
                if output.send((payload::OUTPUT, block)).await.is_err() {
                    return;
                }
            }
        };
        drop(tokio::time::timeout(REST, rest).await);
    }
    if let Some(pid) = child.id().and_then(|it| rustix::process::Pid::from_raw(it.cast_signed())) {
        // The program leads its own group.
        rustix::process::kill_process_group(pid, rustix::process::Signal::HUP).ok();
    }
    drop(outer);
    child.kill().await.ok();
}

/// `None` when nobody has the other end any more.
async fn read(outer: &Duplex) -> Option<Vec<u8>> {
    let mut block = vec![0; BLOCK];
    let length = outer.read(&mut block).await.ok().filter(|it| *it > 0)?;
    block.truncate(length);
    Some(block)
}

fn resize(outer: &Duplex, size: Size) {
    let bound = |it: u32| u16::try_from(it).unwrap_or(u16::MAX);
    let size =
        Winsize { ws_row: bound(size.rows), ws_col: bound(size.cols), ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(outer, size).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(program: &mut Program, text: &str) -> String {
        let mut seen = String::new();
        let all = async {
            while !seen.contains(text) {
                let Some((_, block)) = program.from.recv().await else { break };
                seen.push_str(&String::from_utf8_lossy(&block));
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect(text);
        seen
    }

    async fn type_in(program: &Program, text: &str) {
        program.to.send(Input::Data(text.as_bytes().to_vec())).await.unwrap();
    }

    #[tokio::test]
    async fn a_shell_has_a_terminal_of_the_clients_size_and_ends_with_exit() {
        let scope = Scope::new();
        let mut shell = start(&scope, &User::own(), &["/bin/sh"]).unwrap();
        shell.to.send(Input::Size(Size { cols: 123, rows: 45 })).await.unwrap();
        type_in(&shell, "stty size; tty\r").await;
        let seen = until(&mut shell, "/dev/pts/").await;
        assert!(seen.contains("45 123"), "{seen}");
        type_in(&shell, "exit\r").await;
        let ended = async { while shell.from.recv().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        scope.cancel();
    }

    #[tokio::test]
    async fn what_runs_on_the_terminal_ends_with_the_session() {
        let scope = Scope::new();
        let mut shell = start(&scope, &User::own(), &["/bin/sh"]).unwrap();
        // What is typed is echoed: only the answer has a number between the stars.
        type_in(&shell, "echo \"*$$*\"; exec sleep 1000\r").await;
        let number = |seen: &str| seen.split('*').find_map(|it| it.parse::<i32>().ok());
        let mut seen = String::new();
        while number(&seen).is_none() {
            seen.push_str(&until(&mut shell, "*").await);
        }
        let pid = number(&seen).unwrap();
        let process = linux_process::Identity::of(pid).unwrap();
        drop(shell);
        let ended = async {
            while process.is_alive() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        scope.cancel();
    }

    #[tokio::test]
    async fn a_program_that_echoes_more_than_all_buffers_hold_gets_through() {
        let scope = Scope::new();
        let mut echo =
            start(&scope, &User::own(), &["/bin/sh", "-c", "stty raw -echo; echo go; cat"])
                .unwrap();
        until(&mut echo, "go").await;
        let to = echo.to.clone();
        let sending = scope.spawn("typing", async move {
            for _ in 0..1000 {
                to.send(Input::Data(vec![b'x'; BLOCK])).await.unwrap();
            }
        });
        let mut count = 0;
        let all = async {
            while count < 1000 * BLOCK {
                count += echo.from.recv().await.unwrap().1.len();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        sending.await.unwrap();
        scope.cancel();
    }
}
