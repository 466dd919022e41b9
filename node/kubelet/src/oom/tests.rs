//! The kernel's log as it is on this machine.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use super::*;

/// A cgroup of the test's own with little memory.
struct Group(PathBuf);

impl Group {
    /// `None` where none can be had.
    fn new(name: &str, bytes: u32) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let of_v1 = root.join("memory");
        let (root, limit) = match of_v1.exists() {
            true => (of_v1, "memory.limit_in_bytes"),
            false => (root.to_owned(), "memory.max"),
        };
        let group = Self(root.join(name));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join(limit), bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The process has been waited for.
        drop(fs::remove_dir(&self.0));
    }
}

#[tokio::test]
async fn the_kernel_tells_whom_it_killed_and_for_which_group() {
    let name = format!("nst-t-oom-{}", std::process::id());
    if !nix::unistd::geteuid().is_root() || !is_own_log(Path::new("/proc")) {
        println!("not run: needs root, and the kernel's log of this machine");
        return;
    }
    let Some(group) = Group::new(&name, 8 << 20) else {
        println!("not run: needs a cgroup with a limit of memory");
        return;
    };
    let Ok(mut log) = Log::open(Path::new("/dev/kmsg")) else {
        println!("not run: the kernel's log cannot be read");
        return;
    };
    let script = format!("echo $$ > {}/cgroup.procs && exec tail /dev/zero", group.0.display());
    let mut child = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap();
    let own = Some(format!("/{name}"));
    let kill = async {
        loop {
            // Others' kills are in the log, too.
            let kill = log.next().await.unwrap();
            if kill.group == own {
                return kill;
            }
        }
    };
    let kill = tokio::time::timeout(Duration::from_secs(30), kill).await;
    drop(child.kill());
    drop(child.wait());
    assert_eq!(kill.unwrap().victim, Some(("tail".to_owned(), child.id())));
}

#[test]
fn a_victim_is_named_if_it_is_known() {
    let kill = |victim| Kill { group: None, victim };
    let victim = Some(("stress".to_owned(), 42));
    assert_eq!(message(&kill(victim)), "System OOM encountered, victim process: stress, pid: 42");
    assert_eq!(message(&kill(None)), "System OOM encountered");
}
