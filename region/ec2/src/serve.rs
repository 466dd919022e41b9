//! Which function serves which operation, and what IAM is asked before.
//!
//! A `read` looks at the state as it is, and a `look` at nothing else: not at the date, the caller, or
//! what is beside EC2. A `write` works on a copy that takes its place when it
//! succeeds. `DryRun` ends a call after authorization.

use aws_wire::Fault;
use region_gateway::{Caller, Handle, Routes, Target};
use std::sync::Arc;

use crate::{
    Ec2, capacity_reservations, dhcp_options, egress_only_internet_gateways, elastic_ips, faults,
    images, instance_requirements, instances, internet_gateways, key_pairs, launch_templates,
    managed, nat_gateways, network_acls, network_interfaces, placement_groups, prefix_lists, route,
    route_tables, security_groups, snapshots, spot, subnets, tags, targets, types, vpc_endpoints,
    vpcs, zones,
};

macro_rules! targets {
    ($ec2:ident, $caller:ident, $request:ident, $operation:ident, any) => {
        vec![Target::any()]
    };
    ($ec2:ident, $caller:ident, $request:ident, $operation:ident, new $kind:literal) => {
        targets::of_creation($ec2, stringify!($operation), $kind, &$request.tag_specifications)
    };
    ($ec2:ident, $caller:ident, $request:ident, $operation:ident, id $field:ident) => {
        targets::of_ids($ec2, $caller, std::slice::from_ref(&$request.$field))
    };
    ($ec2:ident, $caller:ident, $request:ident, $operation:ident, ids $field:ident) => {
        targets::of_ids($ec2, $caller, &$request.$field)
    };
    ($ec2:ident, $caller:ident, $request:ident, $operation:ident, group) => {
        targets::security_group(
            $ec2,
            $caller,
            $request.group_id.as_ref(),
            $request.group_name.as_ref(),
        )
    };
    ($ec2:ident, $caller:ident, $request:ident, $operation:ident, template) => {
        targets::launch_template(
            $ec2,
            $caller,
            $request.launch_template_id.as_ref(),
            $request.launch_template_name.as_ref(),
        )
    };
    ($ec2:ident, $caller:ident, $request:ident, $operation:ident, by $function:path) => {
        $function($ec2, $caller, $request)
    };
}

macro_rules! is_dry_run {
    ($request:ident, dry) => {
        $request.dry_run == Some(true)
    };
    ($request:ident, wet) => {
        false
    };
}

macro_rules! version {
    ($ec2:ident, look) => {
        Some($ec2.version())
    };
    ($ec2:ident, $mode:ident) => {
        None
    };
}

macro_rules! serve {
    ($($module:ident::$operation:ident $dry:ident: $mode:ident $function:path, [$($target:tt)*];)*) => {
        $(impl Handle<aws_ec2::$module::$operation> for Ec2 {
            fn targets(
                &self,
                caller: &Caller,
                request: &<aws_ec2::$module::$operation as aws_wire::Operation>::Request,
            ) -> Vec<Target> {
                let (_, _) = (caller, request);
                targets!(self, caller, request, $operation, $($target)*)
            }

            fn version(&self) -> Option<u64> {
                let ec2 = self;
                let _ = ec2;
                version!(ec2, $mode)
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <aws_ec2::$module::$operation as aws_wire::Operation>::Request,
            ) -> Result<<aws_ec2::$module::$operation as aws_wire::Operation>::Response, Fault> {
                if is_dry_run!(request, $dry) {
                    return Err(faults::dry_run());
                }
                self.$mode(caller, |call, state| $function(call, state, request))
            }
        })*

        /// Every operation of the service, to be served by `ec2`.
        pub fn routes(ec2: &Arc<Ec2>) -> Routes {
            let routes = Routes::new();
            $(let routes = routes.operation::<aws_ec2::$module::$operation, Ec2>(ec2.clone());)*
            routes
        }
    };
}

