//! Security contexts: what a container and its sandbox may do, in CRI's terms.
//!
//! Upstream: `pkg/kubelet/kuberuntime/security_context.go`, `pkg/securitycontext/util.go`.
//!
//! **Invariant:** a container that must not run as root is refused unless its user is known not to be.
//!
//! AppArmor profiles and SELinux options are handed to the runtime; where the host has no AppArmor,
//! admission refuses the pod.

use std::{path::Path, sync::LazyLock};

use api_cri::v1;
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile,
    SecurityContext,
};

use crate::{
    observed::RuntimePod,
    pod::{Kind, PodExt},
};

const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
const MASKED_SYS: [&str; 2] = ["/sys/firmware", "/sys/devices/virtual/powercap"];
const CPUS: &str = "/sys/devices/system/cpu";
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Why a container may not be created as it is configured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RunAsError {
    #[error(
        "container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})"
    )]
    RootRequested { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})"
    )]
    RootImage { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    NamedUser { user: String, pod: String, container: String },
}

fn pod_context(pod: &Pod) -> PodSecurityContext {
    PodExt::spec(pod).security_context.clone().unwrap_or_default()
}

fn context(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

pub(crate) fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().and_then(|it| it.privileged).unwrap_or(false)
}

fn any_privileged(pod: &Pod) -> bool {
    pod.all_containers().iter().any(|(_, it)| is_privileged(it))
}

/// Checks `runAsNonRoot` against the user that the image would run as.
pub(crate) fn verify_run_as_non_root(
    pod: &Pod,
    container: &Container,
    image: &v1::Image,
) -> Result<(), RunAsError> {
    let (of_pod, own) = (pod_context(pod), context(container));
    if !own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false) {
        return Ok(());
    }
    let (pod, container) = (pod.full_name(), container.name.clone());
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => Err(RunAsError::RootRequested { pod, container }),
        Some(_) => Ok(()),
        None => match (&image.uid, image.username.as_str()) {
            (Some(uid), _) if uid.value != 0 => Ok(()),
            (Some(_), _) | (None, "") => Err(RunAsError::RootImage { pod, container }),
            (None, user) => Err(RunAsError::NamedUser { user: user.to_owned(), pod, container }),
        },
    }
}

/// `users` are those of the pod's user namespace.
pub(crate) fn namespaces(pod: &Pod, users: Option<v1::UserNamespace>) -> v1::NamespaceOption {
    let spec = PodExt::spec(pod);
    let node_or = |is_host: Option<bool>, other| {
        if is_host.unwrap_or(false) { v1::NamespaceMode::Node } else { other }
    };
    let pid = if spec.share_process_namespace.unwrap_or(false) {
        v1::NamespaceMode::Pod
    } else {
        v1::NamespaceMode::Container
    };
    v1::NamespaceOption {
        network: node_or(spec.host_network, v1::NamespaceMode::Pod) as i32,
        pid: node_or(spec.host_pid, pid) as i32,
        ipc: node_or(spec.host_ipc, v1::NamespaceMode::Pod) as i32,
        target_id: String::new(),
        userns_options: users,
    }
}

pub(crate) fn sandbox(pod: &Pod, users: v1::UserNamespace) -> v1::LinuxSandboxSecurityContext {
    let of_pod = pod_context(pod);
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, Some(users))),
        run_as_user: of_pod.run_as_user.map(int64),
        // A group without a user is refused by runtimes.
        run_as_group: of_pod.run_as_user.and(of_pod.run_as_group).map(int64),
        supplemental_groups: groups(&of_pod),
        supplemental_groups_policy: groups_policy(&of_pod),
        privileged: any_privileged(pod),
        seccomp: Some(profile(v1::security_profile::ProfileType::RuntimeDefault, "")),
        selinux_options: of_pod.se_linux_options.map(selinux),
        ..Default::default()
    }
}

/// What a container's context depends on beside the pod.
pub(crate) struct Given<'a> {
    pub image: &'a v1::Image,
    /// The container whose processes a debugger sees.
    pub target: Option<&'a str>,
    pub seccomp_root: &'a str,
    /// `seccompDefault` of the configuration.
    pub seccomp_default: bool,
    /// The sandbox's.
    pub users: Option<v1::UserNamespace>,
    pub observed: &'a RuntimePod,
}

