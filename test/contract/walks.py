"""What botocore's models declare, walked for every operation that the region serves: paginators with
small pages, waiters, dry runs, and the refusal of what is not there."""

import datetime
import json

import botocore.exceptions
import botocore.waiter
from botocore import xform_name

from given import call, client, least, refused

# Where EC2 takes no smaller page.
SMALLEST = {"ec2": 5}
SOON = {"Delay": 1, "MaxAttempts": 60}


def smallest(service, model, key):
    """Items of a page: the service's least, and what the model allows."""
    allowed = model.input_shape.members[key].metadata.get("min", 1)
    return max(SMALLEST.get(service, 1), int(allowed))


class Walks:
    def __init__(self, operations, story, checker):
        self.operations = operations
        self.story = story
        self.checker = checker
        self.wrong = []
        self.unpaged = []
        self.counts = {}

    def models(self):
        for service, names in self.operations.items():
            made = client(service, self.checker)
            for name in names:
                yield service, made, made.meta.service_model.operation_model(name)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def known(self, shape, also=()):
        """Required parameters, as far as the story has them; None where it has not all."""
        needed = [*shape.required_members, *also] if shape else []
        if any(it not in self.story.of for it in needed):
            return None
        return {it: self.story.of[it] for it in needed}

    def refusals(self):
        """Each operation with the least parameters: it fails, as nothing of that name is there, or
        it does no harm."""
        for _, made, model in self.models():
            if model.name in HARMFUL:
                continue
            try:
                call(made, model.name, **least(model.input_shape) if model.input_shape else {})
            except botocore.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status >= 500:
                    self.wrong.append(f"{model.name} answers {status}: {error}")
            except botocore.exceptions.ParamValidationError as error:
                self.wrong.append(f"{model.name} was not asked: {error}")

    def dry_runs(self, powerless):
        """With the rights for it a dry run is told that it would have worked, without it is denied."""
        nobody = client("ec2", self.checker, **powerless)
        for service, made, model in self.models():
            shape = model.input_shape
            if service != "ec2" or not shape or "DryRun" not in shape.members:
                continue
            self.count("dry runs")
            asked = {**least(shape), "DryRun": True}
            for who, expected in ((made, "DryRunOperation"), (nobody, "UnauthorizedOperation")):
                code = refused(who, model.name, **asked)
                if code != expected:
                    self.wrong.append(f"a dry run of {model.name} says {code}, not {expected}")

    def paginators(self):
        for service, made, model in self.models():
            method = xform_name(model.name)
            if not made.can_paginate(method):
                continue
            pages = made.get_paginator(method)
            parameters = self.known(model.input_shape, ALSO.get(model.name, ()))
            if parameters is None:
                self.unpaged.append(f"{service}:{model.name}")
                continue
            self.count("paginators")
            keys = [it.expression for it in pages.result_keys]
            size = smallest(service, model, pages._limit_key) if pages._limit_key else None
            parameters |= FEWER.get(f"{service}:{model.name}", {})
            try:
                once = [list(pages.paginate(**parameters))]
                small = list(pages.paginate(**parameters, PaginationConfig={"PageSize": size}))
            except botocore.exceptions.ClientError as error:
                self.wrong.append(f"pages of {model.name}: {error}")
                continue
            for key in keys:
                whole = items(once[0], key)
                found = items(small, key)
                if sorted(whole) != sorted(found):
                    self.wrong.append(
                        f"{model.name} has {len(whole)} {key}, and {len(found)} by pages of {size}")
                longest = max((len(items([it], key)) for it in small), default=0)
                if size and len(keys) == 1 and longest > size:
                    self.wrong.append(f"{model.name} has a page of {longest} {key}, not {size}")

    def waiters(self):
        for service in self.operations:
            made = client(service, self.checker)
            for name in made.waiter_names:
                model = made._get_waiter_config()
                camel = next(it for it in model["waiters"] if xform_name(it) == name)
                if model["waiters"][camel]["operation"] not in self.operations[service]:
                    continue
                parameters = WAITS.get(camel)
                if parameters is None:
                    continue
                self.count("waiters")
                try:
                    asked = {key: it(self.story.of) for key, it in parameters.items()}
                    made.get_waiter(name).wait(**asked, WaiterConfig=SOON)
                except (botocore.exceptions.WaiterError, KeyError) as error:
                    self.wrong.append(f"the waiter {camel}: {error}")


