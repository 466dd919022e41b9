//! Facts about EC2 instance types, and what EKS derives from them.
//!
//! The facts come from a table in this crate (`table.tsv`), made from public sources: Karpenter's
//! documentation, the VPC CNI's limits and AWS's price list for us-east-1, On-Demand, Linux. A type
//! without known vCPU, memory or interface limits is not in it.
//!
//! **Invariant:** every type here has an architecture, vCPUs, memory and interface limits; only the
//! price, bandwidths and accelerators may be unknown.

mod derived;
mod table;

pub use crate::{
    derived::{kube_reserved_cpu_millis, kube_reserved_memory_mib},
    table::{all, find},
};

/// One instance type.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceType {
    pub name: &'static str,
    pub arch: Arch,
    pub vcpus: u32,
    pub memory_mib: u64,
    /// Network interfaces on the default network card, the only one that the VPC CNI uses.
    pub enis: u32,
    /// IPv4 addresses per interface, the primary one included.
    pub ipv4_per_eni: u32,
    pub network_cards: u32,
    pub hypervisor: Hypervisor,
    pub is_bare_metal: bool,
    /// Branch interfaces for security groups per pod; 0 where trunking is not supported.
    pub branch_enis: u32,
    pub network_bandwidth_mbps: Option<u64>,
    pub ebs_bandwidth_mbps: Option<u64>,
    pub local_nvme_gb: u64,
    pub cpu_manufacturer: Option<&'static str>,
    pub cpu_mhz: Option<u32>,
    pub gpu: Option<Gpu>,
    /// US dollars per hour, On-Demand, Linux, us-east-1.
    pub price: Option<f64>,
}

/// The accelerators of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    pub count: u32,
    pub name: &'static str,
    pub manufacturer: &'static str,
    pub memory_mib: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    X86_64,
    Arm64,
}

impl Arch {
    /// As EC2 spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Kubernetes spells it (`kubernetes.io/arch`).
    pub fn kubernetes(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    Nitro,
    Xen,
    /// Bare metal.
    None,
}

impl InstanceType {
    /// `m5` of `m5.large`.
    pub fn family(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(family, _)| family)
    }

    /// `large` of `m5.large`.
    pub fn size(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(_, size)| size)
    }

    /// How many pods get an address in secondary-address mode, plus `aws-node` and `kube-proxy`,
    /// which use the host's network.
    pub fn max_pods(&self) -> u32 {
        self.enis * (self.ipv4_per_eni - 1) + 2
    }

    /// The same in prefix mode, within what EKS recommends: 110, or 250 from 30 vCPUs on.
    pub fn max_pods_with_prefixes(&self) -> u32 {
        let recommended = if self.vcpus < 30 { 110 } else { 250 };
        (self.enis * (self.ipv4_per_eni - 1) * 16 + 2).min(recommended)
    }
}
