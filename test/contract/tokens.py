"""Client tokens: a call that is made again makes nothing, and another call with its token is refused.

RunInstances, CreateNatGateway and EKS are told in their own chapters.
"""

from given import call, client, refused


def tokens(story):
    ec2 = client("ec2", story.checker)
    vpc, subnet = {"VpcId": story.of["VpcId"]}, {"SubnetId": story.of["subnets"][0]}
    template = {"LaunchTemplateName": "contract-token"}
    data = {"LaunchTemplateData": {"EbsOptimized": True}}
    names = {"PrefixListName": "contract-token", "MaxEntries": 2, "AddressFamily": "IPv4"}
    made = []
    for operation, parts, parameters, other in (
        ("CreateEgressOnlyInternetGateway",
         ("EgressOnlyInternetGateway", "EgressOnlyInternetGatewayId"), vpc,
         tagged("egress-only-internet-gateway")),
        ("CreateLaunchTemplate", ("LaunchTemplate", "LaunchTemplateId"), template | data,
         {"VersionDescription": "other"}),
        ("CreateLaunchTemplateVersion", ("LaunchTemplateVersion", "VersionNumber"),
         template | data, {"VersionDescription": "other"}),
        ("CreateManagedPrefixList", ("PrefixList", "PrefixListId"), names, {"MaxEntries": 3}),
        ("CreateNetworkAcl", ("NetworkAcl", "NetworkAclId"), vpc, tagged("network-acl")),
        ("CreateNetworkInterface", ("NetworkInterface", "NetworkInterfaceId"), subnet,
         {"Description": "other"}),
        ("CreateRouteTable", ("RouteTable", "RouteTableId"), vpc, tagged("route-table")),
        ("CreateVpcEndpoint", ("VpcEndpoint", "VpcEndpointId"),
         vpc | {"ServiceName": "com.amazonaws.us-east-1.s3"}, {"PrivateDnsEnabled": False}),
    ):
        token = {"ClientToken": f"contract-{operation}"}
        first, second = (call(ec2, operation, **parameters, **token)[parts[0]][parts[1]]
                         for _ in "12")
        assert first == second, f"{operation} made two by one token: {first}, {second}"
        code = refused(ec2, operation, **(parameters | other), **token)
        assert code == "IdempotentParameterMismatch", f"{operation}: {code}"
        made.append(first)
    gateway, _, _, prefixes, acl, interface, table, endpoint = made
    call(ec2, "DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=gateway)
    call(ec2, "DeleteLaunchTemplate", **template)
    call(ec2, "DeleteManagedPrefixList", PrefixListId=prefixes)
    call(ec2, "DeleteNetworkAcl", NetworkAclId=acl)
    call(ec2, "DeleteNetworkInterface", NetworkInterfaceId=interface)
    call(ec2, "DeleteRouteTable", RouteTableId=table)
    call(ec2, "DeleteVpcEndpoints", VpcEndpointIds=[endpoint])


def tagged(kind):
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": "a", "Value": "b"}]}]}
