"""VPCs and what is in them."""


def network(story):
    do = lambda operation, **it: story.do("ec2", operation, **it)
    tags = [{"Key": "contract", "Value": "yes"}]

    def tagged(kind):
        return [{"ResourceType": kind, "Tags": tags}]

    do("DescribeRegions")
    do("DescribeAvailabilityZones")
    do("DescribeAccountAttributes")
    do("GetEbsEncryptionByDefault")
    vpc = do("CreateVpc", CidrBlock="10.90.0.0/16", AmazonProvidedIpv6CidrBlock=True,
             TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
    do("ModifyVpcAttribute", VpcId=vpc, EnableDnsHostnames={"Value": True})
    for attribute in ("enableDnsSupport", "enableDnsHostnames"):
        do("DescribeVpcAttribute", VpcId=vpc, Attribute=attribute)
    second = do("AssociateVpcCidrBlock", VpcId=vpc, CidrBlock="100.64.0.0/16")
    do("DisassociateVpcCidrBlock",
       AssociationId=second["CidrBlockAssociation"]["AssociationId"])
    options = do("CreateDhcpOptions", DhcpConfigurations=[
        {"Key": "domain-name", "Values": ["contract.test"]},
        {"Key": "domain-name-servers", "Values": ["AmazonProvidedDNS"]},
    ])["DhcpOptions"]["DhcpOptionsId"]
    do("AssociateDhcpOptions", DhcpOptionsId=options, VpcId=vpc)
    do("AssociateDhcpOptions", DhcpOptionsId="default", VpcId=vpc)
    ranges = do("DescribeVpcs", VpcIds=[vpc])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"]
    ipv6 = ranges[0]["Ipv6CidrBlock"].replace("/56", "/64")
    subnets = []
    for number, zone in ((0, "a"), (1, "b"), (2, "a")):
        subnets.append(do(
            "CreateSubnet", VpcId=vpc, CidrBlock=f"10.90.{number}.0/24",
            AvailabilityZone=f"us-east-1{zone}",
            TagSpecifications=tagged("subnet"))["Subnet"]["SubnetId"])
    subnet = subnets[0]
    block = do("AssociateSubnetCidrBlock", SubnetId=subnet, Ipv6CidrBlock=ipv6)
    do("ModifySubnetAttribute", SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    kept = do("CreateSubnetCidrReservation", SubnetId=subnet, Cidr="10.90.0.64/28",
              ReservationType="prefix")["SubnetCidrReservation"]["SubnetCidrReservationId"]
    do("GetSubnetCidrReservations", SubnetId=subnet)
    do("DeleteSubnetCidrReservation", SubnetCidrReservationId=kept)
    gateway = do("CreateInternetGateway", TagSpecifications=tagged("internet-gateway"))
    gateway = gateway["InternetGateway"]["InternetGatewayId"]
    do("AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
    only_out = do("CreateEgressOnlyInternetGateway", VpcId=vpc)
    only_out = only_out["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]
    table = do("CreateRouteTable", VpcId=vpc)["RouteTable"]["RouteTableId"]
    do("CreateRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    do("ReplaceRoute", RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    do("CreateRoute", RouteTableId=table, DestinationIpv6CidrBlock="::/0",
       EgressOnlyInternetGatewayId=only_out)
    do("DeleteRoute", RouteTableId=table, DestinationIpv6CidrBlock="::/0")
    association = do("AssociateRouteTable", RouteTableId=table, SubnetId=subnet)["AssociationId"]
    association = do("ReplaceRouteTableAssociation", AssociationId=association,
                     RouteTableId=table)["NewAssociationId"]
    acl = do("CreateNetworkAcl", VpcId=vpc)["NetworkAcl"]["NetworkAclId"]
    entry = {"NetworkAclId": acl, "RuleNumber": 10, "Protocol": "-1", "RuleAction": "allow",
             "Egress": False, "CidrBlock": "0.0.0.0/0"}
    do("CreateNetworkAclEntry", **entry)
    do("ReplaceNetworkAclEntry", **entry)
    acls = do("DescribeNetworkAcls", Filters=[{"Name": "vpc-id", "Values": [vpc]}])["NetworkAcls"]
    own = [a for it in acls for a in it["Associations"] if a["SubnetId"] == subnets[2]][0]
    do("ReplaceNetworkAclAssociation", AssociationId=own["NetworkAclAssociationId"],
       NetworkAclId=acl)
    groups = [do("CreateSecurityGroup", GroupName=f"contract{it}", Description="d", VpcId=vpc,
                 TagSpecifications=tagged("security-group"))["GroupId"] for it in "12"]
    security_rules(do, groups)
    do("GetSecurityGroupsForVpc", VpcId=vpc)
    prefixes(story, do)
    endpoint = do("CreateVpcEndpoint", VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3",
                  VpcEndpointType="Gateway", RouteTableIds=[table])
    endpoint = endpoint["VpcEndpoint"]["VpcEndpointId"]
    do("ModifyVpcEndpoint", VpcEndpointId=endpoint, RemoveRouteTableIds=[table])
    do("CreateVpcEndpoint", VpcId=vpc, ServiceName="com.amazonaws.us-east-1.ec2",
       VpcEndpointType="Interface", SubnetIds=[subnet], SecurityGroupIds=groups[:1])
    do("DescribeVpcEndpointServices")
    address = do("AllocateAddress", Domain="vpc")
    other = do("AllocateAddress", Domain="vpc", TagSpecifications=tagged("elastic-ip"))
    do("DescribeAddresses")
    nat = do("CreateNatGateway", SubnetId=subnet, AllocationId=address["AllocationId"],
             ClientToken="contract")["NatGateway"]["NatGatewayId"]
    again = do("CreateNatGateway", SubnetId=subnet, AllocationId=address["AllocationId"],
               ClientToken="contract")["NatGateway"]["NatGatewayId"]
    assert nat == again, "a client token makes one NAT gateway"
    do("CreateTags", Resources=[vpc, subnet], Tags=tags)
    do("DeleteTags", Resources=[subnet], Tags=tags)
    interfaces(story, do, subnets, groups)
    do("DisassociateSubnetCidrBlock",
       AssociationId=block["Ipv6CidrBlockAssociation"]["AssociationId"])
    story.of |= {"VpcId": vpc, "subnets": subnets, "groups": groups, "InternetGatewayIds": [gateway],
                 "NatGatewayIds": [nat], "VpcIds": [vpc], "SubnetIds": subnets,
                 "GroupIds": groups, "only_out": only_out, "table": table, "acl": acl,
                 "options": options, "association": association,
                 "addresses": [it["AllocationId"] for it in (address, other)]}


def security_rules(do, groups):
    group = {"GroupId": groups[0]}
    rule = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
             "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "d"}]}]
    for way in ("Ingress", "Egress"):
        do(f"AuthorizeSecurityGroup{way}", IpPermissions=rule, **group)
        do(f"UpdateSecurityGroupRuleDescriptions{way}", IpPermissions=rule, **group)
    rules = do("DescribeSecurityGroupRules",
               Filters=[{"Name": "group-id", "Values": groups[:1]}])["SecurityGroupRules"]
    into = [it["SecurityGroupRuleId"] for it in rules if not it["IsEgress"]][0]
    do("ModifySecurityGroupRules", SecurityGroupRules=[{
        "SecurityGroupRuleId": into, "SecurityGroupRule": {
            "IpProtocol": "tcp", "FromPort": 81, "ToPort": 81, "CidrIpv4": "10.0.0.0/8"}}], **group)
    do("RevokeSecurityGroupIngress", SecurityGroupRuleIds=[into], **group)
    do("RevokeSecurityGroupEgress", IpPermissions=rule, **group)
    do("AuthorizeSecurityGroupIngress", IpPermissions=[{
        "IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": groups[1]}]}], **group)


def prefixes(story, do):
    lists = [do("CreateManagedPrefixList", PrefixListName=f"contract{it}", MaxEntries=3,
                AddressFamily="IPv4", Entries=[{"Cidr": "10.1.0.0/16"}, {"Cidr": "10.2.0.0/16"}],
                )["PrefixList"]["PrefixListId"] for it in "12"]
    do("ModifyManagedPrefixList", PrefixListId=lists[0], CurrentVersion=1,
       AddEntries=[{"Cidr": "10.3.0.0/16"}])
    do("RestoreManagedPrefixListVersion", PrefixListId=lists[0], PreviousVersion=1,
       CurrentVersion=2)
    story.of |= {"PrefixListId": lists[0], "lists": lists}


def interfaces(story, do, subnets, groups):
    made = [do("CreateNetworkInterface", SubnetId=subnets[0], Groups=groups[:1], Description="d",
               )["NetworkInterface"]["NetworkInterfaceId"] for _ in range(3)]
    one = {"NetworkInterfaceId": made[0]}
    given = do("AssignPrivateIpAddresses", SecondaryPrivateIpAddressCount=2, **one)
    addresses = [it["PrivateIpAddress"] for it in given["AssignedPrivateIpAddresses"]]
    do("UnassignPrivateIpAddresses", PrivateIpAddresses=addresses[:1], **one)
    given = do("AssignIpv6Addresses", Ipv6AddressCount=1, **one)["AssignedIpv6Addresses"]
    do("UnassignIpv6Addresses", Ipv6Addresses=given, **one)
    do("ModifyNetworkInterfaceAttribute", SourceDestCheck={"Value": False}, **one)
    for attribute in ("description", "groupSet", "sourceDestCheck", "attachment"):
        do("DescribeNetworkInterfaceAttribute", Attribute=attribute, **one)
    rights = [do("CreateNetworkInterfacePermission", NetworkInterfaceId=it,
                 AwsAccountId="444455556666", Permission="INSTANCE-ATTACH",
                 )["InterfacePermission"]["NetworkInterfacePermissionId"] for it in made[:2]]
    do("DeleteNetworkInterfacePermission", NetworkInterfacePermissionId=rights[0])
    address = do("AllocateAddress", Domain="vpc")["AllocationId"]
    joined = do("AssociateAddress", AllocationId=address, NetworkInterfaceId=made[1])
    do("DescribeAddressesAttribute", AllocationIds=[address], Attribute="domain-name")
    do("DisassociateAddress", AssociationId=joined["AssociationId"])
    do("ReleaseAddress", AllocationId=address)
    story.of |= {"NetworkInterfaceIds": made[1:], "interfaces": made}
