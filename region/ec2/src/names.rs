//! Names and hardware addresses that follow from other facts.

use std::net::Ipv4Addr;

/// `ip-192-168-0-4.ec2.internal`: the private DNS name, and the name of an EKS node.
pub fn private_dns(region: &str, address: Ipv4Addr) -> String {
    format!("ip-{}.{}", dashed(address), private_domain(region))
}

/// `ec2.internal` in us-east-1, `REGION.compute.internal` elsewhere.
pub fn private_domain(region: &str) -> String {
    match region {
        "us-east-1" => "ec2.internal".to_owned(),
        _ => format!("{region}.compute.internal"),
    }
}

/// `ec2-203-0-113-5.compute-1.amazonaws.com`.
pub fn public_dns(region: &str, address: Ipv4Addr) -> String {
    let domain = match region {
        "us-east-1" => "compute-1".to_owned(),
        _ => format!("{region}.compute"),
    };
    format!("ec2-{}.{domain}.amazonaws.com", dashed(address))
}

fn dashed(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

/// A locally administered address that stays with the interface: made from its id.
pub(crate) fn mac(interface_id: &str) -> String {
    let digits: Vec<char> = interface_id.chars().rev().take(10).collect();
    let pairs: Vec<String> = digits.rchunks(2).map(|pair| pair.iter().rev().collect()).collect();
    format!("02:{}", pairs.join(":"))
}

/// When, as EC2 writes it: `2026-11-23T16:00:00.000Z`.
pub(crate) fn date(at: jiff::Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_addresses() {
        let address = Ipv4Addr::new(192, 168, 0, 12);
        assert_eq!(private_dns("us-east-1", address), "ip-192-168-0-12.ec2.internal");
        assert_eq!(
            private_dns("eu-central-1", address),
            "ip-192-168-0-12.eu-central-1.compute.internal"
        );
        assert_eq!(
            public_dns("us-east-1", Ipv4Addr::new(203, 0, 113, 5)),
            "ec2-203-0-113-5.compute-1.amazonaws.com"
        );
    }

    #[test]
    fn a_mac_is_local_and_follows_from_the_id() {
        assert_eq!(mac("eni-00123456789abcdef"), "02:67:89:ab:cd:ef");
    }

    #[test]
    fn dates_have_milliseconds() {
        assert_eq!(date(jiff::Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
