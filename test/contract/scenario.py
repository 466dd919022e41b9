"""A story in which every operation that can succeed does so at least once.

What is made here is what the walks over paginators, waiters and dry runs find. Everything has a name
of its own (`contract-…`), so that it can be told against a region that others use as well.
"""

import base64
import hashlib
import json
import traceback

from clusters import clusters
from clusters import end as end_of_clusters
from compute import compute
from ending import end as end_of_the_rest
from fleets import balancers, groups
from given import ACCOUNT, call, client
from messages import end as end_of_messages
from messages import messages
from network import network
from pods import pods
from tokens import tokens

TRUST = json.dumps({"Version": "2012-10-17", "Statement": [{
    "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"],
    "Principal": {"AWS": ACCOUNT, "Service": [
        "ec2.amazonaws.com", "eks.amazonaws.com", "pods.eks.amazonaws.com",
        "eks-fargate-pods.amazonaws.com"]}}]})
ALLOW = json.dumps({"Version": "2012-10-17", "Statement": [{
    "Effect": "Allow", "Action": "*", "Resource": "*"}]})
TAGS = [{"Key": "contract", "Value": "yes"}, {"Key": "contract2", "Value": ""}]


class Story:
    """`self.of` holds the names of what was made, as parameters call them."""

    def __init__(self, checker):
        self.clients = {}
        self.checker = checker
        self.of = {}

    def do(self, service, operation, **parameters):
        if service not in self.clients:
            self.clients[service] = client(service, self.checker)
        return call(self.clients[service], operation, **parameters)

    def tell(self):
        """What went wrong, chapter by chapter."""
        for chapter in (self.iam, self.sts, self.ssm, self.ecr, lambda: network(self),
                        lambda: compute(self), lambda: groups(self), lambda: balancers(self),
                        lambda: clusters(self), lambda: pods(self), lambda: tokens(self),
                        lambda: messages(self)):
            try:
                chapter()
            except Exception:  # pylint: disable=broad-except
                yield traceback.format_exc(limit=-5)

    def iam(self):
        do = lambda operation, **it: self.do("iam", operation, **it)
        boundary = do("CreatePolicy", PolicyName="contract-b", PolicyDocument=ALLOW)["Policy"]["Arn"]
        policy = do("CreatePolicy", PolicyName="contract", PolicyDocument=ALLOW, Tags=TAGS,
                    Description="d")["Policy"]["Arn"]
        do("CreatePolicyVersion", PolicyArn=policy, PolicyDocument=ALLOW, SetAsDefault=False)
        do("SetDefaultPolicyVersion", PolicyArn=policy, VersionId="v2")
        do("GetPolicy", PolicyArn=policy)
        do("GetPolicyVersion", PolicyArn=policy, VersionId="v1")
        do("TagPolicy", PolicyArn=policy, Tags=TAGS)
        for number in "12":
            user, role, group = (f"contract{number}",) * 3
            do("CreateUser", UserName=user, Tags=TAGS)
            do("CreateRole", RoleName=role, AssumeRolePolicyDocument=TRUST, Tags=TAGS,
               Description="d", MaxSessionDuration=7200)
            do("CreateGroup", GroupName=group)
            do("AddUserToGroup", UserName=user, GroupName=group)
            do("AddUserToGroup", UserName="contract1", GroupName=group)
            do("AddUserToGroup", UserName=user, GroupName="contract1")
            do("CreateInstanceProfile", InstanceProfileName=role, Tags=TAGS)
            do("AddRoleToInstanceProfile", InstanceProfileName=role, RoleName="contract1")
        for kind, name in (("User", "contract1"), ("Role", "contract1"), ("Group", "contract1")):
            who = {f"{kind}Name": name}
            for number in "12":
                do(f"Put{kind}Policy", PolicyName=f"p{number}", PolicyDocument=ALLOW, **who)
            for arn in (policy, boundary):
                do(f"Attach{kind}Policy", PolicyArn=arn, **who)
            do(f"Get{kind}Policy", PolicyName="p1", **who)
            do(f"Get{kind}", **who)
            if kind != "Group":
                do(f"Put{kind}PermissionsBoundary", PermissionsBoundary=boundary, **who)
                do(f"Get{kind}", **who)
                do(f"List{kind}Tags", **who)
                do(f"Tag{kind}", Tags=TAGS, **who)
        do("GetInstanceProfile", InstanceProfileName="contract1")
        do("TagInstanceProfile", InstanceProfileName="contract1", Tags=TAGS)
        do("UpdateRole", RoleName="contract1", Description="e", MaxSessionDuration=3600)
        do("UpdateRoleDescription", RoleName="contract1", Description="f")
        do("UpdateAssumeRolePolicy", RoleName="contract1", PolicyDocument=TRUST)
        keys = [do("CreateAccessKey", UserName="contract1")["AccessKey"] for _ in "12"]
        do("UpdateAccessKey", UserName="contract1", AccessKeyId=keys[0]["AccessKeyId"],
           Status="Inactive")
        self.key = keys[1]
        provider = do("CreateOpenIDConnectProvider", Url="https://issuer.contract.test",
                      ClientIDList=["a"], ThumbprintList=["0" * 40],
                      Tags=TAGS)["OpenIDConnectProviderArn"]
        which = {"OpenIDConnectProviderArn": provider}
        do("AddClientIDToOpenIDConnectProvider", ClientID="b", **which)
        do("UpdateOpenIDConnectProviderThumbprint", ThumbprintList=["1" * 40], **which)
        do("TagOpenIDConnectProvider", Tags=TAGS, **which)
        do("GetOpenIDConnectProvider", **which)
        do("ListOpenIDConnectProviders")
        do("RemoveClientIDFromOpenIDConnectProvider", ClientID="b", **which)
        linked = do("CreateServiceLinkedRole", AWSServiceName="spot.amazonaws.com")["Role"]
        task = do("DeleteServiceLinkedRole", RoleName=linked["RoleName"])["DeletionTaskId"]
        do("GetServiceLinkedRoleDeletionStatus", DeletionTaskId=task)
        role = f"arn:aws:iam::{ACCOUNT}:role/contract1"
        self.of |= {
            "UserName": "contract1", "RoleName": "contract1", "GroupName": "contract1",
            "PolicyArn": policy, "InstanceProfileName": "contract1",
            "PolicySourceArn": role, "ActionNames": ["ec2:RunInstances", "s3:GetObject"],
            "PolicyInputList": [ALLOW], **which,
        }
        self.role, self.boundary = role, boundary

    def sts(self):
        do = lambda operation, **it: self.do("sts", operation, **it)
        do("GetCallerIdentity")
        do("GetSessionToken")
        do("GetAccessKeyInfo", AccessKeyId=self.key["AccessKeyId"])
        user = client("sts", self.checker, aws_access_key_id=self.key["AccessKeyId"],
                      aws_secret_access_key=self.key["SecretAccessKey"])
        call(user, "AssumeRole", RoleArn=self.role, RoleSessionName="contract",
             Tags=[{"Key": "a", "Value": "b"}], DurationSeconds=900)
        encoded = base64.urlsafe_b64encode(b'{"allowed":false}').decode().rstrip("=")
        do("DecodeAuthorizationMessage", EncodedMessage=encoded)

    def ssm(self):
        do = lambda operation, **it: self.do("ssm", operation, **it)
        for number in "123":
            do("PutParameter", Name=f"/contract/{number}", Value="v", Type="String",
               Tags=TAGS[:1] if number == "1" else [])
        do("GetParameter", Name="/contract/1")
        do("GetParameters", Names=["/contract/1", "/contract/none"])
        which = {"ResourceType": "Parameter", "ResourceId": "/contract/1"}
        do("AddTagsToResource", Tags=TAGS, **which)
        do("ListTagsForResource", **which)
        do("RemoveTagsFromResource", TagKeys=["contract2"], **which)
        do("DeleteParameter", Name="/contract/3")
        do("DeleteParameters", Names=["/contract/3"])
        # No agent is connected: sessions and commands are those of whole clusters (`sessions`).
        do("DescribeSessions", State="Active")
        do("DescribeInstanceInformation")
        do("GetConnectionStatus", Target="i-00000000000000000")
        do("TerminateSession", SessionId="contract-00000000000000000")
        self.of |= {"Path": "/contract", "State": "Active"}

    def ecr(self):
        do = lambda operation, **it: self.do("ecr", operation, **it)
        for number in "12":
            made = do("CreateRepository", repositoryName=f"contract/{number}", tags=TAGS)
        arn = made["repository"]["repositoryArn"]
        do("GetAuthorizationToken")
        name = {"repositoryName": "contract/1"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{
            "Sid": "a", "Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}]})
        do("SetRepositoryPolicy", policyText=policy, **name)
        do("GetRepositoryPolicy", **name)
        do("DeleteRepositoryPolicy", **name)
        for kind in ("IMMUTABLE", "MUTABLE"):
            do("PutImageTagMutability", imageTagMutability=kind, **name)
        rule = {"rulePriority": 1, "selection": {
            "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 9},
            "action": {"type": "expire"}}
        do("PutLifecyclePolicy", lifecyclePolicyText=json.dumps({"rules": [rule]}), **name)
        do("GetLifecyclePolicy", **name)
        do("DeleteLifecyclePolicy", **name)
        do("TagResource", resourceArn=arn, tags=TAGS)
        do("ListTagsForResource", resourceArn=arn)
        do("UntagResource", resourceArn=arn, tagKeys=["contract2"])
        digests = [self.layer(name, blob) for blob in (b"{}", b"layer")]
        for number in "12":
            manifest = json.dumps({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
                           "digest": digests[0]},
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 5,
                            "digest": digests[1]}], "annotations": {"number": number}})
            do("PutImage", imageManifest=manifest, imageTag=number, **name)
        do("BatchCheckLayerAvailability", layerDigests=digests, **name)
        do("BatchCheckLayerAvailability", layerDigests=["sha256:" + "0" * 64], **name)
        do("GetDownloadUrlForLayer", layerDigest=digests[1], **name)
        do("BatchGetImage", imageIds=[{"imageTag": "1"}, {"imageTag": "none"}], **name)
        self.of |= name

    def layer(self, name, blob):
        do = lambda operation, **it: self.do("ecr", operation, **name, **it)
        upload = do("InitiateLayerUpload")["uploadId"]
        do("UploadLayerPart", uploadId=upload, partFirstByte=0, partLastByte=len(blob) - 1,
           layerPartBlob=blob)
        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        do("CompleteLayerUpload", uploadId=upload, layerDigests=[digest])
        return digest

    def end(self):
        """Takes everything down again: deletions are operations too."""
        for chapter in (end_of_messages, end_of_clusters, end_of_the_rest):
            try:
                chapter(self)
            except Exception:  # pylint: disable=broad-except
                yield traceback.format_exc(limit=-5)
