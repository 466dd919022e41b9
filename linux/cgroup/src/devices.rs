//! The machine's block devices and its kernel's log (`/dev/kmsg`), which a cgroup can be kept from.
//!
//! v1 has a file for it. On v2 it is a program that the kernel runs at each use of a device by a
//! process of the cgroup or of one below it (`BPF_PROG_TYPE_CGROUP_DEVICE`); it stays as long as the
//! cgroup. Runtimes attach programs of their own further down: what one of them refuses is refused.
//!
//! Source: bpf(2); the kernel's `Documentation/admin-guide/cgroup-v2.rst` ("Device controller"),
//! `include/uapi/linux/bpf.h`, `kernel/bpf/cgroup.c`.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::libc;

use crate::{
    Cgroup, CgroupError, Layout, Version,
    tree::{failed, write},
};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
/// Cgroups below may have programs too.
const ALLOW_MULTI: u32 = 1 << 1;
const BLOCK: i32 = 1;
/// `/dev/kmsg`.
const LOG: (i32, i32) = (1, 11);
const READ_OR_WRITE: i32 = 2 | 4;

/// `struct bpf_insn`; the registers are four bits each, the destination in the lower ones.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// Is given `struct bpf_cgroup_dev_ctx`: a word with the kind of the device and, above that, of the
/// access, then the device's major and minor number; 1 lets it happen. Making nodes is neither reading
/// nor writing. A device that is no block device is a character device.
static NO_DEVICES_OF_MACHINE: [Instruction; 14] = [
    instruction(0xb7, 0x00, 0, 1),             // r0 = 1
    instruction(0x61, 0x12, 0, 0),             // r2 = the word
    instruction(0xbf, 0x23, 0, 0),             // r3 = r2
    instruction(0x57, 0x03, 0, 0xffff),        // r3 &= what is the kind
    instruction(0x77, 0x02, 0, 16),            // r2 >>= 16
    instruction(0x57, 0x02, 0, READ_OR_WRITE), // r2 &= READ | WRITE
    instruction(0x15, 0x02, 6, 0),             // to the end, if r2 is 0
    instruction(0x15, 0x03, 4, BLOCK),         // to the refusal, if r3 is BLOCK
    instruction(0x61, 0x14, 4, 0),             // r4 = the major number
    instruction(0x55, 0x04, 3, LOG.0),         // to the end, if r4 is not the log's
    instruction(0x61, 0x14, 8, 0),             // r4 = the minor number
    instruction(0x55, 0x04, 1, LOG.1),         // to the end, if r4 is not the log's
    instruction(0xb7, 0x00, 0, 0),             // the refusal: r0 = 0
    instruction(0x95, 0x00, 0, 0),             // the end
];

/// The beginnings of `union bpf_attr` for each command; what is not given is zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct Attach {
    cgroup: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    cgroup: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    /// An older kernel, which knows no more fields, wants to see zeros.
    rest: u32,
}

impl Cgroup {
    /// Keeps the cgroup from reading and writing block devices and the kernel's log, so that not even
    /// its root can get at the machine's. Making device nodes stays allowed: containers must.
    ///
    /// Says whether it could be done: see [`Layout::can_deny_devices_of_machine`].
    pub fn deny_devices_of_machine(&self) -> Result<bool, CgroupError> {
        if let Some(folder) = self.folder("devices") {
            let log = format!("c {}:{} rw", LOG.0, LOG.1);
            for devices in ["b *:* rw", &log] {
                write(&folder.join("devices.deny"), devices)?;
            }
            return Ok(true);
        }
        let Some(hierarchy) = self.layout.hierarchies.iter().find(|it| it.version == Version::V2)
        else {
            return Ok(false);
        };
        let folder = hierarchy.folder(self.path());
        let program = match load() {
            Ok(program) => program,
            Err(error) if is_refusal(&error) => return Ok(false),
            Err(error) => return Err(failed("load a program for", &folder)(error)),
        };
        attach(&folder, &program).map_err(failed("attach a program to", &folder))?;
        Ok(true)
    }
}

impl Layout {
    /// Whether a cgroup can be kept from devices: with v1's controller, or where the kernel runs
    /// programs for that (`CONFIG_CGROUP_BPF`) and root may load them.
    pub fn can_deny_devices_of_machine(&self) -> bool {
        self.hierarchy("devices").is_some()
            || self.hierarchies.iter().any(|it| it.version == Version::V2) && load().is_ok()
    }
}

