//! What each AWS service speaks: its protocol, version and names.

/// How an operation becomes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Form parameters in, XML out; lists are `Name.member.N`.
    Query,
    /// EC2's own: lists are `Name.N` in requests and `<item>` in responses.
    Ec2,
    /// Methods and paths; JSON bodies.
    RestJson,
    /// `X-Amz-Target` names the operation; JSON bodies.
    Json11,
}

/// One service. See [`find`].
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Its signing name, which also prefixes IAM actions.
    pub name: &'static str,
    pub protocol: Protocol,
    /// The version of the API, as query protocols name it.
    pub version: &'static str,
    pub namespace: &'static str,
    /// The first labels of its host name: `api.ecr` in `api.ecr.us-east-1.amazonaws.com`.
    pub host: &'static str,
    /// What precedes the operation in `X-Amz-Target`.
    pub target: &'static str,
}

const SERVICES: [Service; 7] = [
    Service {
        name: "ec2",
        protocol: Protocol::Ec2,
        version: "2016-11-15",
        namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
        host: "ec2",
        target: "",
    },
    Service {
        name: "iam",
        protocol: Protocol::Query,
        version: "2010-05-08",
        namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
        host: "iam",
        target: "",
    },
    Service {
        name: "sts",
        protocol: Protocol::Query,
        version: "2011-06-15",
        namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
        host: "sts",
        target: "",
    },
    Service {
        name: "autoscaling",
        protocol: Protocol::Query,
        version: "2011-01-01",
        namespace: "http://autoscaling.amazonaws.com/doc/2011-01-01/",
        host: "autoscaling",
        target: "",
    },
    Service {
        name: "eks",
        protocol: Protocol::RestJson,
        version: "2017-11-01",
        namespace: "",
        host: "eks",
        target: "",
    },
    Service {
        name: "ssm",
        protocol: Protocol::Json11,
        version: "2014-11-06",
        namespace: "",
        host: "ssm",
        target: "AmazonSSM",
    },
    Service {
        name: "ecr",
        protocol: Protocol::Json11,
        version: "2015-09-21",
        namespace: "",
        host: "api.ecr",
        target: "AmazonEC2ContainerRegistry_V20150921",
    },
];

/// The service with this signing name.
pub fn find(name: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|it| it.name == name)
}

/// The signing names of all services.
pub fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|it| it.name)
}

/// The service that this host name belongs to (`sts.us-east-1.amazonaws.com`).
pub fn by_host(host: &str) -> Option<&'static Service> {
    let host = host.split(':').next().unwrap_or_default();
    let rest = host.strip_suffix(".amazonaws.com")?;
    SERVICES.iter().find(|it| {
        rest == it.host || rest.strip_prefix(it.host).is_some_and(|tail| tail.starts_with('.'))
    })
}

/// The service whose `X-Amz-Target` has this prefix.
pub fn by_target(prefix: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|it| !it.target.is_empty() && it.target == prefix)
}

/// The query service with this version of its API.
pub fn by_version(version: &str) -> Option<&'static Service> {
    SERVICES
        .iter()
        .find(|it| matches!(it.protocol, Protocol::Query | Protocol::Ec2) && it.version == version)
}

impl Service {
    /// The host name of its endpoint in `region`.
    pub fn host_in(&self, region: &str) -> String {
        match self.name {
            // One endpoint for the whole partition.
            "iam" => "iam.amazonaws.com".to_owned(),
            _ => format!("{}.{region}.amazonaws.com", self.host),
        }
    }
}
