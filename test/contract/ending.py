"""Everything that the story made goes again, by the operations for it."""

from given import ACCOUNT, until


def end(story):
    of = story.of
    balancing = lambda operation, **it: story.do("elasticloadbalancing", operation, **it)
    for name in of["LoadBalancerNames"]:
        balancing("DeleteLoadBalancer", LoadBalancerName=name)
    scaling = lambda operation, **it: story.do("autoscaling", operation, **it)
    for name in ("contract1", "contract2"):
        scaling("DeleteAutoScalingGroup", AutoScalingGroupName=name, ForceDelete=True)
    until(lambda: not any(it["AutoScalingGroupName"].startswith("contract") for it in scaling(
        "DescribeAutoScalingGroups")["AutoScalingGroups"]), 120)
    ec2(story, of)
    do = lambda operation, **it: story.do("ecr", operation, **it)
    do("BatchDeleteImage", repositoryName="contract/1", imageIds=[{"imageTag": "1"}])
    for number in "12":
        do("DeleteRepository", repositoryName=f"contract/{number}", force=True)
    story.do("ssm", "DeleteParameters", Names=["/contract/1", "/contract/2"])
    iam(story, of)


def ec2(story, of):
    do = lambda operation, **it: story.do("ec2", operation, **it)
    vpc = [{"Name": "vpc-id", "Values": [of["VpcId"]]}]
    found = do("DescribeInstances", Filters=vpc)["Reservations"]
    ids = [i["InstanceId"] for r in found for i in r["Instances"]]
    do("TerminateInstances", InstanceIds=ids)
    until(lambda: all(
        i["State"]["Name"] == "terminated"
        for r in do("DescribeInstances", InstanceIds=ids)["Reservations"] for i in r["Instances"]), 120)
    endpoints = do("DescribeVpcEndpoints", Filters=vpc)["VpcEndpoints"]
    do("DeleteVpcEndpoints", VpcEndpointIds=[it["VpcEndpointId"] for it in endpoints])
    for nat in of["NatGatewayIds"]:
        do("DeleteNatGateway", NatGatewayId=nat)
    until(lambda: all(it["State"] == "deleted" for it in do(
        "DescribeNatGateways", NatGatewayIds=of["NatGatewayIds"])["NatGateways"]), 60)
    for address in of["addresses"]:
        do("ReleaseAddress", AllocationId=address)

    do("DisassociateTrunkInterface", AssociationId=of["trunk"])

    def no_interfaces():
        for it in do("DescribeNetworkInterfaces", Filters=vpc)["NetworkInterfaces"]:
            if it["Status"] == "available" and not it.get("RequesterManaged"):
                do("DeleteNetworkInterface", NetworkInterfaceId=it["NetworkInterfaceId"])
        return not do("DescribeNetworkInterfaces", Filters=vpc)["NetworkInterfaces"]

    until(no_interfaces, 60)
    for number in "12":
        do("DeleteLaunchTemplate", LaunchTemplateName=f"contract{number}")
        do("DeleteKeyPair", KeyName=f"contract{number}")
    do("DisassociateRouteTable", AssociationId=of["association"])
    do("DeleteRouteTable", RouteTableId=of["table"])
    do("DeleteNetworkAclEntry", NetworkAclId=of["acl"], RuleNumber=10, Egress=False)
    for subnet in of["subnets"]:
        do("DeleteSubnet", SubnetId=subnet)
    do("DeleteNetworkAcl", NetworkAclId=of["acl"])
    rules = do("DescribeSecurityGroups", GroupIds=of["groups"][:1])["SecurityGroups"][0]
    do("RevokeSecurityGroupIngress", GroupId=of["groups"][0],
       IpPermissions=rules["IpPermissions"])
    groups = do("DescribeSecurityGroups", Filters=vpc)["SecurityGroups"]
    for group in groups:
        if group["GroupName"] != "default":
            do("DeleteSecurityGroup", GroupId=group["GroupId"])
    do("DeleteEgressOnlyInternetGateway", EgressOnlyInternetGatewayId=of["only_out"])
    for gateway in of["InternetGatewayIds"]:
        do("DetachInternetGateway", InternetGatewayId=gateway, VpcId=of["VpcId"])
        do("DeleteInternetGateway", InternetGatewayId=gateway)
    for it in of["lists"]:
        do("DeleteManagedPrefixList", PrefixListId=it)
    do("DeleteVpc", VpcId=of["VpcId"])
    do("DeleteDhcpOptions", DhcpOptionsId=of["options"])


def iam(story, of):
    do = lambda operation, **it: story.do("iam", operation, **it)
    provider = {"OpenIDConnectProviderArn": of["OpenIDConnectProviderArn"]}
    do("UntagOpenIDConnectProvider", TagKeys=["contract2"], **provider)
    do("DeleteOpenIDConnectProvider", **provider)
    for number in "12":
        name = f"contract{number}"
        do("UntagInstanceProfile", InstanceProfileName=name, TagKeys=["contract2"])
        do("RemoveRoleFromInstanceProfile", InstanceProfileName=name, RoleName="contract1")
        do("DeleteInstanceProfile", InstanceProfileName=name)
        for user in ("contract1", "contract2"):
            joined = do("ListGroupsForUser", UserName=user)["Groups"]
            if any(it["GroupName"] == name for it in joined):
                do("RemoveUserFromGroup", UserName=user, GroupName=name)
    for kind in ("User", "Role", "Group"):
        who = {f"{kind}Name": "contract1"}
        for number in "12":
            do(f"Delete{kind}Policy", PolicyName=f"p{number}", **who)
        for arn in (of["PolicyArn"], story.boundary):
            do(f"Detach{kind}Policy", PolicyArn=arn, **who)
        if kind != "Group":
            do(f"Delete{kind}PermissionsBoundary", **who)
            do(f"Untag{kind}", TagKeys=["contract2"], **who)
    for key in do("ListAccessKeys", UserName="contract1")["AccessKeyMetadata"]:
        do("DeleteAccessKey", UserName="contract1", AccessKeyId=key["AccessKeyId"])
    nobody = {"UserName": "contract-nobody"}
    for key in do("ListAccessKeys", **nobody)["AccessKeyMetadata"]:
        do("DeleteAccessKey", AccessKeyId=key["AccessKeyId"], **nobody)
    do("DeleteUser", **nobody)
    for number in "12":
        do("DeleteUser", UserName=f"contract{number}")
        do("DeleteRole", RoleName=f"contract{number}")
        do("DeleteGroup", GroupName=f"contract{number}")
    do("UntagPolicy", PolicyArn=of["PolicyArn"], TagKeys=["contract2"])
    do("DeletePolicyVersion", PolicyArn=of["PolicyArn"], VersionId="v1")
    for arn in (of["PolicyArn"], f"arn:aws:iam::{ACCOUNT}:policy/contract-b"):
        do("DeletePolicy", PolicyArn=arn)