serve! {
    vpc::CreateVpc dry: write vpcs::create, [new "vpc"];
    vpc::DeleteVpc dry: write vpcs::delete, [id vpc_id];
    vpc::DescribeVpcs dry: read vpcs::describe, [any];
    vpc::DescribeVpcAttribute dry: read vpcs::describe_attribute, [any];
    vpc::ModifyVpcAttribute wet: write vpcs::modify_attribute, [id vpc_id];
    vpc::AssociateVpcCidrBlock wet: write vpcs::associate_cidr, [id vpc_id];
    vpc::DisassociateVpcCidrBlock wet: write vpcs::disassociate_cidr, [by targets::disassociate_cidr];
    subnet::CreateSubnet dry: write subnets::create, [by targets::create_subnet];
    subnet::DeleteSubnet dry: write subnets::delete, [id subnet_id];
    subnet::DescribeSubnets dry: read subnets::describe, [any];
    subnet::AssociateSubnetCidrBlock wet: write subnets::ipv6_cidr_blocks::associate, [id subnet_id];
    subnet::DisassociateSubnetCidrBlock wet: write subnets::ipv6_cidr_blocks::disassociate, [by targets::disassociate_subnet_cidr];
    subnet_reservation::CreateSubnetCidrReservation dry: write subnets::reservations::create, [any];
    subnet_reservation::DeleteSubnetCidrReservation dry: write subnets::reservations::delete, [any];
    subnet_reservation::GetSubnetCidrReservations dry: read subnets::reservations::get, [any];
    subnet::ModifySubnetAttribute wet: write subnets::modify_attribute, [id subnet_id];
    internet_gateway::CreateInternetGateway dry: write internet_gateways::create, [new "internet-gateway"];
    internet_gateway::DeleteInternetGateway dry: write internet_gateways::delete, [id internet_gateway_id];
    internet_gateway::DescribeInternetGateways dry: read internet_gateways::describe, [any];
    internet_gateway::AttachInternetGateway dry: write internet_gateways::attach, [by targets::attach_internet_gateway];
    internet_gateway::DetachInternetGateway dry: write internet_gateways::detach, [by targets::detach_internet_gateway];
    egress_only_internet_gateway::CreateEgressOnlyInternetGateway dry: write egress_only_internet_gateways::create, [by targets::create_egress_only_internet_gateway];
    egress_only_internet_gateway::DeleteEgressOnlyInternetGateway dry: write egress_only_internet_gateways::delete, [id egress_only_internet_gateway_id];
    egress_only_internet_gateway::DescribeEgressOnlyInternetGateways dry: read egress_only_internet_gateways::describe, [any];
    nat_gateway::CreateNatGateway dry: write nat_gateways::create, [by targets::create_nat_gateway];
    nat_gateway::DeleteNatGateway dry: write nat_gateways::delete, [id nat_gateway_id];
    nat_gateway::DescribeNatGateways dry: read nat_gateways::describe, [any];
    route_table::CreateRouteTable dry: write route_tables::create, [by targets::create_route_table];
    route_table::DeleteRouteTable dry: write route_tables::delete, [id route_table_id];
    route_table::DescribeRouteTables dry: read route_tables::describe, [any];
    route_table::AssociateRouteTable dry: write route_tables::associate, [by targets::associate_route_table];
    route_table::DisassociateRouteTable dry: write route_tables::disassociate, [by targets::disassociate_route_table];
    route_table::ReplaceRouteTableAssociation dry: write route_tables::replace_association, [by targets::replace_route_table_association];
    route_table::CreateRoute dry: write route::create, [id route_table_id];
    route_table::DeleteRoute dry: write route::delete, [id route_table_id];
    route_table::ReplaceRoute dry: write route::replace, [id route_table_id];
    address::AllocateAddress dry: write elastic_ips::allocate, [new "elastic-ip"];
    address::ReleaseAddress dry: write elastic_ips::release, [by targets::release_address];
    address::DescribeAddresses dry: read elastic_ips::describe, [any];
    address::DescribeAddressesAttribute dry: read elastic_ips::describe_attribute, [any];
    address::AssociateAddress dry: write elastic_ips::associate, [by targets::associate_address];
    address::DisassociateAddress dry: write elastic_ips::disassociate, [by targets::disassociate_address];
    network_acl::DescribeNetworkAcls dry: read network_acls::describe, [any];
    network_acl::CreateNetworkAcl dry: write network_acls::create, [by targets::create_network_acl];
    network_acl::DeleteNetworkAcl dry: write network_acls::delete, [id network_acl_id];
    network_acl::CreateNetworkAclEntry dry: write network_acls::create_entry, [id network_acl_id];
    network_acl::ReplaceNetworkAclEntry dry: write network_acls::replace_entry, [id network_acl_id];
    network_acl::DeleteNetworkAclEntry dry: write network_acls::delete_entry, [id network_acl_id];
    network_acl::ReplaceNetworkAclAssociation dry: write network_acls::replace_association, [by targets::replace_network_acl_association];
    dhcp_options::DescribeDhcpOptions dry: read dhcp_options::describe, [any];
    dhcp_options::CreateDhcpOptions dry: write dhcp_options::create, [new "dhcp-options"];
    dhcp_options::AssociateDhcpOptions dry: write dhcp_options::associate, [by targets::associate_dhcp_options];
    dhcp_options::DeleteDhcpOptions dry: write dhcp_options::delete, [id dhcp_options_id];
    managed_prefix_list::DescribeManagedPrefixLists dry: read prefix_lists::describe, [any];
    managed_prefix_list::GetManagedPrefixListEntries dry: read prefix_lists::entries, [id prefix_list_id];
    managed_prefix_list::GetManagedPrefixListAssociations dry: read prefix_lists::associations, [id prefix_list_id];
    managed_prefix_list::CreateManagedPrefixList dry: write prefix_lists::create, [new "prefix-list"];
    managed_prefix_list::ModifyManagedPrefixList dry: write prefix_lists::modify, [id prefix_list_id];
    managed_prefix_list::RestoreManagedPrefixListVersion dry: write prefix_lists::restore, [id prefix_list_id];
    managed_prefix_list::DeleteManagedPrefixList dry: write prefix_lists::delete, [id prefix_list_id];
    vpc_endpoint_service::DescribeVpcEndpointServices dry: read managed::describe_services, [any];
    ebs_defaults::GetEbsEncryptionByDefault dry: read managed::encryption_by_default, [any];
    security_group_for_vpc::GetSecurityGroupsForVpc dry: read security_groups::for_vpc, [id vpc_id];
    image_attribute::DescribeImageAttribute dry: read images::describe_attribute, [id image_id];
    instance_options::ModifyInstanceMaintenanceOptions dry: write instances::options::modify_maintenance, [id instance_id];
    instance_options::ModifyPrivateDnsNameOptions dry: write instances::options::modify_dns_name, [id instance_id];
    instance_options::MonitorInstances dry: write instances::options::monitor, [ids instance_ids];
    instance_options::UnmonitorInstances dry: write instances::options::unmonitor, [ids instance_ids];
    instance_options::GetPasswordData dry: read instances::options::password, [id instance_id];
    instance_options::ModifyInstanceCreditSpecification dry: write instances::options::modify_credits, [by targets::modify_credits];
    instance_options::ReplaceIamInstanceProfileAssociation wet: write instances::profiles::replace, [by instances::profiles::replace_targets];
    vpc_endpoint::CreateVpcEndpoint dry: write vpc_endpoints::create, [by targets::create_vpc_endpoint];
    vpc_endpoint::DeleteVpcEndpoints dry: write vpc_endpoints::delete, [ids vpc_endpoint_ids];
    vpc_endpoint::DescribeVpcEndpoints dry: read vpc_endpoints::describe, [any];
    vpc_endpoint::ModifyVpcEndpoint dry: write vpc_endpoints::modify, [id vpc_endpoint_id];
    vpc_endpoint::DescribePrefixLists dry: read vpc_endpoints::describe_prefix_lists, [any];
    security_group::CreateSecurityGroup dry: write security_groups::create, [by targets::create_security_group];
    security_group::DeleteSecurityGroup dry: write security_groups::delete, [group];
    security_group::DescribeSecurityGroups dry: read security_groups::describe, [any];
    security_group::AuthorizeSecurityGroupIngress dry: write security_groups::authorize_ingress, [group];
    security_group::AuthorizeSecurityGroupEgress dry: write security_groups::authorize_egress, [id group_id];
    security_group::RevokeSecurityGroupIngress dry: write security_groups::revoke_ingress, [group];
    security_group::RevokeSecurityGroupEgress dry: write security_groups::revoke_egress, [id group_id];
    security_group_rule::DescribeSecurityGroupRules dry: read security_groups::describe_rules, [any];
    security_group_rule::ModifySecurityGroupRules dry: write security_groups::modify_rules, [id group_id];
    security_group_rule::UpdateSecurityGroupRuleDescriptionsIngress dry: write security_groups::update_descriptions_ingress, [group];
    security_group_rule::UpdateSecurityGroupRuleDescriptionsEgress dry: write security_groups::update_descriptions_egress, [group];
    network_interface::CreateNetworkInterface dry: write network_interfaces::create, [by targets::create_network_interface];
    network_interface::DeleteNetworkInterface dry: write network_interfaces::delete, [id network_interface_id];
    network_interface::DescribeNetworkInterfaces dry: read network_interfaces::describe, [any];
    network_interface::AttachNetworkInterface dry: write network_interfaces::attach, [by targets::attach_network_interface];
    network_interface::DetachNetworkInterface dry: write network_interfaces::detach, [by targets::detach_network_interface];
    network_interface::ModifyNetworkInterfaceAttribute dry: write network_interfaces::modify_attribute, [by targets::modify_network_interface];
    network_interface::DescribeNetworkInterfaceAttribute dry: read network_interfaces::describe_attribute, [any];
    network_interface_permission::CreateNetworkInterfacePermission dry: write network_interfaces::create_permission, [by targets::create_permission];
    network_interface_permission::DeleteNetworkInterfacePermission dry: write network_interfaces::delete_permission, [any];
    network_interface_permission::DescribeNetworkInterfacePermissions wet: read network_interfaces::describe_permissions, [any];
    trunk_interface::AssociateTrunkInterface dry: write network_interfaces::associate_trunk, [any];
    trunk_interface::DisassociateTrunkInterface dry: write network_interfaces::disassociate_trunk, [any];
    trunk_interface::DescribeTrunkInterfaceAssociations dry: read network_interfaces::describe_trunk_associations, [any];
    private_addresses::AssignPrivateIpAddresses wet: write network_interfaces::assign, [id network_interface_id];
    private_addresses::UnassignPrivateIpAddresses wet: write network_interfaces::unassign, [id network_interface_id];
    ipv6_addresses::AssignIpv6Addresses wet: write network_interfaces::assign_ipv6, [id network_interface_id];
    ipv6_addresses::UnassignIpv6Addresses wet: write network_interfaces::unassign_ipv6, [id network_interface_id];
    capacity_reservation::CreateCapacityReservation dry: write capacity_reservations::create, [new "capacity-reservation"];
    capacity_reservation::DescribeCapacityReservations dry: read capacity_reservations::describe, [any];
    capacity_reservation::ModifyCapacityReservation dry: write capacity_reservations::modify, [id capacity_reservation_id];
    capacity_reservation::CancelCapacityReservation dry: write capacity_reservations::cancel, [id capacity_reservation_id];
    placement_group::CreatePlacementGroup dry: write placement_groups::create, [new "placement-group"];
    placement_group::DeletePlacementGroup dry: write placement_groups::delete, [by placement_groups::delete_targets];
    placement_group::DescribePlacementGroups dry: read placement_groups::describe, [any];
    run_instances::RunInstances dry: write instances::run::run, [by instances::rights::targets];
    fleet::CreateFleet dry: write instances::fleet::create, [by instances::fleet::targets];
    spot::DescribeSpotPriceHistory dry: read spot::describe_prices, [any];
    instance::DescribeInstances dry: look instances::describe::describe, [any];
    instance_state::TerminateInstances dry: write instances::transitions::terminate, [ids instance_ids];
    instance_state::StopInstances dry: write instances::transitions::stop, [ids instance_ids];
    instance_state::StartInstances dry: write instances::transitions::start, [ids instance_ids];
    instance_state::RebootInstances dry: write instances::transitions::reboot, [ids instance_ids];
    instance_state::DescribeInstanceStatus dry: read instances::status::describe, [any];
    instance_state::GetConsoleOutput dry: read instances::status::console, [id instance_id];
    instance_attribute::DescribeInstanceAttribute dry: read instances::attributes::describe, [id instance_id];
    instance_attribute::ModifyInstanceAttribute dry: write instances::attributes::modify, [id instance_id];
    instance_attribute::ModifyInstanceMetadataOptions dry: write instances::attributes::modify_metadata, [id instance_id];
    instance_attribute::AssociateIamInstanceProfile wet: write instances::profiles::associate, [by instances::profiles::targets];
    instance_attribute::DisassociateIamInstanceProfile wet: write instances::profiles::disassociate, [by targets::disassociate_profile];
    instance_attribute::DescribeIamInstanceProfileAssociations wet: read instances::profiles::describe, [any];
    instance_attribute::DescribeInstanceCreditSpecifications dry: read instances::status::describe_credits, [any];
    launch_template::CreateLaunchTemplate dry: write launch_templates::create, [new "launch-template"];
    launch_template::CreateLaunchTemplateVersion dry: write launch_templates::create_version, [template];
    launch_template::DescribeLaunchTemplates dry: read launch_templates::describe, [any];
    launch_template::DescribeLaunchTemplateVersions dry: read launch_templates::describe_versions, [any];
    launch_template::GetLaunchTemplateData dry: read launch_templates::of_instance, [id instance_id];
    launch_template::ModifyLaunchTemplate dry: write launch_templates::modify, [template];
    launch_template::DeleteLaunchTemplate dry: write launch_templates::delete, [template];
    launch_template::DeleteLaunchTemplateVersions dry: write launch_templates::delete_versions, [template];
    image::DescribeImages dry: read images::describe, [any];
    image::RegisterImage dry: write images::register, [by images::targets];
    image::DeregisterImage dry: write images::deregister, [by images::deregister_targets];
    snapshot::DescribeSnapshots dry: read snapshots::describe, [any];
    snapshot::DeleteSnapshot dry: write snapshots::delete, [id snapshot_id];
    key_pair::CreateKeyPair dry: write key_pairs::create, [new "key-pair"];
    key_pair::ImportKeyPair dry: write key_pairs::import, [new "key-pair"];
    key_pair::DescribeKeyPairs dry: read key_pairs::describe, [any];
    key_pair::DeleteKeyPair dry: write key_pairs::delete, [by targets::delete_key_pair];
    instance_requirements::GetInstanceTypesFromInstanceRequirements dry: read instance_requirements::types_of, [any];
    instance_type::DescribeInstanceTypes dry: read types::describe, [any];
    instance_type::DescribeInstanceTypeOfferings dry: read types::describe_offerings, [any];
    zone::DescribeAvailabilityZones dry: read zones::describe_zones, [any];
    zone::DescribeRegions dry: read zones::describe_regions, [any];
    zone::DescribeAccountAttributes dry: read zones::describe_account, [any];
    volume::DescribeVolumes dry: read instances::volumes::describe, [any];
    tag::CreateTags dry: write tags::create, [by tags::create_targets];
    tag::DeleteTags dry: write tags::delete, [by tags::delete_targets];
    tag::DescribeTags dry: read tags::describe, [any];
}