/// Root may load no program, or the kernel has none for this.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EINVAL))
}

#[expect(unsafe_code, reason = "the kernel gives a descriptor")]
fn load() -> io::Result<OwnedFd> {
    let mut load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(NO_DEVICES_OF_MACHINE.len()).map_err(io::Error::other)?,
        instructions: NO_DEVICES_OF_MACHINE.as_ptr() as u64,
        // It calls nothing of the kernel's that would ask for one.
        license: c"".as_ptr() as u64,
    };
    let fd = bpf(PROG_LOAD, &mut load)?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Once: a cgroup that has a program has this one.
fn attach(folder: &Path, program: &OwnedFd) -> io::Result<()> {
    let cgroup = File::open(folder)?;
    let number = |fd: i32| u32::try_from(fd).map_err(io::Error::other);
    let (cgroup, program) = (number(cgroup.as_raw_fd())?, number(program.as_raw_fd())?);
    let kind = ATTACH_TYPE_CGROUP_DEVICE;
    let mut query =
        Query { cgroup, kind, query_flags: 0, attach_flags: 0, ids: 0, count: 0, rest: 0 };
    bpf(PROG_QUERY, &mut query)?;
    if query.count == 0 {
        bpf(PROG_ATTACH, &mut Attach { cgroup, program, kind, flags: ALLOW_MULTI })?;
    }
    Ok(())
}

#[expect(unsafe_code, reason = "no library that is here has this call")]
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are those of the command, as long as is told; what they point to (static
    // instructions and text) is only read, and outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command, sync::Arc};

    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    use super::*;

    /// The first block device that the machine has, as a node of the test's own.
    fn disk(folder: &Path) -> Option<std::path::PathBuf> {
        let table = fs::read_to_string("/proc/partitions").ok()?;
        let mut words =
            table.lines().find(|it| it.contains(" vd") || it.contains(" sd"))?.split_whitespace();
        let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let path = folder.join("disk");
        mknod(&path, SFlag::S_IFBLK, Mode::S_IRUSR, makedev(major, minor)).ok()?;
        File::open(&path).ok()?;
        Some(path)
    }

    #[test]
    fn who_is_kept_from_the_machines_devices_makes_their_nodes_and_reads_none() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let Some(disk) = disk(folder.path()) else {
            println!("not run: needs a disk");
            return;
        };
        let log = folder.path().join("log");
        mknod(&log, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 11)).unwrap();
        let layout = Layout::detect().unwrap();
        let name = format!("nst-t-cg-devices-{}", std::process::id());
        // Where there are both, each alone.
        for version in [Version::V1, Version::V2] {
            let mut part = layout.clone();
            part.hierarchies.retain(|it| it.version == version);
            if !part.can_deny_devices_of_machine() {
                println!("not run: {version:?} keeps nobody from devices here");
                continue;
            }
            let cgroup = Cgroup::new(Arc::new(part), &name);
            cgroup.create().unwrap();
            assert!(cgroup.deny_devices_of_machine().unwrap());
            assert!(cgroup.deny_devices_of_machine().unwrap(), "{version:?}: again");
            // Further down too.
            let child = cgroup.child("below");
            child.create().unwrap();
            let join: Vec<_> = child
                .procs_files()
                .iter()
                .map(|it| format!("echo $$ > {}", it.display()))
                .collect();
            let script = format!(
                "{}; mknod {1} b 7 200 && rm {1} && echo made; head -c 1 < {2} > /dev/null || \
                 echo refused; true < {3} || echo refused; head -c 1 < /dev/zero > /dev/null && echo read",
                join.join(" && "),
                folder.path().join("node").display(),
                disk.display(),
                log.display()
            );
            let done = Command::new("sh").args(["-c", &script]).output().unwrap();
            cgroup.remove().unwrap();
            let told = String::from_utf8_lossy(&done.stdout).into_owned();
            assert_eq!(told, "made\nrefused\nrefused\nread\n", "{version:?}: {done:?}");
            assert!(File::open(&disk).is_ok(), "everybody else does");
        }
    }
}
