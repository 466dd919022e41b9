//! Kernel settings that a node needs, as far as they are its own.
//!
//! Only what lives in the instance's network namespace, or what the instance has a private file
//! for, is set. Upstream also raises inotify, pid and mapping limits, which are the machine's here.

use std::{fs, io, path::Path};

use tracing::warn;

const SETTINGS: [(&str, &str); 10] = [
    ("net/ipv4/ip_forward", "1"),
    // Loose: what arrives on one interface may be answered on another.
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/default/rp_filter", "2"),
    ("net/ipv4/ip_local_reserved_ports", "2703,9808,9809,10249,10250,10256,61678,61679"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Sets what can be set. A kernel without a setting needs none.
pub(crate) fn apply(proc_sys: &Path) {
    for (name, value) in SETTINGS {
        let path = proc_sys.join(name);
        match fs::write(&path, value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(setting = name, %error, "failed to set a kernel parameter");
            }
            _ => {}
        }
    }
}
