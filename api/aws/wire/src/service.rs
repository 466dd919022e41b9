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
    /// The same, for a service that spoke [`Protocol::Query`] before, and goes on to for clients that do
    /// ([`older`](crate::codec::older)): a header says errors as that did (`x-amzn-query-error`), for
    /// others that look for those.
    Json10,
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

const SERVICES: [Service; 12] = [
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
        name: "elasticloadbalancing",
        protocol: Protocol::Query,
        version: "2012-06-01",
        namespace: "http://elasticloadbalancing.amazonaws.com/doc/2012-06-01/",
        host: "elasticloadbalancing",
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
        name: "eks-auth",
        protocol: Protocol::RestJson,
        version: "2023-11-26",
        namespace: "",
        host: "eks-auth",
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
        name: "ssmmessages",
        protocol: Protocol::RestJson,
        version: "2017-10-01",
        namespace: "",
        host: "ssmmessages",
        target: "",
    },
    Service {
        name: "ecr",
        protocol: Protocol::Json11,
        version: "2015-09-21",
        namespace: "",
        host: "api.ecr",
        target: "AmazonEC2ContainerRegistry_V20150921",
    },
    Service {
        name: "sqs",
        protocol: Protocol::Json10,
        version: "2012-11-05",
        namespace: "http://queue.amazonaws.com/doc/2012-11-05/",
        host: "sqs",
        target: "AmazonSQS",
    },
    Service {
        name: "events",
        protocol: Protocol::Json11,
        version: "2015-10-07",
        namespace: "",
        host: "events",
        target: "AWSEvents",
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

/// The domains of endpoints: the older one, and the one for both IPv4 and IPv6.
const DOMAINS: [&str; 2] = [".amazonaws.com", ".api.aws"];

/// The service that this host name belongs to (`sts.us-east-1.amazonaws.com`,
/// `eks-auth.us-east-1.api.aws`).
pub fn by_host(host: &str) -> Option<&'static Service> {
    let host = host.split(':').next().unwrap_or_default();
    let rest = DOMAINS.iter().find_map(|it| host.strip_suffix(it))?;
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
            "eks-auth" => format!("{}.{region}.api.aws", self.host),
            _ => format!("{}.{region}.amazonaws.com", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_endpoint_leads_back_to_it() {
        for name in names() {
            let service = find(name).unwrap();
            assert_eq!(by_host(&service.host_in("us-east-1")), Some(service), "{name}");
        }
        let old = by_host("eks-auth.us-east-1.amazonaws.com:443");
        assert_eq!(old.map(|it| it.name), Some("eks-auth"));
        assert_eq!(by_host("eks-auth.example.com"), None);
    }
}
