"""What programs do with Python's `kubernetes` client: `python main.py URL`."""

import sys

from kubernetes import client, dynamic, watch
from kubernetes.client.exceptions import ApiException

NAMESPACE = "programs"
APPLY = "application/apply-patch+yaml"


def refused(status, call, *arguments, **options):
    """The body of an answer that must be an error."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == status, error
        return error.body
    raise AssertionError(f"{call.__name__} was not refused with {status}")


def config_map(name, **data):
    meta = client.V1ObjectMeta(name=name, labels={"of": "test"})
    return client.V1ConfigMap(metadata=meta, data=data)


def objects(api):
    """Create, read, list in pages, replace with conflicts, patch in every way, delete."""
    core = client.CoreV1Api(api)
    space = client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE))
    assert core.create_namespace(space).status.phase == "Active"
    first = core.create_namespaced_config_map(NAMESPACE, config_map("m0", a="1"))
    assert first.metadata.uid and first.metadata.creation_timestamp.tzinfo
    assert "AlreadyExists" in refused(
        409, core.create_namespaced_config_map, NAMESPACE, config_map("m0")
    )
    refused(404, core.read_namespaced_config_map, "none", NAMESPACE)
    refused(422, core.create_namespaced_config_map, NAMESPACE, config_map("A_b"))
    for number in range(1, 5):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"m{number}"))
    names, token = [], None
    while token != "":
        page = core.list_namespaced_config_map(
            NAMESPACE, limit=2, _continue=token, label_selector="of in (test)"
        )
        names += [it.metadata.name for it in page.items]
        token = page.metadata._continue or ""
    assert names == [f"m{number}" for number in range(5)], names

    stale = core.read_namespaced_config_map("m0", NAMESPACE)
    fresh = core.read_namespaced_config_map("m0", NAMESPACE)
    fresh.data["a"] = "2"
    core.replace_namespaced_config_map("m0", NAMESPACE, fresh)
    stale.data["a"] = "3"
    assert "Conflict" in refused(409, core.replace_namespaced_config_map, "m0", NAMESPACE, stale)

    merged = core.patch_namespaced_config_map("m0", NAMESPACE, {"data": {"b": "1", "a": None}})
    assert merged.data == {"b": "1"}, merged.data
    steps = [{"op": "add", "path": "/data/c", "value": "2"}]
    patched = core.patch_namespaced_config_map("m0", NAMESPACE, steps)
    assert patched.data == {"b": "1", "c": "2"}, patched.data
    core.delete_namespaced_config_map("m4", NAMESPACE)
    refused(404, core.read_namespaced_config_map, "m4", NAMESPACE)
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=test")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="of=test").items


def watches(api):
    """A watch from a list's version, which ends by its timeout, and goes on where it was."""
    core = client.CoreV1Api(api)
    listed = core.list_namespaced_config_map(NAMESPACE)
    core.create_namespaced_config_map(NAMESPACE, config_map("w", a="1"))
    core.patch_namespaced_config_map("w", NAMESPACE, {"data": {"a": "2"}})
    core.delete_namespaced_config_map("w", NAMESPACE)
    seen = []
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        resource_version=listed.metadata.resource_version,
        timeout_seconds=30,
    ):
        seen.append((event["type"], event["object"].data["a"]))
        if event["type"] == "DELETED":
            stream.stop()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")], seen
    gone = watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, timeout_seconds=1
    )
    assert all(event["type"] == "ADDED" for event in gone)


def workloads(api):
    """A Deployment through the typed client: defaults, strategic merge, scale and status."""
    apps = client.AppsV1Api(api)
    labels = {"app": "a"}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="x")]),
    )
    spec = client.V1DeploymentSpec(
        selector=client.V1LabelSelector(match_labels=labels), template=template
    )
    deployment = client.V1Deployment(metadata=client.V1ObjectMeta(name="d"), spec=spec)
    made = apps.create_namespaced_deployment(NAMESPACE, deployment)
    assert made.spec.replicas == 1 and made.spec.strategy.type == "RollingUpdate"
    assert made.metadata.generation == 1
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "s", "image": "y"}]}}}}
    patched = apps.patch_namespaced_deployment("d", NAMESPACE, sidecar)
    assert {it.name for it in patched.spec.template.spec.containers} == {"c", "s"}
    assert patched.metadata.generation == 2
    scaled = apps.patch_namespaced_deployment_scale("d", NAMESPACE, {"spec": {"replicas": 5}})
    assert scaled.spec.replicas == 5
    status = {"status": {"replicas": 5, "observedGeneration": 3}}
    told = apps.patch_namespaced_deployment_status("d", NAMESPACE, status)
    assert told.status.replicas == 5 and told.metadata.generation == 3
    changed = {"spec": {"selector": {"matchLabels": {"app": "b"}}}}
    assert "field is immutable" in refused(422, apps.patch_namespaced_deployment, "d", NAMESPACE, changed)
    apps.delete_namespaced_deployment("d", NAMESPACE, propagation_policy="Background")


def anything(api):
    """The dynamic client: discovery, server-side apply, a resource that is defined meanwhile."""
    any_kind = dynamic.DynamicClient(api)
    maps = any_kind.resources.get(api_version="v1", kind="ConfigMap")
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "applied"},
        "data": {"a": "1"},
    }
    place = {"name": "applied", "namespace": NAMESPACE}
    maps.server_side_apply(body=wanted, field_manager="one", **place)
    wanted["data"]["a"] = "2"
    try:
        maps.server_side_apply(body=wanted, field_manager="two", **place)
        raise AssertionError("two applied what is one's")
    except dynamic.exceptions.ConflictError as error:
        assert 'conflict with "one"' in error.summary(), error.summary()
    forced = maps.server_side_apply(
        body=wanted, field_manager="two", force_conflicts=True, **place
    )
    assert forced.data.a == "2"

    extensions = client.ApiextensionsV1Api(api)
    schema = {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}}
    extensions.create_custom_resource_definition(
        {
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com",
                "names": {"plural": "things", "kind": "Thing"},
                "scope": "Namespaced",
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }
    )
    custom = client.CustomObjectsApi(api)
    kind = ("example.com", "v1", NAMESPACE, "things")
    thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "size": 1}
    assert custom.create_namespaced_custom_object(*kind, thing)["size"] == 1
    thing["metadata"]["name"] = "u"
    thing["size"] = 0
    refused(422, custom.create_namespaced_custom_object, *kind, thing)
    assert [it["metadata"]["name"] for it in custom.list_namespaced_custom_object(*kind)["items"]] == ["t"]


def questions(api):
    """Reviews, tokens, versions, and what the server says of itself."""
    accounts = client.CoreV1Api(api)
    review = client.AuthorizationV1Api(api).create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    )
    assert review.status.allowed
    request = {"spec": {"audiences": ["me"], "expirationSeconds": 600}}
    token = accounts.create_namespaced_service_account_token("default", "default", request)
    review = client.AuthenticationV1Api(api).create_token_review(
        {"spec": {"token": token.status.token, "audiences": ["me"]}}
    )
    assert review.status.user.username == "system:serviceaccount:default:default"
    assert client.VersionApi(api).get_code().minor.startswith("36")
    assert "apps" in [it.name for it in client.ApisApi(api).get_api_versions().groups]


def main():
    configuration = client.Configuration()
    configuration.host = sys.argv[1]
    api = client.ApiClient(configuration)
    for part in (objects, watches, workloads, anything, questions):
        part(api)


main()
