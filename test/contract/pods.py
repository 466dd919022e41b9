"""The two operations that ask for a pod's token: IRSA's and Pod Identity's.

Tokens of the world's clusters are signed here, with the key that their API servers publish. Where the
clusters are others', their pods have the tokens: `irsa` and `pod_identity` of the end-to-end tests.
"""

import base64
import json
import os
import time

import botocore
import botocore.config
import boto3

from given import ACCOUNT, call

KEY = os.environ.get("CONTRACT_KEY")
SUBJECT = "system:serviceaccount:default:s1"


def encoded(it):
    return base64.urlsafe_b64encode(it).rstrip(b"=").decode()


def token(issuer, audience):
    # awscli brings it; it reads PKCS#1, which PKCS#8 has 26 bytes around.
    import rsa  # pylint: disable=import-outside-toplevel
    key = rsa.PrivateKey.load_pkcs1(base64.b64decode(KEY)[26:], "DER")
    now = int(time.time())
    head = {"alg": "RS256", "kid": os.environ["CONTRACT_KEY_ID"]}
    claims = {"iss": issuer, "sub": SUBJECT, "aud": [audience], "iat": now, "nbf": now,
              "exp": now + 3600}
    text = ".".join(encoded(json.dumps(it).encode()) for it in (head, claims))
    return f"{text}.{encoded(rsa.sign(text.encode(), key, 'SHA-256'))}"


def unsigned(service, checker):
    config = botocore.config.Config(signature_version=botocore.UNSIGNED)
    made = boto3.client(service, config=config)
    checker.watch(made)
    return made


def pods(story):
    if not KEY:
        return
    cluster = story.of["name"]
    found = story.do("eks", "DescribeCluster", name=cluster)["cluster"]
    issuer = found["identity"]["oidc"]["issuer"]
    iam = lambda operation, **it: story.do("iam", operation, **it)
    provider = iam("CreateOpenIDConnectProvider", Url=issuer, ClientIDList=["sts.amazonaws.com"],
                   ThumbprintList=["0" * 40])["OpenIDConnectProviderArn"]
    trust = json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": provider}, "Condition": {"StringEquals": {
            f"{issuer.removeprefix('https://')}:sub": SUBJECT}}}]})
    iam("CreateRole", RoleName="contract-irsa", AssumeRolePolicyDocument=trust)
    sts = unsigned("sts", story.checker)
    call(sts, "AssumeRoleWithWebIdentity", RoleSessionName="contract",
         RoleArn=f"arn:aws:iam::{ACCOUNT}:role/contract-irsa",
         WebIdentityToken=token(issuer, "sts.amazonaws.com"))
    story.do("eks-auth", "AssumeRoleForPodIdentity", clusterName=cluster,
             token=token(issuer, "pods.eks.amazonaws.com"))
    iam("DeleteRole", RoleName="contract-irsa")
    iam("DeleteOpenIDConnectProvider", OpenIDConnectProviderArn=provider)
