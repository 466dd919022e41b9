//! Further CIDR blocks of a VPC, subnets in them, and /28 blocks in subnets that are in pieces.

use aws_ec2::{
    network_interface::{
        CreateNetworkInterface, CreateNetworkInterfaceRequest, DeleteNetworkInterface,
        DeleteNetworkInterfaceRequest, NetworkInterface, PrivateIpAddressSpecificationInput,
    },
    private_addresses::{AssignPrivateIpAddresses, AssignPrivateIpAddressesRequest},
    subnet::{CreateSubnet, CreateSubnetRequest, DeleteSubnet, DeleteSubnetRequest},
    vpc::{
        AssociateVpcCidrBlock, AssociateVpcCidrBlockRequest, CreateVpc, CreateVpcRequest,
        DisassociateVpcCidrBlock, DisassociateVpcCidrBlockRequest,
    },
};

use super::support::*;

async fn vpc(region: &Region, cidr: &str) -> String {
    let request = CreateVpcRequest { cidr_block: text(cidr), ..Default::default() };
    region.call::<CreateVpc>(request).await.vpc.unwrap().vpc_id.unwrap()
}

fn block(vpc_id: &str, cidr: &str) -> AssociateVpcCidrBlockRequest {
    AssociateVpcCidrBlockRequest {
        vpc_id: vpc_id.to_owned(),
        cidr_block: text(cidr),
        ..Default::default()
    }
}

fn subnet(vpc_id: &str, cidr: &str) -> CreateSubnetRequest {
    CreateSubnetRequest { vpc_id: vpc_id.to_owned(), cidr_block: text(cidr), ..Default::default() }
}

async fn made_subnet(region: &Region, vpc_id: &str, cidr: &str) -> String {
    let made = region.call::<CreateSubnet>(subnet(vpc_id, cidr)).await;
    made.subnet.unwrap().subnet_id.unwrap()
}