def items(pages, key):
    found = []
    for page in pages:
        for part in key.split("."):
            page = page.get(part, []) if isinstance(page, dict) else page
        found += [json.dumps(it, sort_keys=True, default=str) for it in page or []]
    return found


# What its least parameters would change for others: they are not asked for nothing.
HARMFUL = {
    "CreateVpc", "CreateInternetGateway", "CreateDhcpOptions", "AllocateAddress", "CreateKeyPair",
    "CreateUser", "CreateGroup", "CreateRole", "CreateInstanceProfile", "CreatePolicy",
    "CreateAccessKey", "CreateManagedPrefixList", "CreateSecurityGroup", "CreateLaunchTemplate",
    "PutParameter", "CreateServiceLinkedRole", "CreateOpenIDConnectProvider", "CreateRepository",
}

# Parameters that a model does not require and the service does.
ALSO = {
    "DescribeLaunchTemplateVersions": ["LaunchTemplateName"],
    "ListAccessKeys": ["UserName"],
}

# What keeps a walk short.
FEWER = {
    "ec2:DescribeInstanceTypes": {"Filters": [{"Name": "instance-type", "Values": ["m5.*"]}]},
    "ec2:DescribeInstanceTypeOfferings": {
        "Filters": [{"Name": "instance-type", "Values": ["m5.*"]}]},
    "ec2:DescribeSpotPriceHistory": {
        "InstanceTypes": ["m5.large"],
        "StartTime": datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)},
    "iam:ListPolicies": {"Scope": "Local"},
}


def of(key):
    return lambda story: story[key]


def const(value):
    return lambda _: value


# Waiters whose end the story has brought about. The others: PasswordDataAvailable waits for Windows,
# CertificateAuthorityUpdateComplete for an update that EKS makes by itself.
WAITS = {
    "ImageAvailable": {"ImageIds": of("ImageIds")},
    "ImageExists": {"ImageIds": of("ImageIds")},
    "InstanceExists": {"InstanceIds": of("InstanceIds")},
    "InstanceRunning": {"InstanceIds": of("InstanceIds")},
    "InstanceStatusOk": {"InstanceIds": of("InstanceIds")},
    "SystemStatusOk": {"InstanceIds": of("InstanceIds")},
    "InstanceTerminated": {"InstanceIds": of("ended")},
    "InternetGatewayExists": {"InternetGatewayIds": of("InternetGatewayIds")},
    "KeyPairExists": {"KeyNames": of("KeyNames")},
    "NatGatewayAvailable": {"NatGatewayIds": of("NatGatewayIds")},
    "NetworkInterfaceAvailable": {"NetworkInterfaceIds": of("NetworkInterfaceIds")},
    "SecurityGroupExists": {"GroupIds": of("GroupIds")},
    "SubnetAvailable": {"SubnetIds": of("SubnetIds")},
    "VolumeInUse": {"VolumeIds": of("VolumeIds")},
    "VpcAvailable": {"VpcIds": of("VpcIds")},
    "VpcExists": {"VpcIds": of("VpcIds")},
    "AddonDeleted": {"clusterName": of("clusterName"), "addonName": const("none")},
    "ClusterActive": {"name": of("name")},
    "ClusterDeleted": {"name": const("none")},
    "NodegroupActive": {"clusterName": of("clusterName"), "nodegroupName": of("nodegroupName")},
    "NodegroupDeleted": {"clusterName": of("clusterName"), "nodegroupName": const("none")},
    "InstanceProfileExists": {"InstanceProfileName": of("InstanceProfileName")},
    "PolicyExists": {"PolicyArn": of("PolicyArn")},
    "RoleExists": {"RoleName": of("RoleName")},
    "UserExists": {"UserName": of("UserName")},
}
