"""Parameters that a model asks for at least, and clients."""

import datetime
import re
import time

import boto3
import botocore.config
import botocore.exceptions

ACCOUNT = "111122223333"
MODELS = {"elasticloadbalancing": "elb"}
NOTHING_AGAIN = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=60)


def client(service, checker=None, **credentials):
    made = boto3.client(MODELS.get(service, service), config=NOTHING_AGAIN, **credentials)
    if checker:
        checker.watch(made)
    return made


def call(made, operation, **parameters):
    """An operation by AWS's own name."""
    return made._make_api_call(operation, parameters)  # pylint: disable=protected-access


def until(ask, limit=30):
    """Asks until the answer is yes."""
    end = time.monotonic() + limit
    while not ask():
        if time.monotonic() > end:
            raise SystemExit(f"{ask.__code__.co_firstlineno}: not within {limit} s")
        time.sleep(0.2)


def refused(made, operation, **parameters):
    """The code of a refusal; None where there was none."""
    try:
        call(made, operation, **parameters)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return None


def least(shape, name=""):
    """The least value of a shape that botocore sends."""
    kind = shape.type_name
    low = int(shape.metadata.get("min") or 0)
    if name == "LaunchTemplateData":
        return {"EbsOptimized": True}
    if kind == "structure":
        return {it: least(shape.members[it], it) for it in shape.required_members}
    if kind == "list":
        return [least(shape.member, name) for _ in range(max(low, 1))]
    if kind == "map":
        return {"key": least(shape.value)}
    if kind == "string":
        return shape.enum[0] if shape.enum else text(name, low)
    return {
        "boolean": False, "timestamp": datetime.datetime(2026, 1, 1), "blob": b"x",
        "integer": max(low, 1), "long": max(low, 1), "float": 1.0, "double": 1.0,
    }[kind]


def text(name, low):
    if re.search("Cidr", name):
        return "10.9.0.0/16"
    if re.search("Arn$", name, re.IGNORECASE):
        return f"arn:aws:iam::{ACCOUNT}:role/nobody"
    return "nobody".ljust(low, "x")