async fn eni(region: &Region, request: CreateNetworkInterfaceRequest) -> NetworkInterface {
    region.call::<CreateNetworkInterface>(request).await.network_interface.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_further_block_holds_subnets_and_stays_while_it_does() {
    let region = region();
    let vpc = vpc(&region, "192.168.0.0/16").await;
    assert_eq!(
        region.code::<CreateSubnet>(subnet(&vpc, "100.64.0.0/24")).await,
        "InvalidSubnet.Range"
    );
    let associated = region.call::<AssociateVpcCidrBlock>(block(&vpc, "100.64.0.0/16")).await;
    let association = associated.cidr_block_association.unwrap();
    assert_eq!(association.cidr_block_state.unwrap().state.as_deref(), Some("associated"));
    let subnet_id = made_subnet(&region, &vpc, "100.64.0.0/24").await;
    let interface = CreateNetworkInterfaceRequest {
        subnet_id: subnet_id.clone(),
        secondary_private_ip_address_count: Some(3),
        ..Default::default()
    };
    let interface = eni(&region, interface).await;
    assert!(interface.private_ip_address.unwrap().starts_with("100.64.0."));

    let association_id = association.association_id.unwrap();
    let request = || DisassociateVpcCidrBlockRequest { association_id: association_id.clone() };
    assert_eq!(region.code::<DisassociateVpcCidrBlock>(request()).await, "InvalidCidrBlock.InUse");
    let network_interface_id = interface.network_interface_id.unwrap();
    let delete = DeleteNetworkInterfaceRequest { network_interface_id, dry_run: None };
    region.call::<DeleteNetworkInterface>(delete).await;
    region.call::<DeleteSubnet>(DeleteSubnetRequest { subnet_id, dry_run: None }).await;
    region.call::<DisassociateVpcCidrBlock>(request()).await;
    assert_eq!(
        region.code::<DisassociateVpcCidrBlock>(request()).await,
        "InvalidVpcCidrBlockAssociationID.NotFound"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vpc_takes_five_blocks_none_of_them_twice_or_restricted() {
    let region = region();
    let vpc = vpc(&region, "192.168.0.0/20").await;
    let taken = ["192.168.16.0/20", "192.168.32.0/20", "100.64.0.0/16", "100.65.0.0/16"];
    for cidr in &taken[..3] {
        region.call::<AssociateVpcCidrBlock>(block(&vpc, cidr)).await;
    }
    for (cidr, words) in [
        ("192.168.0.0/24", "conflicts with another CIDR"),
        ("100.64.0.0/16", "conflicts with another CIDR"),
        ("10.0.0.0/16", "is restricted"),
        ("100.66.0.0/15", "is invalid"),
    ] {
        let fault = region.refused::<AssociateVpcCidrBlock>(block(&vpc, cidr)).await;
        assert_eq!(fault.code, "InvalidVpc.Range", "{cidr}");
        assert!(fault.message.contains(words), "{cidr}: {}", fault.message);
    }
    region.call::<AssociateVpcCidrBlock>(block(&vpc, taken[3])).await;
    let code = region.code::<AssociateVpcCidrBlock>(block(&vpc, "100.66.0.0/16")).await;
    assert_eq!(code, "CidrLimitExceeded");
    let first = region.ec2.view().vpcs.get(&vpc).unwrap().cidrs[0].id.clone();
    let request = DisassociateVpcCidrBlockRequest { association_id: first };
    assert_eq!(region.code::<DisassociateVpcCidrBlock>(request).await, "OperationNotPermitted");
}

/// A /26 has four /28 blocks: the first and the last hold reserved addresses, and one address in each
/// of the others leaves 57 addresses free and no block.
#[tokio::test(start_paused = true)]
async fn a_subnet_in_pieces_has_addresses_and_no_prefixes() {
    let region = region();
    let vpc = vpc(&region, "10.0.0.0/24").await;
    let subnet_id = made_subnet(&region, &vpc, "10.0.0.0/26").await;
    let at = |address: &str| CreateNetworkInterfaceRequest {
        subnet_id: subnet_id.clone(),
        private_ip_addresses: vec![PrivateIpAddressSpecificationInput {
            primary: Some(true),
            private_ip_address: text(address),
        }],
        ..Default::default()
    };
    let one = eni(&region, at("10.0.0.20")).await.network_interface_id.unwrap();
    let other = eni(&region, at("10.0.0.40")).await.network_interface_id.unwrap();
    let prefixes = |count| AssignPrivateIpAddressesRequest {
        network_interface_id: one.clone(),
        ipv4_prefix_count: Some(count),
        ..Default::default()
    };
    let code = region.code::<AssignPrivateIpAddresses>(prefixes(1)).await;
    assert_eq!(code, "InsufficientCidrBlocks");
    let named = AssignPrivateIpAddressesRequest {
        network_interface_id: one.clone(),
        ipv4_prefixes: vec!["10.0.0.32/28".to_owned()],
        ..Default::default()
    };
    assert_eq!(region.code::<AssignPrivateIpAddresses>(named).await, "InvalidIPAddress.InUse");
    let delete = DeleteNetworkInterfaceRequest { network_interface_id: other, dry_run: None };
    region.call::<DeleteNetworkInterface>(delete).await;
    let assigned = region.call::<AssignPrivateIpAddresses>(prefixes(1)).await;
    let prefix = assigned.assigned_ipv4_prefixes[0].ipv4_prefix.clone();
    assert_eq!(prefix.as_deref(), Some("10.0.0.32/28"));
    assert_eq!(
        region.code::<AssignPrivateIpAddresses>(prefixes(1)).await,
        "InsufficientCidrBlocks"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subnets_history_says_how_many_addresses_were_free_and_when() {
    let region = region();
    let vpc = vpc(&region, "10.0.0.0/24").await;
    let subnet_id = made_subnet(&region, &vpc, "10.0.0.0/26").await;
    let request = CreateNetworkInterfaceRequest {
        subnet_id: subnet_id.clone(),
        secondary_private_ip_address_count: Some(8),
        ..Default::default()
    };
    let started = region.clock.now();
    for _ in 0..3 {
        eni(&region, request.clone()).await;
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
    }
    let history = region.ec2.usage(&subnet_id);
    let taken: Vec<_> =
        history.iter().map(|it| ((it.at - started).get_seconds(), it.taken)).collect();
    assert_eq!(taken, [(0, 0), (0, 9), (60, 18), (120, 27)]);
}
