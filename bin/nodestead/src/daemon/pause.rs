//! The pause program: what a pod's sandbox runs, written out as a 160-byte ELF file.
//!
//! It ignores SIGCHLD, so that orphans of a shared PID namespace are reaped by the kernel
//! (wait(2), NOTES), and then sleeps for ever in `pause(2)`. containerd ends it with SIGKILL. A
//! program of ours would cost megabytes for each pod; this one costs a page.
//!
//! Source: the System V ABI for x86-64 (ELF header, program header), Linux system call numbers.

/// Where the file is mapped.
const BASE: u64 = 0x0040_0000;
const HEADERS: u64 = 64 + 56;

/// `rt_sigaction(SIGCHLD, &action, NULL, 8); for (;;) pause();`
const CODE: [u8; 40] = [
    0xb8, 13, 0, 0, 0, // mov eax, 13 (rt_sigaction)
    0xbf, 17, 0, 0, 0, // mov edi, 17 (SIGCHLD)
    0x48, 0x8d, 0x35, 23, 0, 0, 0, // lea rsi, [rip + 23] (the action, after the code)
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8 (the size of a signal set)
    0x0f, 0x05, // syscall
    0xb8, 34, 0, 0, 0, // mov eax, 34 (pause)
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp back to the mov
    0x90, 0x90, 0x90, 0x90, // padding to eight bytes
];

/// `struct sigaction` of the kernel: SIG_IGN, no flags, no restorer, an empty mask.
const ACTION: [u64; 4] = [1, 0, 0, 0];

/// The program, as a file.
pub(crate) fn program() -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64 + 32;
    let mut file = Vec::new();
    // ELF header: 64-bit, little-endian, System V, executable, x86-64.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    half(&mut file, &[2, 62]);
    word(&mut file, &[1]);
    long(&mut file, &[BASE + HEADERS, 64, 0]);
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, 1, 0, 0, 0]);
    // One segment: the whole file, readable and executable.
    word(&mut file, &[1, 5]);
    long(&mut file, &[0, BASE, BASE, size, size, 0x1000]);
    file.extend(CODE);
    long(&mut file, &ACTION);
    file
}

fn half(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|it| it.to_le_bytes()));
}

fn word(file: &mut Vec<u8>, values: &[u32]) {
    file.extend(values.iter().flat_map(|it| it.to_le_bytes()));
}

fn long(file: &mut Vec<u8>, values: &[u64]) {
    file.extend(values.iter().flat_map(|it| it.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn the_program_runs_ignores_its_children_and_sleeps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pause");
        fs::write(&path, program()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        // SIGCHLD is signal 17: bit 16 of the mask of ignored signals.
        let ignores = |text: &str| {
            let mask = text.lines().find_map(|it| it.strip_prefix("SigIgn:")).unwrap_or("0");
            u64::from_str_radix(mask.trim(), 16).is_ok_and(|it| it & (1 << 16) != 0)
        };
        let is_asleep = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            let text = fs::read_to_string(&status).unwrap_or_default();
            ignores(&text) && text.contains("State:\tS")
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_asleep);
    }
}