pub(crate) fn container(
    pod: &Pod,
    kind: Kind,
    container: &Container,
    given: &Given<'_>,
) -> v1::LinuxContainerSecurityContext {
    let (of_pod, own) = (pod_context(pod), context(container));
    let privileged = own.privileged.unwrap_or(false);
    let is_unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let seccomp = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let mut namespace_options = namespaces(pod, given.users.clone());
    let target = given.target.and_then(|name| given.observed.latest(name));
    let target = target.filter(|_| kind == Kind::Ephemeral);
    if let Some(target) = target {
        namespace_options.pid = v1::NamespaceMode::Target as i32;
        namespace_options.target_id = target.id.clone();
    }
    let uses_user = own.run_as_user.or(of_pod.run_as_user);
    v1::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|it| v1::Capability {
            add_capabilities: it.add.clone().unwrap_or_default(),
            drop_capabilities: it.drop.clone().unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(namespace_options),
        // Without a user of the pod's choice it is the image's.
        run_as_user: uses_user.map(int64).or(given.image.uid).or_else(|| {
            // An image that names no user is root's; runtimes refuse a group without a user.
            given.image.username.is_empty().then(|| int64(0))
        }),
        run_as_username: match uses_user {
            Some(_) => String::new(),
            None => given.image.username.clone(),
        },
        run_as_group: own.run_as_group.or(of_pod.run_as_group).map(int64),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&of_pod),
        supplemental_groups_policy: groups_policy(&of_pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if is_unmasked { Vec::new() } else { masked() },
        readonly_paths: if is_unmasked { Vec::new() } else { texts(&READ_ONLY) },
        seccomp: Some(match seccomp {
            _ if privileged => profile(v1::security_profile::ProfileType::Unconfined, ""),
            wanted => seccomp_profile(wanted, given),
        }),
        selinux_options: own.se_linux_options.or(of_pod.se_linux_options).map(selinux),
        apparmor: own.app_armor_profile.or(of_pod.app_armor_profile).map(apparmor),
    }
}

fn selinux(options: SELinuxOptions) -> v1::SeLinuxOption {
    v1::SeLinuxOption {
        user: options.user.unwrap_or_default(),
        role: options.role.unwrap_or_default(),
        r#type: options.type_.unwrap_or_default(),
        level: options.level.unwrap_or_default(),
    }
}

fn apparmor(given: AppArmorProfile) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    match given.type_.as_str() {
        "Unconfined" => profile(Unconfined, ""),
        "Localhost" => profile(Localhost, &given.localhost_profile.unwrap_or_default()),
        _ => profile(RuntimeDefault, ""),
    }
}

fn seccomp_profile(wanted: Option<&SeccompProfile>, of: &Given<'_>) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let root = of.seccomp_root;
    let Some(given) = wanted else {
        return profile(if of.seccomp_default { RuntimeDefault } else { Unconfined }, "");
    };
    match given.type_.as_str() {
        "RuntimeDefault" => profile(RuntimeDefault, ""),
        "Localhost" => {
            let file = given.localhost_profile.as_deref().unwrap_or_default();
            profile(Localhost, &format!("{root}/{file}"))
        }
        _ => profile(Unconfined, ""),
    }
}

fn profile(kind: v1::security_profile::ProfileType, path: &str) -> v1::SecurityProfile {
    v1::SecurityProfile { profile_type: kind as i32, localhost_ref: path.to_owned() }
}

fn groups(of_pod: &PodSecurityContext) -> Vec<i64> {
    of_pod.supplemental_groups.iter().flatten().copied().chain(of_pod.fs_group).collect()
}

/// Whether the groups of the image's `/etc/group` are given too.
fn groups_policy(of_pod: &PodSecurityContext) -> i32 {
    let policy = match of_pod.supplemental_groups_policy.as_deref() {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict,
        _ => v1::SupplementalGroupsPolicy::Merge,
    };
    policy as i32
}

fn masked() -> Vec<String> {
    static THROTTLES: LazyLock<Vec<String>> = LazyLock::new(|| throttles(Path::new(CPUS)));
    [texts(&MASKED), texts(&MASKED_SYS), THROTTLES.clone()].concat()
}

/// How hot each CPU runs tells of what its neighbours do.
fn throttles(cpus: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cpus).into_iter().flatten().flatten();
    let is_cpu = |name: &str| {
        let number = name.strip_prefix("cpu").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit())
    };
    let folders = entries
        .filter(|it| is_cpu(&it.file_name().to_string_lossy()))
        .map(|it| it.path().join("thermal_throttle"));
    let mut paths: Vec<_> =
        folders.filter(|it| it.exists()).map(|it| it.display().to_string()).collect();
    paths.sort();
    paths
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

