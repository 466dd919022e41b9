"""EKS."""

from given import ACCOUNT, until

CLUSTER = "contract"


def clusters(story):
    do = lambda operation, **it: story.do("eks", operation, **it)
    subnets, role = story.of["subnets"][:2], story.role
    do("DescribeClusterVersions")
    do("ListAccessPolicies")
    do("DescribeAddonVersions")
    version = do("DescribeAddonVersions", addonName="vpc-cni")
    version = version["addons"][0]["addonVersions"][0]["addonVersion"]
    do("DescribeAddonConfiguration", addonName="vpc-cni", addonVersion=version)
    wanted = {"roleArn": role, "resourcesVpcConfig": {"subnetIds": subnets},
              "clientRequestToken": "contract", "tags": {"a": "b"},
              "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"}}
    cluster = do("CreateCluster", name=CLUSTER, **wanted)["cluster"]
    again = do("CreateCluster", name=CLUSTER, **wanted)["cluster"]
    assert cluster["arn"] == again["arn"], "a client token makes one cluster"
    do("CreateCluster", name="contract2", **wanted | {"clientRequestToken": "contract2"})
    name = {"clusterName": CLUSTER}
    until(lambda: do("DescribeCluster", name=CLUSTER)["cluster"]["status"] == "ACTIVE", 120)
    until(lambda: do("DescribeCluster", name="contract2")["cluster"]["status"] == "ACTIVE", 120)
    access(do, name)
    addons(do, name, role, version)
    for number in "12":
        do("CreateNodegroup", nodegroupName=f"g{number}", subnets=subnets,
           nodeRole=f"arn:aws:iam::{ACCOUNT}:role/contract2",
           scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": 0},
           instanceTypes=["t3.small"], labels={"a": "b"},
           taints=[{"key": "k", "value": "v", "effect": "NO_SCHEDULE"}], **name)
    group = {"nodegroupName": "g1", **name}
    until(lambda: do("DescribeNodegroup", **group)["nodegroup"]["status"] == "ACTIVE", 120)
    update = do("UpdateNodegroupConfig", scalingConfig={
        "minSize": 0, "maxSize": 2, "desiredSize": 0}, **group)["update"]["id"]
    until(lambda: do("DescribeUpdate", name=CLUSTER, updateId=update, nodegroupName="g1")[
        "update"]["status"] == "Successful", 60)
    update = do("UpdateNodegroupVersion", force=True, **group)["update"]["id"]
    do("UpdateClusterConfig", name=CLUSTER, resourcesVpcConfig={"endpointPrivateAccess": True})
    for number in "12":
        pods = do("CreatePodIdentityAssociation", namespace="default", roleArn=role,
                  serviceAccount=f"s{number}", clientRequestToken=f"t{number}", **name)
    pods = {"associationId": pods["association"]["associationId"], **name}
    do("DescribePodIdentityAssociation", **pods)
    do("UpdatePodIdentityAssociation", disableSessionTags=True, **pods)
    do("DeletePodIdentityAssociation", **pods)
    do("CreatePodIdentityAssociation", namespace="default", roleArn=role, serviceAccount="s2",
       **name)
    profiles(story, do, name)
    which = {"resourceArn": cluster["arn"]}
    do("TagResource", tags={"c": "d"}, **which)
    do("ListTagsForResource", **which)
    do("UntagResource", tagKeys=["c"], **which)
    for what in ("Nodegroups", "FargateProfiles", "IdentityProviderConfigs", "Addons"):
        do(f"List{what}", **name)
    do("ListUpdates", name=CLUSTER)
    story.of |= name | {"name": CLUSTER, "nodegroupName": "g1", "addonName": "vpc-cni",
                        "principalArn": f"arn:aws:iam::{ACCOUNT}:user/contract1"}


def access(do, name):
    who = {"principalArn": f"arn:aws:iam::{ACCOUNT}:user/contract1", **name}
    do("CreateAccessEntry", kubernetesGroups=["a"], tags={"a": "b"}, **who)
    do("CreateAccessEntry", clusterName=CLUSTER,
       principalArn=f"arn:aws:iam::{ACCOUNT}:user/contract2")
    do("DescribeAccessEntry", **who)
    do("UpdateAccessEntry", kubernetesGroups=["b"], **who)
    for policy in ("AmazonEKSViewPolicy", "AmazonEKSEditPolicy", "AmazonEKSAdminPolicy"):
        policy = f"arn:aws:eks::aws:cluster-access-policy/{policy}"
        do("AssociateAccessPolicy", policyArn=policy, accessScope={"type": "namespace",
                                                                   "namespaces": ["a"]}, **who)
    do("DisassociateAccessPolicy", policyArn=policy, **who)


def profiles(story, do, name):
    """The second subnet is a private one, which Fargate wants."""
    for number in "12":
        profile = {"fargateProfileName": f"f{number}", **name}
        do("CreateFargateProfile", podExecutionRoleArn=story.role, tags={"a": "b"},
           subnets=story.of["subnets"][1:2], clientRequestToken=f"f{number}",
           selectors=[{"namespace": f"of-contract-{number}", "labels": {"a": "b"}}], **profile)
        until(lambda: do("DescribeFargateProfile", **profile)[
            "fargateProfile"]["status"] == "ACTIVE", 120)


def addons(do, name, role, version):
    which = {"addonName": "eks-pod-identity-agent", **name}
    do("DescribeAddon", addonName="vpc-cni", **name)
    do("CreateAddon", tags={"a": "b"}, **which)
    update = do("UpdateAddon", addonName="vpc-cni", addonVersion=version,
                serviceAccountRoleArn=role, **name)["update"]["id"]
    do("DescribeUpdate", name=CLUSTER, updateId=update, addonName="vpc-cni")
    do("DescribeAddon", **which)


def end(story):
    do = lambda operation, **it: story.do("eks", operation, **it)
    name = {"clusterName": CLUSTER}
    for group in "12":
        do("DeleteNodegroup", nodegroupName=f"g{group}", **name)
    do("DeleteAddon", addonName="eks-pod-identity-agent", **name)
    do("DeleteAccessEntry", principalArn=story.of["principalArn"], **name)
    for number in "12":
        do("DeleteFargateProfile", fargateProfileName=f"f{number}", **name)
        until(lambda: f"f{number}" not in do("ListFargateProfiles", **name)[
            "fargateProfileNames"], 120)
    until(lambda: not do("ListNodegroups", **name)["nodegroups"], 120)
    for cluster in (CLUSTER, "contract2"):
        do("DeleteCluster", name=cluster)
    until(lambda: not any(it.startswith("contract") for it in do("ListClusters")["clusters"]), 120)
