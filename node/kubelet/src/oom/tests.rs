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

#[tokio::test]
async fn a_machine_that_is_a_group_is_told_of_its_own_limit_and_not_of_those_below() {
    let name = format!("nst-t-oom-machine-{}", std::process::id());
    if !nix::unistd::geteuid().is_root() {
        println!("not run: needs root");
        return;
    }
    let Some(machine) = Group::new(&name, 32 << 20) else {
        println!("not run: needs a cgroup with a limit of memory");
        return;
    };
    // Of v2, where whoever hands down holds no process.
    drop(fs::write(machine.0.join("cgroup.subtree_control"), "+memory"));
    let pod = Group::new(&format!("{name}/pod"), 8 << 20).unwrap();
    let free = Group::new(&format!("{name}/free"), 1 << 30).unwrap();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let folder = machine.0.clone();
    let tell = move |text| sender.send(text).unwrap();
    let fill = async |group: &Group| {
        let script = format!("echo $$ > {}/cgroup.procs && exec tail /dev/zero", group.0.display());
        let mut command = tokio::process::Command::new("sh");
        let ended = command.args(["-c", &script]).stdout(Stdio::null()).status().await.unwrap();
        assert!(!ended.success());
    };
    let told = async {
        fill(&pod).await;
        let wait = Duration::from_millis(300);
        assert!(tokio::time::timeout(wait, told.recv()).await.is_err(), "a limit of the pod's own");
        fill(&free).await;
        tokio::time::timeout(Duration::from_secs(10), told.recv()).await.unwrap()
    };
    tokio::select! {
        // First, so that the group is listened to before anything happens in it.
        biased;
        ended = listen(&folder, tell) => panic!("{ended:?}"),
        text = told => assert_eq!(text.as_deref(), Some("System OOM encountered")),
    }
    drop((pod, free));
}

#[test]
fn a_victim_is_named_if_it_is_known() {
    let kill = |victim| Kill { group: None, victim };
    let victim = Some(("stress".to_owned(), 42));
    assert_eq!(message(&kill(victim)), "System OOM encountered, victim process: stress, pid: 42");
    assert_eq!(message(&kill(None)), "System OOM encountered");
}
