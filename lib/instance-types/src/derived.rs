//! What EKS-optimized AMIs reserve for the kubelet and the runtime.
//!
//! Upstream: nodeadm, `kubelet` package, "kube reserved" of `awslabs/amazon-eks-ami`.

/// `kubeReserved.memory` in MiB: 11 MiB for each pod that may run, and 255 MiB.
pub fn kube_reserved_memory_mib(max_pods: u32) -> u64 {
    11 * u64::from(max_pods) + 255
}

/// `kubeReserved.cpu` in thousandths of a vCPU: 6 % of the first, 1 % of the second, 0.5 % of the
/// third and fourth, 0.25 % of all further ones.
pub fn kube_reserved_cpu_millis(vcpus: u32) -> u64 {
    /// Where each step ends (in vCPUs) and its share in hundredths of a percent.
    const STEPS: [(u64, u64); 4] = [(1, 600), (2, 100), (4, 50), (u64::MAX, 25)];
    let vcpus = u64::from(vcpus);
    let mut begin = 0;
    let mut shares = 0;
    for (end, share) in STEPS {
        shares += vcpus.min(end).saturating_sub(begin) * share;
        begin = end;
    }
    shares / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_reserved_in_steps() {
        for (vcpus, millis) in [(0, 0), (1, 60), (2, 70), (4, 80), (8, 90), (96, 310)] {
            assert_eq!(kube_reserved_cpu_millis(vcpus), millis, "{vcpus} vCPUs");
        }
    }

    #[test]
    fn memory_is_reserved_per_pod() {
        assert_eq!(kube_reserved_memory_mib(29), 574);
        assert_eq!(kube_reserved_memory_mib(110), 1465);
    }
}