fn int64(value: i64) -> v1::Int64Value {
    v1::Int64Value { value }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    fn pod(context: PodSecurityContext) -> Pod {
        let spec = PodSpec { security_context: Some(context), ..PodSpec::default() };
        Pod { spec: Some(spec), ..Pod::default() }
    }

    fn image(uid: Option<i64>, username: &str) -> v1::Image {
        v1::Image { uid: uid.map(int64), username: username.to_owned(), ..Default::default() }
    }

    #[test]
    fn root_is_refused_wherever_it_comes_from() {
        let strict = PodSecurityContext { run_as_non_root: Some(true), ..Default::default() };
        let container = Container { name: "c".to_owned(), ..Container::default() };
        let check = |pod: &Pod, image| verify_run_as_non_root(pod, &container, &image).is_ok();
        assert!(!check(&pod(strict.clone()), image(Some(0), "")));
        assert!(!check(&pod(strict.clone()), image(None, "")));
        assert!(!check(&pod(strict.clone()), image(None, "nginx")));
        assert!(check(&pod(strict.clone()), image(Some(101), "")));
        let asked = PodSecurityContext { run_as_user: Some(0), ..strict.clone() };
        assert!(!check(&pod(asked), image(Some(101), "")));
        let asked = PodSecurityContext { run_as_user: Some(5), ..strict };
        assert!(check(&pod(asked), image(Some(0), "")));
        assert!(check(&pod(PodSecurityContext::default()), image(Some(0), "")));
    }

    #[test]
    fn a_privileged_container_sees_all_of_proc_and_no_filter() {
        let privileged = Container {
            security_context: Some(SecurityContext {
                privileged: Some(true),
                ..Default::default()
            }),
            ..Container::default()
        };
        let pod = pod(PodSecurityContext::default());
        let made = |it: &Container| made(&pod, it, false);
        assert!(made(&privileged).masked_paths.is_empty());
        assert!(!made(&Container::default()).masked_paths.is_empty());
    }

    fn made(pod: &Pod, it: &Container, seccomp_default: bool) -> v1::LinuxContainerSecurityContext {
        let given = Given {
            image: &image(Some(101), ""),
            target: None,
            seccomp_root: "/s",
            seccomp_default,
            users: None,
            observed: &RuntimePod::default(),
        };
        container(pod, Kind::Regular, it, &given)
    }

    #[test]
    fn the_default_filter_is_what_the_node_says_and_the_pods_own_wins() {
        use v1::security_profile::ProfileType::{RuntimeDefault, Unconfined};
        let plain = Container::default();
        let kind = |pod: &Pod, default| made(pod, &plain, default).seccomp.unwrap().profile_type;
        let none = pod(PodSecurityContext::default());
        assert_eq!(kind(&none, false), Unconfined as i32);
        assert_eq!(kind(&none, true), RuntimeDefault as i32);
        let unconfined = pod(PodSecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: "Unconfined".to_owned(),
                localhost_profile: None,
            }),
            ..Default::default()
        });
        assert_eq!(kind(&unconfined, true), Unconfined as i32);
    }

    #[test]
    fn how_hot_the_cpus_run_is_hidden() {
        let cpus = tempfile::tempdir().unwrap();
        for name in ["cpu0/thermal_throttle", "cpu11/thermal_throttle", "cpu2", "cpufreq"] {
            std::fs::create_dir_all(cpus.path().join(name)).unwrap();
        }
        let hidden = throttles(cpus.path());
        let names: Vec<_> = hidden.iter().filter_map(|it| it.rsplit('/').nth(1)).collect();
        assert_eq!(names, ["cpu0", "cpu11"]);
    }

    #[test]
    fn a_group_without_a_user_is_of_root_where_the_image_names_none() {
        let asked = PodSecurityContext { run_as_group: Some(3000), ..Default::default() };
        let user = |image: v1::Image| {
            let given = Given {
                image: &image,
                target: None,
                seccomp_root: "/s",
                seccomp_default: false,
                users: None,
                observed: &RuntimePod::default(),
            };
            let made = container(&pod(asked.clone()), Kind::Regular, &Container::default(), &given);
            (made.run_as_user.map(|it| it.value), made.run_as_username)
        };
        assert_eq!(user(image(None, "")), (Some(0), String::new()));
        assert_eq!(user(image(None, "nginx")), (None, "nginx".to_owned()));
    }

    #[test]
    fn the_images_user_stands_where_the_pod_names_none() {
        let user = |pod: &Pod| made(pod, &Container::default(), false).run_as_user.unwrap().value;
        assert_eq!(user(&pod(PodSecurityContext::default())), 101);
        let asked = PodSecurityContext { run_as_user: Some(7), ..Default::default() };
        assert_eq!(user(&pod(asked)), 7);
    }
}
