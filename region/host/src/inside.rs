//! The second half of a launch: PID 1 of the new namespaces builds its root and becomes init.
//!
//! It begins with the machine's root file system (privately) because `/proc` must be mounted by a
//! process of the new pid namespace. It ends in `exec`, so init is the same process, which is what
//! its identity is made from.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use linux_cgroup::{Kind, Layout, Version};
use linux_mount::{Flags, MountError, Propagation};

use crate::{
    HostSpec, ami, devices, facts, image,
    state::{FileError, make_folder, write},
};

/// Where the program is inside of every instance.
pub(crate) const BINARY: &str = "/opt/nodestead/bin/nodestead";

const PATH: &str = "/opt/nodestead/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// The cgroup, on v2, that holds init and what it starts: there a cgroup with children may hold no
/// process itself.
pub(crate) const INIT_CGROUP: &str = "init.scope";

/// Why an instance did not come to its init.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InsideError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("failed to prepare `{}`", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to find the machine's cgroups")]
    Cgroups {
        #[source]
        source: linux_cgroup::CgroupError,
    },
    #[error("failed to set the host name `{hostname}`")]
    Hostname {
        hostname: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to start init")]
    Exec {
        #[source]
        source: io::Error,
    },
}

/// Builds the root of `spec`, enters it and becomes init. Returns only to say why it could not.
pub(crate) fn become_init(spec: &HostSpec) -> InsideError {
    match build(spec) {
        Ok(()) => {}
        Err(error) => return error,
    }
    let mut command = Command::new(BINARY);
    command
        .args(&spec.init)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .env("TERM", "dumb")
        .env("container", "nodestead");
    // The launcher waits for the end of its pipe: the console takes the pipe's place just before
    // init does. Both are descriptors of this process, so `exec` hands the console on.
    if let Err(errno) = rustix::stdio::dup2_stdout(rustix::stdio::stderr()) {
        return InsideError::Exec { source: errno.into() };
    }
    InsideError::Exec { source: command.exec() }
}

fn build(spec: &HostSpec) -> Result<(), InsideError> {
    let root = spec.path("root");
    let host_cgroups = Layout::detect().map_err(|source| InsideError::Cgroups { source })?;
    linux_mount::propagate(Path::new("/"), Propagation::Private)?;
    let layers: Vec<&Path> = spec.image.iter().chain([&spec.ami]).map(PathBuf::as_path).collect();
    linux_mount::overlay(&layers, &spec.upper(), &spec.path("work"), &root)?;
    if !spec.image.as_deref().is_some_and(image::has_programs) {
        linux_mount::bind_readonly(Path::new("/usr"), &root.join("usr"))?;
    }
    linux_mount::bind_readonly(&spec.binary, &ami::below(&root, BINARY))?;
    devices::populate(&root.join("dev"))?;
    proc(spec, &root)?;
    sys(spec, &root, &host_cgroups)?;
    linux_mount::filesystem(
        "tmpfs",
        &root.join("run"),
        Flags::MS_NOSUID | Flags::MS_NODEV,
        "mode=755,size=20%",
    )?;
    prepare_folder(&root.join("run/lock"))?;
    for (name, target) in [("containerd", "var/lib/containerd"), ("kubelet", "var/lib/kubelet")] {
        linux_mount::bind(&spec.path(name), &root.join(target))?;
    }
    hostname(&spec.hostname)?;
    linux_mount::pivot_root(&root)?;
    // Containers with mount propagation need it, and it ends at this namespace.
    linux_mount::propagate(Path::new("/"), Propagation::Shared)?;
    if spec.image.is_some() {
        image::trust_region(Path::new("/"))?;
    }
    Ok(())
}

fn proc(spec: &HostSpec, root: &Path) -> Result<(), InsideError> {
    let proc = root.join("proc");
    let facts = spec.path("facts");
    let plain = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    linux_mount::filesystem("proc", &proc, plain, "")?;
    linux_mount::bind_readonly(&facts.join("meminfo"), &proc.join("meminfo"))?;
    linux_mount::bind_readonly(&facts.join("cpuinfo"), &proc.join("cpuinfo"))?;
    // An instance that was made before there was such a file has none.
    if facts.join("swaps").exists() {
        linux_mount::bind_readonly(&facts.join("swaps"), &proc.join("swaps"))?;
    }
    linux_mount::bind_readonly(&facts.join("boot_id"), &proc.join("sys/kernel/random/boot_id"))?;
    for name in facts::PRIVATE_SYSCTLS {
        let file = facts.join(facts::sysctl_file(name));
        if file.exists() {
            linux_mount::bind(&file, &proc.join("sys").join(name))?;
        }
    }
    Ok(())
}

