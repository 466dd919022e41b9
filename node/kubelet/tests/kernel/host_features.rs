//! What depends on the machine: huge pages, AppArmor, what is masked of `/proc`.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{self, Bed};

const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Huge pages of the machine, given back when this is dropped.
struct HugePages {
    before: String,
}

impl HugePages {
    /// `None` where the machine has none to give.
    fn reserve(count: u32) -> Option<Self> {
        let before = fs::read_to_string(PAGES).ok()?;
        let had: u32 = before.trim().parse().ok()?;
        let this = Self { before };
        fs::write(PAGES, (had + count).to_string()).ok()?;
        let has: u32 = fs::read_to_string(PAGES).ok()?.trim().parse().ok()?;
        if has < had + count {
            println!("not run: the machine gives no huge pages");
            return None;
        }
        Some(this)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        drop(fs::write(PAGES, self.before.trim()));
    }
}

fn with_pages(bed: &Bed, name: &str, amount: &str, script: &str) -> Value {
    let mut container = bed.container("main", script);
    container["resources"] = json!({
        "limits": { "hugepages-2Mi": amount, "memory": "64Mi", "cpu": "100m" },
    });
    container["volumeMounts"] = json!([{ "name": "pages", "mountPath": "/pages" }]);
    json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{ "name": "pages", "emptyDir": { "medium": "HugePages" } }],
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_pages_are_offered_mounted_used_and_refused_where_there_are_too_few() {
    let Some(bed) = Bed::alone("hugepages").await else { return };
    let Some(_pages) = HugePages::reserve(4) else { return };
    let kubelet = bed.ready().await;
    let capacity = bed.node().await.status.unwrap().capacity.unwrap();
    let offered = capacity["hugepages-2Mi"].0.clone();
    assert!(offered.ends_with("Mi"), "{offered}");
    // The file system gives whole pages, and only as many as there are.
    // They are root's, as upstream leaves them: whoever else wants some needs a group.
    let script = "grep ' /pages hugetlbfs ' /proc/mounts | grep -o pagesize=2M; stat -c %a /pages; \
                  fallocate -l 4194304 /pages/f && stat -c %s /pages/f; exec sleep 1000";
    bed.create_pod(with_pages(&bed, "uses", "4Mi", script)).await;
    bed.until_ready("uses").await;
    bed.eventually(async || {
        (bed.log("uses", "main").await == "pagesize=2M\n755\n4194304\n").then_some(())
    })
    .await;
    bed.create_pod(with_pages(&bed, "wants", "1Gi", "exec sleep 1000")).await;
    let failed = bed.until("wants", |it| it.phase.as_deref() == Some("Failed")).await;
    let status = failed.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("OutOfhugepages-2Mi"));
    let message = status.message.unwrap();
    let expected = "Node didn't have enough resource: hugepages-2Mi, requested: 1073741824, used: 4194304, capacity: ";
    assert!(message.contains(expected), "{message}");
    for name in ["uses", "wants"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_of_apparmor_is_enforced_or_the_pod_is_refused() {
    let Some(bed) = Bed::new("apparmor").await else { return };
    let kubelet = bed.ready().await;
    let mut container = bed.container("main", "cat /proc/self/attr/current; exec sleep 1000");
    container["securityContext"] = json!({ "appArmorProfile": { "type": "RuntimeDefault" } });
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [container] });
    bed.create_pod(json!({ "metadata": { "name": "armored" }, "spec": spec })).await;
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if enabled.is_ok_and(|it| it.starts_with('Y')) {
        bed.until_ready("armored").await;
        assert!(bed.log("armored", "main").await.contains("(enforce)"));
    } else {
        let failed = bed.until("armored", |it| it.phase.as_deref() == Some("Failed")).await;
        let status = failed.status.unwrap();
        assert_eq!(status.reason.as_deref(), Some("AppArmor"));
        assert_eq!(
            status.message.as_deref(),
            Some("Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host")
        );
    }
    bed.delete_pod("armored", 0).await;
    bed.until_gone("armored").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_harm_the_host_is_masked_in_proc_unless_the_container_is_privileged() {
    let Some(bed) = Bed::new("procmount").await else { return };
    let kubelet = bed.ready().await;
    // What is masked is an empty file or folder; what is read-only is a mount of its own.
    let script = "head -c 1 /proc/timer_list | wc -c; \
                  grep -c ' /proc/sys proc ro' /proc/mounts; exec sleep 1000";
    let plain = bed.container("plain", script);
    let mut privileged = bed.container("privileged", script);
    privileged["securityContext"] = json!({ "privileged": true });
    let spec = json!({
        "terminationGracePeriodSeconds": 0, "containers": [plain, privileged],
    });
    bed.create_pod(json!({ "metadata": { "name": "p" }, "spec": spec })).await;
    bed.until_ready("p").await;
    let lines = async |container: &str| {
        bed.eventually(async || {
            let log = bed.log("p", container).await;
            let lines: Vec<_> = log.lines().map(str::to_owned).collect();
            (lines.len() == 2).then_some(lines)
        })
        .await
    };
    let (plain, privileged) = (lines("plain").await, lines("privileged").await);
    assert_eq!(plain, ["0", "1"]);
    assert_eq!(privileged[1], "0", "{privileged:?}");
    if Path::new("/proc/timer_list").exists() {
        assert_eq!(privileged[0], "1", "{privileged:?}");
    }
    bed.delete_pod("p", 0).await;
    bed.until_gone("p").await;
    // To have it unmasked, a pod has to be in a user namespace.
    let mut container = bed.container("main", "true");
    container["securityContext"] = json!({ "procMount": "Unmasked" });
    let pod = json!({ "metadata": { "name": "open" }, "spec": { "containers": [container] } });
    let refused = bed.try_pod(pod).await.unwrap_err();
    assert!(refused.contains("`hostUsers` must be false to use `Unmasked`"), "{refused}");
    // Which this runtime does not have.
    let mut container = bed.container("main", "exec sleep 1000");
    container["securityContext"] = json!({ "procMount": "Unmasked" });
    let spec = json!({ "containers": [container], "hostUsers": false });
    bed.create_pod(json!({ "metadata": { "name": "users" }, "spec": spec })).await;
    bed.until_event("Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces: the handler \"\" is not known").await;
    bed.delete_pod("users", 0).await;
    bed.until_gone("users").await;
    kubelet.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_of_the_nodes_own_is_laid_on_and_one_that_it_does_not_have_is_told() {
    let Some(bed) = Bed::new("seccomp").await else { return };
    let kubelet = bed.ready().await;
    let profiles = bed.root().join("seccomp/profiles");
    fs::create_dir_all(&profiles).unwrap();
    let refused = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" });
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused] });
    fs::write(profiles.join("no-folders.json"), filter.to_string()).unwrap();
    let with = |name: &str, file: &str| {
        let script = "mkdir /folder 2>/dev/null || echo refused; touch /file && echo made; \
                      exec sleep 1000";
        let mut container = bed.container("main", script);
        let profile = json!({ "type": "Localhost", "localhostProfile": file });
        container["securityContext"] = json!({ "seccompProfile": profile });
        let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [container] });
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    bed.create_pod(with("filtered", "profiles/no-folders.json")).await;
    bed.until_ready("filtered").await;
    bed.eventually(async || (bed.log("filtered", "main").await == "refused\nmade\n").then_some(()))
        .await;
    bed.create_pod(with("lost", "profiles/none.json")).await;
    bed.until("lost", |it| support::waiting(it).as_deref() == Some("CreateContainerError")).await;
    bed.until_event("profiles/none.json").await;
    for name in ["filtered", "lost"] {
        bed.delete_pod(name, 0).await;
        bed.until_gone(name).await;
    }
    bed.until_nothing_is_left().await;
    kubelet.kill().await;
}
