"""Every response against botocore's model of it: members, types, enum values, times, errors.

A response is looked at twice: as botocore understood it, for what it must have, and as it came over
the wire, for names that the model does not know: botocore leaves those out without a word.
"""

import datetime
import json
import xml.etree.ElementTree as ElementTree

# Codes that any operation may answer, whatever errors its model names.
COMMON = {
    "AccessDenied", "AccessDeniedException", "DryRunOperation", "InvalidAction",
    "InvalidClientTokenId", "SerializationException", "UnauthorizedOperation", "ValidationError",
    "ValidationException", "InvalidParameterValue", "MissingParameter",
}
# Where AWS itself answers what its model does not have.
AWS_SAYS = {
    # "This data type can only have a value of Policy": AttachedPermissionsBoundary, IAM API reference.
    ("PermissionsBoundaryAttachmentType", "Policy"),
    # "the state is available when attached": InternetGatewayAttachment, EC2 API reference.
    ("AttachmentStatus", "available"),
    # As describe-vpc-endpoints and describe-network-interfaces show it in EC2's command reference.
    ("State", "available"), ("State", "deleted"), ("State", "pending"), ("State", "deleting"),
    ("NetworkInterfaceType", "nat_gateway"),
    # As simulate-custom-policy shows it in IAM's command reference.
    ("PolicySourceType", "IAM Policy"),
    # "No cluster found for name: …" of every operation of EKS on a cluster that is not there.
    ("CreateNodegroup", "ResourceNotFoundException"),
    ("CreateFargateProfile", "ResourceNotFoundException"),
    # "The Launch Configuration creation operation is not available in your account": what users report.
    ("CreateLaunchConfiguration", "UnsupportedOperation"),
}
# "An error occurred (InvocationDoesNotExist) when calling the GetCommandInvocation operation: ", and no
# more: what users of Systems Manager report.
SILENT = {"InvocationDoesNotExist"}
NUMBERS = {"integer": int, "long": int, "float": float, "double": float}


class Checker:
    """Listens to clients; `problems` is what was wrong, `seen` what was checked."""

    def __init__(self):
        self.problems = {}
        self.seen = {}

    def watch(self, client):
        client.meta.events.register("after-call", self.check)

    def check(self, http_response, parsed, model, **_):
        service = model.service_model.signing_name
        operation = f"{service}:{model.name}"
        is_good = http_response.status_code < 300
        self.seen.setdefault(operation, set()).add("success" if is_good else "error")
        said = []
        try:
            if is_good:
                said = list(self.success(http_response, parsed, model))
            else:
                said = list(self.error(http_response, parsed, model))
        except (ValueError, ElementTree.ParseError) as error:
            said = [f"cannot be read: {error}"]
        for it in said:
            self.problems.setdefault(f"{operation}: {it}", None)

    def success(self, http, parsed, model):
        shape = model.output_shape
        if not request_id(http, parsed):
            yield "no request id"
        if shape is None:
            return
        yield from value(shape, {k: v for k, v in parsed.items() if k != "ResponseMetadata"}, "")
        protocol = model.service_model.metadata["protocol"]
        if protocol in ("json", "rest-json"):
            yield from in_json(shape, json.loads(http.content or b"{}"), "")
        else:
            yield from in_xml(shape, result(ElementTree.fromstring(http.content), shape), "")

    def error(self, http, parsed, model):
        code = parsed.get("Error", {}).get("Code", "")
        if not code or code.isdigit():
            yield f"an error without a code: {http.content[:200]}"
        if not parsed["Error"].get("Message") and "Unknown" not in code and code not in SILENT:
            yield f"{code} says nothing"
        if not request_id(http, parsed):
            yield f"{code} without a request id"
        # EC2's model names no errors.
        known = {error_code(it): it for it in model.error_shapes}
        is_known = code in known or code in COMMON or (model.name, code) in AWS_SAYS
        if known and not is_known:
            yield f"{code} is none of its errors ({parsed['Error'].get('Message')})"
        status = known[code].metadata.get("error", {}).get("httpStatusCode") if code in known else None
        if status and status != http.status_code:
            yield f"{code} has the status {http.status_code}, not {status}"