fn sys(spec: &HostSpec, root: &Path, host: &Layout) -> Result<(), InsideError> {
    let sys = root.join("sys");
    let plain = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    linux_mount::filesystem("sysfs", &sys, plain, "")?;
    // Read-only here, not in the file system itself: privileged pods get a writable one.
    linux_mount::remount_readonly(&sys)?;
    for name in ["cpu", "node"] {
        let target = sys.join("devices/system").join(name);
        if target.is_dir() {
            linux_mount::bind_readonly(&spec.path("facts").join(name), &target)?;
        }
    }
    // The machine's profiles are its own: a runtime cannot load any from here (`securityfs` is not
    // mounted), so that a kubelet must find, as on Amazon Linux, that there is no AppArmor.
    let apparmor = sys.join("module/apparmor");
    if apparmor.is_dir() {
        linux_mount::filesystem("tmpfs", &apparmor, plain, "mode=555,size=4k")?;
        linux_mount::remount_readonly(&apparmor)?;
    }
    let folder = sys.join("fs/cgroup");
    if host.kind() == Kind::V2 {
        linux_mount::filesystem("cgroup2", &folder, plain, "")?;
        return delegate_v2(&folder);
    }
    linux_mount::filesystem("tmpfs", &folder, plain, "mode=755,size=1m")?;
    // A v2 hierarchy beside them limits nothing in an instance, and crun refuses to run where one is
    // that has a controller.
    for hierarchy in host.hierarchies.iter().filter(|it| it.version == Version::V1) {
        let name = hierarchy.mount.file_name().unwrap_or_default();
        let target = folder.join(name);
        prepare_folder(&target)?;
        let words: Vec<&str> = hierarchy.controllers.iter().map(String::as_str).collect();
        let mut options = words.join(",");
        if options.starts_with("name=") {
            options.insert_str(0, "none,");
        }
        linux_mount::filesystem("cgroup", &target, plain, &options)?;
        // Controllers that share a hierarchy are also known by their own names.
        for word in words.iter().filter(|_| words.len() > 1) {
            let path = folder.join(word);
            std::os::unix::fs::symlink(name, &path)
                .map_err(|source| InsideError::Prepare { path, source })?;
        }
    }
    Ok(())
}

/// Hands the controllers of the root of the cgroup namespace down. The launcher has left it, and this
/// process with it.
fn delegate_v2(folder: &Path) -> Result<(), InsideError> {
    let put = |path: PathBuf, value: &str| {
        fs::write(&path, value).map_err(|source| InsideError::Prepare { path, source })
    };
    let available = folder.join("cgroup.controllers");
    let text = fs::read_to_string(&available)
        .map_err(|source| InsideError::Prepare { path: available, source })?;
    for controller in text.split_ascii_whitespace() {
        put(folder.join("cgroup.subtree_control"), &format!("+{controller}"))?;
    }
    Ok(())
}

fn prepare_folder(path: &Path) -> Result<(), InsideError> {
    fs::create_dir_all(path)
        .map_err(|source| InsideError::Prepare { path: path.to_owned(), source })
}

fn hostname(hostname: &str) -> Result<(), InsideError> {
    nix::unistd::sethostname(hostname).map_err(|errno| InsideError::Hostname {
        hostname: hostname.to_owned(),
        source: errno.into(),
    })
}

/// Makes the instance's folder ready to boot from: its layers, its identity, its hardware.
pub(crate) fn prepare(spec: &HostSpec) -> Result<(), FileError> {
    for name in ["upper", "work", "root", "containerd", "kubelet", "facts"] {
        make_folder(&spec.path(name))?;
    }
    let facts = spec.path("facts");
    let cpus = facts::Cpus { count: spec.vcpus, threads_per_core: spec.threads_per_core };
    facts::generate(&facts, cpus, spec.memory_bytes)?;
    write(&facts.join("boot_id"), format!("{}\n", entropy::uuid()).as_bytes())?;
    let etc = spec.upper().join("etc");
    // What the instance has put in its place (a link, or nothing) is no place to write to.
    if fs::symlink_metadata(&etc).is_ok_and(|it| !it.is_dir()) {
        fs::remove_file(&etc).map_err(FileError::io("remove", &etc))?;
    }
    make_folder(&etc)?;
    let machine_id = etc.join("machine-id");
    if !machine_id.exists() {
        write(&machine_id, format!("{}\n", entropy::hex(32)).as_bytes())?;
    }
    let short = spec.hostname.split('.').next().unwrap_or_default();
    let hosts = format!("127.0.0.1 localhost localhost.localdomain\n::1 localhost6 {short}\n");
    let search = match spec.search_domain.as_str() {
        "" => String::new(),
        domain => format!("search {domain}\n"),
    };
    let resolv = format!("{search}nameserver {}\noptions timeout:2 attempts:5\n", spec.resolver);
    for (name, text) in
        [("hostname", format!("{}\n", spec.hostname)), ("hosts", hosts), ("resolv.conf", resolv)]
    {
        write(&etc.join(name), text.as_bytes())?;
    }
    Ok(())
}
