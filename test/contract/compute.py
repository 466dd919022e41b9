"""Instances, images, templates and what belongs to them."""

from given import until


def compute(story):
    do = lambda operation, **it: story.do("ec2", operation, **it)
    subnets, groups = story.of["subnets"], story.of["groups"]
    image = do("DescribeImages", Owners=["amazon"], Filters=[
        {"Name": "architecture", "Values": ["x86_64"]}])["Images"][0]
    # Whoever runs this has imported one: that is no call of AWS.
    snapshot = do("DescribeSnapshots", OwnerIds=["self"], Filters=[
        {"Name": "status", "Values": ["completed"]}])["Snapshots"][0]["SnapshotId"]
    own = do("RegisterImage", Name="contract", Architecture="x86_64", RootDeviceName="/dev/xvda",
             BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
             )["ImageId"]
    do("DescribeImageAttribute", ImageId=own, Attribute="description")
    do("DeregisterImage", ImageId=own)
    do("DeleteSnapshot", SnapshotId=snapshot)
    for number in "12":
        do("CreateKeyPair", KeyName=f"contract{number}")
    do("ImportKeyPair", KeyName="contract3", PublicKeyMaterial=KEY)
    do("DescribeKeyPairs", IncludePublicKey=True)
    do("DeleteKeyPair", KeyName="contract3")
    do("DescribeInstanceTypes", InstanceTypes=["m5.large"])
    do("GetInstanceTypesFromInstanceRequirements", ArchitectureTypes=["x86_64"],
       VirtualizationTypes=["hvm"], InstanceRequirements={
           "VCpuCount": {"Min": 2, "Max": 2}, "MemoryMiB": {"Min": 8192, "Max": 8192},
           "ExcludedInstanceTypes": ["m5*"]})
    do("DescribeInstanceTypeOfferings", LocationType="availability-zone")
    do("DescribeSpotPriceHistory", InstanceTypes=["m5.large"], MaxResults=5)
    templates(story, do, image["ImageId"])
    launch = {"ImageId": image["ImageId"], "InstanceType": "t3.small", "MinCount": 1,
              "MaxCount": 1, "SubnetId": subnets[0], "SecurityGroupIds": groups[:1],
              "KeyName": "contract1", "ClientToken": "contract",
              "UserData": "#!/bin/true\n", "TagSpecifications": [
                  {"ResourceType": kind, "Tags": [{"Key": "contract", "Value": "yes"}]}
                  for kind in ("instance", "volume", "network-interface")]}
    first = do("RunInstances", **launch)["Instances"][0]["InstanceId"]
    again = do("RunInstances", **launch)["Instances"][0]["InstanceId"]
    assert first == again, "a client token launches once"
    del launch["ClientToken"]
    rest = [do("RunInstances", **launch)["Instances"][0]["InstanceId"] for _ in "23456"]
    ids = [first, *rest]

    def are(state):
        found = do("DescribeInstances", InstanceIds=ids)["Reservations"]
        return all(i["State"]["Name"] == state for r in found for i in r["Instances"])

    until(lambda: are("running"), 120)
    one = {"InstanceId": first}
    do("DescribeInstanceStatus", InstanceIds=ids, IncludeAllInstances=True)
    for attribute in ("instanceType", "userData", "disableApiTermination", "groupSet",
                      "sourceDestCheck", "blockDeviceMapping", "ebsOptimized",
                      "instanceInitiatedShutdownBehavior", "rootDeviceName"):
        do("DescribeInstanceAttribute", Attribute=attribute, **one)
    do("ModifyInstanceAttribute", DisableApiTermination={"Value": False}, **one)
    do("ModifyInstanceMetadataOptions", HttpTokens="required", **one)
    do("ModifyInstanceMaintenanceOptions", AutoRecovery="default", **one)
    do("ModifyPrivateDnsNameOptions", PrivateDnsHostnameType="ip-name", **one)
    do("ModifyInstanceCreditSpecification", InstanceCreditSpecifications=[
        {"InstanceId": first, "CpuCredits": "standard"}])
    do("DescribeInstanceCreditSpecifications", InstanceIds=ids)
    do("MonitorInstances", InstanceIds=[first])
    do("UnmonitorInstances", InstanceIds=[first])
    do("GetConsoleOutput", **one)
    do("GetPasswordData", **one)
    do("GetLaunchTemplateData", **one)
    do("RebootInstances", InstanceIds=[first])
    profile(do, ids)
    attached = do("AttachNetworkInterface", NetworkInterfaceId=story.of["interfaces"][0],
                  DeviceIndex=1, **one)
    do("DetachNetworkInterface", AttachmentId=attached["AttachmentId"], Force=True)
    trunk(story, do)
    reservation(do, image["ImageId"], subnets[0])
    placement(do)
    do("StopInstances", InstanceIds=ids[1:2])
    until(lambda: do("DescribeInstances", InstanceIds=ids[1:2])["Reservations"][0]["Instances"][0][
        "State"]["Name"] == "stopped", 60)
    do("StartInstances", InstanceIds=ids[1:2])
    until(lambda: are("running"), 120)
    fleet = do("CreateFleet", Type="instant", LaunchTemplateConfigs=[{
        "LaunchTemplateSpecification": {"LaunchTemplateName": "contract1", "Version": "1"},
        "Overrides": [{"SubnetId": subnets[0], "InstanceType": "t3.small"}]}],
               TargetCapacitySpecification={"TotalTargetCapacity": 1,
                                            "DefaultTargetCapacityType": "on-demand"})
    assert fleet["Instances"] and not fleet["Errors"], fleet
    do("TerminateInstances", InstanceIds=fleet["Instances"][0]["InstanceIds"])
    do("TerminateInstances", InstanceIds=ids[5:])
    volumes = do("DescribeVolumes")["Volumes"]
    story.of |= {"InstanceIds": ids[:5], "ended": ids[5:], "KeyNames": ["contract1"],
                 "ImageIds": [image["ImageId"]], "image": image["ImageId"],
                 "VolumeIds": [it["VolumeId"] for it in volumes if it["Attachments"]
                               and it["Attachments"][0]["InstanceId"] in ids[:5]]}


KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO3FCJFyPbYbBdQGyiPFl+yBXg1gY/7qJ3JAAdKUNB1T c"


def templates(story, do, image):
    for number in "12":
        template = do("CreateLaunchTemplate", LaunchTemplateName=f"contract{number}",
                      LaunchTemplateData={"ImageId": image, "InstanceType": "t3.small"})
    which = {"LaunchTemplateName": "contract1"}
    for _ in "12":
        do("CreateLaunchTemplateVersion", SourceVersion="1",
           LaunchTemplateData={"EbsOptimized": True}, **which)
    do("ModifyLaunchTemplate", DefaultVersion="2", **which)
    do("DeleteLaunchTemplateVersions", Versions=["3"], **which)
    do("DescribeLaunchTemplateVersions", Versions=["$Latest"], **which)
    story.of |= which | {"template": template["LaunchTemplate"]["LaunchTemplateId"]}


def profile(do, ids):
    named = {"IamInstanceProfile": {"Name": "contract1"}}
    made = [do("AssociateIamInstanceProfile", InstanceId=it, **named) for it in ids[:2]]
    old = made[0]["IamInstanceProfileAssociation"]["AssociationId"]
    do("ReplaceIamInstanceProfileAssociation", AssociationId=old,
       IamInstanceProfile={"Name": "contract2"})
    last = made[1]["IamInstanceProfileAssociation"]["AssociationId"]
    do("DisassociateIamInstanceProfile", AssociationId=last)
    do("AssociateIamInstanceProfile", InstanceId=ids[1], **named)


def reservation(do, image, subnet):
    """Room for a type that nothing else here is of, so that nothing else is taken in."""
    zone = do("DescribeSubnets", SubnetIds=[subnet])["Subnets"][0]["AvailabilityZone"]
    wanted = {"InstanceType": "t3.micro", "InstancePlatform": "Linux/UNIX", "AvailabilityZone": zone,
              "InstanceCount": 1, "InstanceMatchCriteria": "targeted", "ClientToken": "contract",
              "TagSpecifications": [{"ResourceType": "capacity-reservation",
                                     "Tags": [{"Key": "contract", "Value": "yes"}]}]}
    made = do("CreateCapacityReservation", **wanted)["CapacityReservation"]
    again = do("CreateCapacityReservation", **wanted)["CapacityReservation"]
    which = {"CapacityReservationId": made["CapacityReservationId"]}
    assert again["CapacityReservationId"] == made["CapacityReservationId"]
    do("ModifyCapacityReservation", EndDateType="limited", EndDate="2099-01-01T00:00:00Z", **which)
    do("DescribeCapacityReservations", CapacityReservationIds=[made["CapacityReservationId"]])
    do("CancelCapacityReservation", **which)


def placement(do):
    made = do("CreatePlacementGroup", GroupName="contract", Strategy="partition", PartitionCount=3,
              TagSpecifications=[{"ResourceType": "placement-group",
                                  "Tags": [{"Key": "contract", "Value": "yes"}]}])["PlacementGroup"]
    do("DescribePlacementGroups", GroupIds=[made["GroupId"]])
    do("DescribePlacementGroups", GroupNames=["contract"])
    do("DeletePlacementGroup", GroupName="contract")
    do("CreatePlacementGroup", GroupName="contract", Strategy="spread")
    do("DeletePlacementGroup", GroupName="contract")


def trunk(story, do):
    subnet, groups = story.of["subnets"][0], story.of["groups"][:1]
    trunk_of = do("CreateNetworkInterface", SubnetId=subnet, Groups=groups,
                  InterfaceType="trunk")["NetworkInterface"]["NetworkInterfaceId"]
    joined = []
    for number in (1, 2):
        branch = do("CreateNetworkInterface", SubnetId=subnet, Groups=groups)
        branch = branch["NetworkInterface"]["NetworkInterfaceId"]
        joined.append(do("AssociateTrunkInterface", TrunkInterfaceId=trunk_of,
                         BranchInterfaceId=branch, VlanId=number, ClientToken=f"contract{number}")[
                             "InterfaceAssociation"]["AssociationId"])
    do("DisassociateTrunkInterface", AssociationId=joined[0])
    story.of["trunk"] = joined[1]
