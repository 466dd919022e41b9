//! The definition of EC2NodeClasses.

use serde_json::{Value, json};

use crate::karpenter::{
    AWS_GROUP, VERSION,
    schema::{
        self, Kind, column, conditions, flag, list, number, object, one_of, rules, tag_selector,
        text, texts, with,
    },
};

const FAMILIES: [&str; 7] =
    ["AL2", "AL2023", "Bottlerocket", "Custom", "Windows2019", "Windows2022", "Windows2025"];

pub(super) fn definition() -> Value {
    let columns = json!([
        column("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, false),
        column("Age", "date", ".metadata.creationTimestamp", false),
        column("Role", "string", ".spec.role", true),
    ]);
    let kind = Kind {
        group: AWS_GROUP,
        version: VERSION,
        kind: "EC2NodeClass",
        plural: "ec2nodeclasses",
        short: &["ec2nc", "ec2ncs"],
        description: "How instances are made on AWS for the NodePools that name it.",
        columns,
        subresources: json!({ "status": {} }),
    };
    schema::definition(&kind, &spec(), &status(), false)
}

fn spec() -> Value {
    let mut properties = selectors();
    let others = json!({
        "amiFamily": one_of("How the image is set up by user data", &FAMILIES),
        "associatePublicIPAddress": flag("Whether instances get a public address"),
        "blockDeviceMappings": block_devices(),
        "connectionTracking": connection_tracking(),
        "context": text("Passed to EC2 as it is"),
        "cpuOptions": object("Options of the processor", &[], json!({
            "nestedVirtualization": one_of("Whether machines may run in it",
                &["enabled", "disabled"]) })),
        "detailedMonitoring": flag("Whether EC2 measures each minute"),
        "instanceProfile": with(text("A profile of yours, instead of a role"),
            &rules(&[("self != ''", "instanceProfile cannot be empty")])),
        "instanceStorePolicy": one_of("What local disks are used for", &["RAID0"]),
        "ipPrefixCount": number("How many prefixes of addresses an instance starts with", 0, None,
            "int32"),
        "kubelet": { "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "description": "The kubelet's configuration, as far as it is understood" },
        "metadataOptions": metadata_options(),
        "networkInterfaces": network_interfaces(),
        "role": with(text("The node's role; an instance profile is made for it"),
            &rules(&[("self != ''", "role cannot be empty")])),
        "tags": with(texts("Tags of all that is made"), &tag_rules()),
        "userData": text("Merged with what the family needs"),
    });
    properties = with(properties, &others);
    let required = ["amiSelectorTerms", "securityGroupSelectorTerms", "subnetSelectorTerms"];
    let wanted = [
        (
            "has(self.amiFamily) || self.amiSelectorTerms.exists(x, has(x.alias))",
            "must specify amiFamily if amiSelectorTerms does not contain an alias",
        ),
        (
            "has(self.role) != has(self.instanceProfile)",
            "must specify exactly one of ['role', 'instanceProfile']",
        ),
        (
            "!has(self.amiFamily) || self.amiFamily == 'Custom' || \
             !self.amiSelectorTerms.exists(x, has(x.alias)) || \
             self.amiSelectorTerms.exists(x, has(x.alias) && \
             x.alias.split('@')[0] == self.amiFamily.lowerAscii())",
            "if set, amiFamily must be Custom or match the family of the alias",
        ),
    ];
    with(object("What is wanted", &required, properties), &rules(&wanted))
}

fn selectors() -> Value {
    let ami = object(
        "Which images",
        &[],
        json!({
            "alias": with(with(text("family@version, such as al2023@latest"),
                &json!({ "maxLength": 30 })), &alias_rules()),
            "id": with(text("An image's id"), &json!({ "pattern": "ami-[0-9a-z]+" })),
            "name": text("A name, with * and ?"),
            "owner": text("An account, or self, amazon, aws-marketplace"),
            "ssmParameter": text("The name of a parameter that holds an id"),
            "tags": tag_selector(),
        }),
    );
    let alone = [
        (
            "self.all(x, has(x.tags) || has(x.id) || has(x.name) || has(x.alias) || \
             has(x.ssmParameter))",
            "expected at least one, got none, ['tags', 'id', 'name', 'alias', 'ssmParameter']",
        ),
        (
            "!self.exists(x, has(x.id) && (has(x.alias) || has(x.tags) || has(x.name) || \
             has(x.owner)))",
            "'id' is mutually exclusive, cannot be set with a combination of other fields in \
             amiSelectorTerms",
        ),
        (
            "!self.exists(x, has(x.alias) && (has(x.id) || has(x.tags) || has(x.name) || \
             has(x.owner)))",
            "'alias' is mutually exclusive, cannot be set with a combination of other fields in \
             amiSelectorTerms",
        ),
        (
            "!self.exists(x, has(x.alias)) || self.size() == 1",
            "'alias' is mutually exclusive, cannot be set with a combination of other \
             amiSelectorTerms",
        ),
    ];
    let amis = with(list("Which images; any of them", Some(30), ami), &json!({ "minItems": 1 }));
    let subnet = object(
        "Which subnets",
        &[],
        json!({
            "id": with(text("A subnet's id"), &json!({ "pattern": "subnet-[0-9a-z]+" })),
            "tags": tag_selector(),
        }),
    );
    let group = object(
        "Which security groups",
        &[],
        json!({
            "id": with(text("A group's id"), &json!({ "pattern": "sg-[0-9a-z]+" })),
            "name": text("A group's name (not its tag)"),
            "tags": tag_selector(),
        }),
    );
    let reservation = object(
        "Which reservations",
        &[],
        json!({
            "id": with(text("A reservation's id"), &json!({ "pattern": "^cr-[0-9a-z]+$" })),
            "instanceMatchCriteria": one_of("Who may use it", &["open", "targeted"]),
            "ownerID": with(text("Its account"), &json!({ "pattern": "^[0-9]{12}$" })),
            "tags": tag_selector(),
        }),
    );
    let placement = object(
        "A placement group",
        &[],
        json!({
            "id": with(text("Its id"), &json!({ "pattern": "^pg-[0-9a-z]+$" })),
            "name": with(text("Its name"), &json!({ "minLength": 1 })),
        }),
    );
    let either =
        rules(&[("has(self.id) != has(self.name)", "expected exactly one of ['id', 'name']")]);
    json!({
        "amiSelectorTerms": with(amis, &rules(&alone)),
        "capacityReservationSelectorTerms":
            with(list("Which capacity reservations may be used", Some(30), reservation),
                &reservation_rules()),
        "placementGroupSelector": with(placement, &either),
        "securityGroupSelectorTerms":
            with(list("The instances' security groups", Some(30), group), &group_rules()),
        "subnetSelectorTerms":
            with(list("The subnets that instances may be in", Some(30), subnet), &subnet_rules()),
    })
}

fn alias_rules() -> Value {
    rules(&[
        (
            "self.matches('^[a-zA-Z0-9]+@.+$')",
            "'alias' is improperly formatted, must match the format 'family@version'",
        ),
        (
            "self.split('@')[0] in ['al2', 'al2023', 'bottlerocket', 'windows2019', 'windows2022', \
             'windows2025']",
            "family is not supported, must be one of the following: 'al2', 'al2023', \
             'bottlerocket', 'windows2019', 'windows2022', 'windows2025'",
        ),
        (
            "!self.startsWith('windows') || self.endsWith('@latest')",
            "windows families may only specify version 'latest'",
        ),
    ])
}

fn subnet_rules() -> Value {
    rules(&[
        ("self.size() != 0", "subnetSelectorTerms cannot be empty"),
        (
            "self.all(x, has(x.tags) || has(x.id))",
            "expected at least one, got none, ['tags', 'id']",
        ),
        (
            "!self.exists(x, has(x.id) && has(x.tags))",
            "'id' is mutually exclusive, cannot be set with a combination of other fields in a \
             subnet selector term",
        ),
    ])
}

fn group_rules() -> Value {
    rules(&[
        ("self.size() != 0", "securityGroupSelectorTerms cannot be empty"),
        (
            "self.all(x, has(x.tags) || has(x.id) || has(x.name))",
            "expected at least one, got none, ['tags', 'id', 'name']",
        ),
        (
            "!self.exists(x, has(x.id) && (has(x.tags) || has(x.name)))",
            "'id' is mutually exclusive, cannot be set with a combination of other fields in a \
             security group selector term",
        ),
        (
            "!self.exists(x, has(x.name) && (has(x.tags) || has(x.id)))",
            "'name' is mutually exclusive, cannot be set with a combination of other fields in a \
             security group selector term",
        ),
    ])
}

fn reservation_rules() -> Value {
    rules(&[
        (
            "self.all(x, has(x.tags) || has(x.id) || has(x.instanceMatchCriteria))",
            "expected at least one, got none, ['tags', 'id', 'instanceMatchCriteria']",
        ),
        (
            "!self.exists(x, has(x.id) && (has(x.tags) || has(x.ownerID) || \
             has(x.instanceMatchCriteria)))",
            "'id' is mutually exclusive, cannot be set along with other fields in a capacity \
             reservation selector term",
        ),
    ])
}

fn block_devices() -> Value {
    let kinds = ["standard", "io1", "io2", "gp2", "sc1", "st1", "gp3"];
    let ebs = object(
        "An EBS volume",
        &[],
        json!({
            "deleteOnTermination": flag("Whether it goes with its instance"),
            "encrypted": flag("Whether it is encrypted"),
            "iops": { "type": "integer", "format": "int64", "description": "Operations per second" },
            "kmsKeyID": text("The key that encrypts it"),
            "snapshotID": text("The snapshot that it is made from"),
            "throughput": { "type": "integer", "format": "int64", "description": "MiB per second" },
            "volumeInitializationRate":
                number("MiB per second in which it is filled", 100, Some(300), "int32"),
            "volumeSize": with(text("Its size, such as 20Gi"),
                &json!({ "pattern": "^[1-9][0-9]{0,4}(Gi|G|Ti|T)$" })),
            "volumeType": one_of("Its kind", &kinds),
        }),
    );
    let needed = [
        (
            "has(self.snapshotID) || has(self.volumeSize)",
            "snapshotID or volumeSize must be defined",
        ),
        (
            "!has(self.volumeInitializationRate) || has(self.snapshotID)",
            "snapshotID must be set when volumeInitializationRate is set",
        ),
    ];
    let mapping = object(
        "A volume of the instance",
        &[],
        json!({
            "deviceName": text("Its device"),
            "ebs": with(ebs, &rules(&needed)),
            "rootVolume": flag("Whether its size is the node's ephemeral storage"),
        }),
    );
    let one = [(
        "self.filter(x, has(x.rootVolume) ? x.rootVolume == true : false).size() <= 1",
        "must have only one blockDeviceMappings with rootVolume",
    )];
    with(list("The instances' volumes", Some(50), mapping), &rules(&one))
}

fn connection_tracking() -> Value {
    let value = object(
        "Seconds after which idle connections are forgotten",
        &[],
        json!({
            "tcpEstablishedTimeout": number("Of TCP", 60, Some(432_000), "int32"),
            "udpStreamTimeout": number("Of UDP in both directions", 60, Some(180), "int32"),
            "udpTimeout": number("Of UDP in one direction", 30, Some(60), "int32"),
        }),
    );
    let any = "has(self.tcpEstablishedTimeout) || has(self.udpStreamTimeout) || \
               has(self.udpTimeout)";
    with(value, &rules(&[(any, "at least one of the timeouts must be set")]))
}

fn metadata_options() -> Value {
    let choice = |what: &str, values: [&str; 2], default: &str| {
        with(one_of(what, &values), &json!({ "default": default }))
    };
    let hops = number("How far an answer may travel", 1, Some(64), "int64");
    let value = object(
        "The instance metadata service",
        &[],
        json!({
            "httpEndpoint": choice("Whether it answers", ["enabled", "disabled"], "enabled"),
            "httpProtocolIPv6": choice("Whether it answers on IPv6", ["enabled", "disabled"],
                "disabled"),
            "httpPutResponseHopLimit": with(hops, &json!({ "default": 1 })),
            "httpTokens": choice("Whether it wants a token", ["required", "optional"], "required"),
        }),
    );
    let default = json!({ "httpEndpoint": "enabled", "httpProtocolIPv6": "disabled",
        "httpPutResponseHopLimit": 1, "httpTokens": "required" });
    with(value, &json!({ "default": default }))
}

fn network_interfaces() -> Value {
    let required = ["deviceIndex", "interfaceType", "networkCardIndex"];
    let item = object(
        "A network interface",
        &required,
        json!({
            "deviceIndex": number("Its place on the card", 0, None, "int32"),
            "interfaceType": one_of("Its kind", &["interface", "efa-only"]),
            "networkCardIndex": number("Its card", 0, None, "int32"),
        }),
    );
    let wanted = [
        (
            "self.exists(x, x.networkCardIndex == 0 && x.deviceIndex == 0 && \
             x.interfaceType == 'interface')",
            "the primary interface (card 0, device 0) must be there, of type interface",
        ),
        (
            "self.all(x, self.exists_one(y, x.networkCardIndex == y.networkCardIndex && \
             x.deviceIndex == y.deviceIndex))",
            "each pair of networkCardIndex and deviceIndex must be unique",
        ),
    ];
    with(list("Interfaces that instances start with", Some(150), item), &rules(&wanted))
}

fn tag_rules() -> Value {
    let restricted = |key: &str| {
        (
            format!("self.all(x, x != '{key}')"),
            format!("tag contains a restricted tag matching {key}"),
        )
    };
    let keys = [
        "eks:eks-cluster-name",
        "karpenter.sh/nodepool",
        "karpenter.sh/nodeclaim",
        "karpenter.k8s.aws/ec2nodeclass",
    ];
    let mut wanted = vec![
        ("self.all(k, k != '')".to_owned(), "empty tag keys aren't supported".to_owned()),
        (
            "self.all(k, !k.startsWith('kubernetes.io/cluster'))".to_owned(),
            "tag contains a restricted tag matching kubernetes.io/cluster/".to_owned(),
        ),
    ];
    wanted.extend(keys.map(restricted));
    let pairs: Vec<_> = wanted.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    rules(&pairs)
}

fn status() -> Value {
    let requirement = object(
        "A requirement",
        &["key", "operator"],
        json!({
            "key": text("A label's key"), "operator": text("How it relates to the values"),
            "values": list("What the operator takes", None, json!({ "type": "string" })),
        }),
    );
    let ami = object(
        "An image",
        &["id", "requirements"],
        json!({
            "deprecated": flag("Whether its owner says so"),
            "id": text("Its id"), "name": text("Its name"),
            "requirements": list("Which nodes it is for", None, requirement),
        }),
    );
    let required = ["availabilityZone", "id", "instanceMatchCriteria", "instanceType", "ownerID"];
    let reservation = object(
        "A capacity reservation",
        &required,
        json!({
            "availabilityZone": text("Its zone"),
            "endTime": with(text("When it ends"), &json!({ "format": "date-time" })),
            "id": with(text("Its id"), &json!({ "pattern": "^cr-[0-9a-z]+$" })),
            "instanceMatchCriteria": one_of("Who may use it", &["open", "targeted"]),
            "instanceType": text("The type of its instances"),
            "interruptible": flag("Whether its instances may be taken back"),
            "ownerID": with(text("Its account"), &json!({ "pattern": "^[0-9]{12}$" })),
            "reservationType": with(one_of("Its kind", &["default", "capacity-block"]),
                &json!({ "default": "default" })),
            "state": with(one_of("Its state", &["active", "expiring"]),
                &json!({ "default": "active" })),
        }),
    );
    let group = object(
        "A security group",
        &["id"],
        json!({ "id": text("Its id"), "name": text("Its name") }),
    );
    let subnet = object(
        "A subnet",
        &["id", "zone"],
        json!({
        "id": text("Its id"), "zone": text("Its zone"), "zoneID": text("The zone's id") }),
    );
    object(
        "What the selectors have found",
        &[],
        json!({
            "amis": list("The images", None, ami),
            "capacityReservations": list("The capacity reservations", None, reservation),
            "conditions": conditions(),
            "instanceProfile": text("The instances' profile"),
            "securityGroups": list("The security groups", None, group),
            "subnets": list("The subnets", None, subnet),
        }),
    )
}