def error_code(shape):
    return shape.metadata.get("error", {}).get("code", shape.name)


def request_id(http, parsed):
    return parsed.get("ResponseMetadata", {}).get("RequestId") or http.headers.get("x-amzn-requestid")


def value(shape, found, path):
    """What is wrong with a value as botocore understood it."""
    kind = shape.type_name
    if kind == "structure":
        for name in shape.required_members:
            if name not in found:
                yield f"{path}.{name} is required"
        for name, inner in found.items():
            if name in shape.members:
                yield from value(shape.members[name], inner, f"{path}.{name}")
    elif kind == "list":
        for inner in found:
            yield from value(shape.member, inner, f"{path}[]")
    elif kind == "map":
        for name, inner in found.items():
            yield from value(shape.key, name, f"{path}.key")
            yield from value(shape.value, inner, f"{path}.value")
    elif kind == "timestamp":
        if not isinstance(found, datetime.datetime):
            yield f"{path} is no time: {found!r}"
    elif kind in NUMBERS:
        if isinstance(found, bool) or not isinstance(found, (int, NUMBERS[kind])):
            yield f"{path} is no {kind}: {found!r}"
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        if (low is not None and found < low) or (high is not None and found > high):
            yield f"{path} is out of its range: {found!r}"
    elif kind == "boolean":
        if not isinstance(found, bool):
            yield f"{path} is no boolean: {found!r}"
    elif kind == "string":
        if not isinstance(found, (str, dict, list)):
            yield f"{path} is no text: {found!r}"
        elif shape.enum and found not in shape.enum and (shape.name, found) not in AWS_SAYS:
            yield f"{path} has no value {found!r}"


def serialized(shape):
    """Its members, by their names on the wire."""
    return {
        member.serialization.get("name", name): member
        for name, member in shape.members.items()
        if member.serialization.get("location") not in ("header", "headers", "statusCode")
    }


def in_json(shape, found, path):
    """Names and types that are not the model's, in a body of JSON."""
    kind = shape.type_name
    expected = {"structure": dict, "map": dict, "list": list, "string": str, "boolean": bool,
                "integer": int, "long": int, "timestamp": (int, float, str)}.get(kind)
    if found is None:
        yield f"{path} is null"
    elif expected and not isinstance(found, expected):
        yield f"{path} is no {kind} in JSON: {found!r}"
    elif kind == "structure":
        members = serialized(shape)
        for name, inner in found.items():
            if name in members:
                yield from in_json(members[name], inner, f"{path}.{name}")
            else:
                yield f"{path}.{name} is not in the model"
    elif kind == "list":
        for inner in found:
            yield from in_json(shape.member, inner, f"{path}[]")
    elif kind == "map":
        for inner in found.values():
            yield from in_json(shape.value, inner, f"{path}.value")


def tag(node):
    return node.tag.rsplit("}", 1)[-1]


def result(root, shape):
    """The element that holds the answer: the query protocol wraps it."""
    wrapper = shape.serialization.get("resultWrapper")
    found = [node for node in root if tag(node) == wrapper]
    return found[0] if found else root


def in_xml(shape, node, path):
    """Names that are not the model's, in a body of XML."""
    kind = shape.type_name
    if kind == "structure":
        members = serialized(shape)
        for inner in node:
            name = tag(inner)
            if name in members:
                yield from in_xml(members[name], inner, f"{path}.{name}")
            elif name not in ("requestId", "RequestId", "ResponseMetadata"):
                yield f"{path}.{name} is not in the model"
    elif kind == "list" and shape.serialization.get("flattened"):
        yield from in_xml(shape.member, node, f"{path}[]")
    elif kind == "list":
        name = shape.member.serialization.get("name", "member")
        for inner in node:
            if tag(inner) != name:
                yield f"{path} has <{tag(inner)}> for <{name}>"
            yield from in_xml(shape.member, inner, f"{path}[]")
    elif kind == "map":
        for entry in node:
            yield from in_xml(shape.value, entry[1], f"{path}.value")
    elif kind == "boolean" and node.text not in ("true", "false"):
        yield f"{path} is no boolean in XML: {node.text!r}"
    elif len(node):
        yield f"{path} is no {kind} in XML"
