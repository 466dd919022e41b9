//! What a launch template says of an instance's network interfaces.
//!
//! EC2 takes an instance's groups beside its interfaces or with each of them, not both: a class that says
//! nothing of interfaces has the former.

use api_kube::karpenter::{ConnectionTracking, Ec2NodeClass, NetworkInterface};
use aws_ec2::{
    launch_template_request::{
        LaunchTemplateInstanceNetworkInterfaceSpecificationRequest as Interface,
        RequestLaunchTemplateData,
    },
    network_interface::ConnectionTrackingSpecificationRequest,
};

const PLAIN: &str = "interface";

/// Adds the class's interfaces to a template, or its groups alone.
pub(super) fn add(data: &mut RequestLaunchTemplateData, class: &Ec2NodeClass, groups: Vec<String>) {
    let spec = &class.spec;
    let says_nothing = spec.associate_public_ip_address.is_none()
        && spec.ip_prefix_count.is_none()
        && spec.connection_tracking.is_none()
        && spec.network_interfaces.is_empty();
    if says_nothing {
        data.security_group_ids = groups;
        return;
    }
    let primary = NetworkInterface {
        device_index: 0,
        interface_type: PLAIN.to_owned(),
        network_card_index: 0,
    };
    let named: &[NetworkInterface] = match spec.network_interfaces.is_empty() {
        true => std::slice::from_ref(&primary),
        false => &spec.network_interfaces,
    };
    let each = named.iter().map(|it| {
        let is_primary = (it.network_card_index, it.device_index) == (0, 0);
        Interface {
            device_index: Some(it.device_index.into()),
            network_card_index: Some(it.network_card_index.into()),
            interface_type: Some(it.interface_type.clone()),
            groups: groups.clone(),
            associate_public_ip_address: spec.associate_public_ip_address.filter(|_| is_primary),
            ipv4_prefix_count: spec.ip_prefix_count.map(i64::from).filter(|_| is_primary),
            delete_on_termination: Some(true),
            connection_tracking_specification: spec.connection_tracking.map(timeouts),
            ..Interface::default()
        }
    });
    data.network_interfaces = each.collect();
}

fn timeouts(said: ConnectionTracking) -> ConnectionTrackingSpecificationRequest {
    ConnectionTrackingSpecificationRequest {
        tcp_established_timeout: said.tcp_established_timeout.map(i64::from),
        udp_stream_timeout: said.udp_stream_timeout.map(i64::from),
        udp_timeout: said.udp_timeout.map(i64::from),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(spec: Value) -> RequestLaunchTemplateData {
        let class = json!({ "metadata": { "name": "a" }, "spec": spec });
        let mut data = RequestLaunchTemplateData::default();
        add(&mut data, &serde_json::from_value(class).unwrap(), vec!["sg-1".to_owned()]);
        data
    }

    #[test]
    fn groups_are_the_instances_unless_the_class_says_something_of_interfaces() {
        let plain = of(json!({}));
        assert_eq!(plain.security_group_ids, ["sg-1"]);
        assert!(plain.network_interfaces.is_empty());
        let public = of(json!({ "associatePublicIPAddress": false, "ipPrefixCount": 2 }));
        assert!(public.security_group_ids.is_empty());
        let [one] = public.network_interfaces.as_slice() else { panic!("there is one") };
        assert_eq!((one.device_index, one.ipv4_prefix_count), (Some(0), Some(2)));
        assert_eq!(one.associate_public_ip_address, Some(false));
        assert_eq!(one.groups, ["sg-1"]);
    }

    #[test]
    fn what_is_said_of_the_primary_interface_is_said_of_no_other() {
        let both = of(json!({ "ipPrefixCount": 1, "networkInterfaces": [
            { "networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface" },
            { "networkCardIndex": 0, "deviceIndex": 1, "interfaceType": "interface" }],
            "connectionTracking": { "tcpEstablishedTimeout": 350 } }));
        let counts: Vec<_> =
            both.network_interfaces.iter().map(|it| it.ipv4_prefix_count).collect();
        assert_eq!(counts, [Some(1), None]);
        assert!(both.network_interfaces.iter().all(|it| {
            let timeouts = it.connection_tracking_specification.unwrap();
            it.groups == ["sg-1"] && timeouts.tcp_established_timeout == Some(350)
        }));
    }
}
