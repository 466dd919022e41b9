//! What AWS itself offers in a VPC: services for endpoints.
//!
//! Deviation: the services are those that EKS's guide names for clusters without a way out; who is not
//! in the region answers nobody, with or without an endpoint.

use aws_ec2::vpc_endpoint_service::{
    DescribeVpcEndpointServicesRequest, DescribeVpcEndpointServicesResponse, ServiceDetail,
    ServiceTypeDetail,
};
use aws_wire::Fault;

use crate::{
    Call,
    query::{self, one},
    state::State,
};

/// Names as in `com.amazonaws.REGION.NAME`, and the kinds of endpoints that lead there.
const SERVICES: [(&str, &str); 18] = [
    ("autoscaling", "Interface"),
    ("dynamodb", "Gateway"),
    ("ec2", "Interface"),
    ("ec2messages", "Interface"),
    ("ecr.api", "Interface"),
    ("ecr.dkr", "Interface"),
    ("eks", "Interface"),
    ("eks-auth", "Interface"),
    ("elasticloadbalancing", "Interface"),
    ("events", "Interface"),
    ("kms", "Interface"),
    ("logs", "Interface"),
    ("s3", "Gateway"),
    ("sqs", "Interface"),
    ("ssm", "Interface"),
    ("ssmmessages", "Interface"),
    ("sts", "Interface"),
    ("xray", "Interface"),
];

pub(crate) fn describe_services(
    call: &Call<'_>,
    _state: &State,
    request: DescribeVpcEndpointServicesRequest,
) -> Result<DescribeVpcEndpointServicesResponse, Fault> {
    let all: Vec<ServiceDetail> =
        SERVICES.iter().map(|(name, kind)| service(call, name, kind)).collect();
    let name_of = |it: &ServiceDetail| it.service_name.clone().unwrap_or_default();
    let is_known = |name: &String| all.iter().any(|it| name_of(it) == *name);
    if let Some(name) = request.service_names.iter().find(|it| !is_known(it)) {
        return Err(no_service(name));
    }
    let mut service_details = Vec::new();
    for detail in all {
        let name = name_of(&detail);
        let kind = detail.service_type.first().and_then(|it| it.service_type.clone());
        let passes = query::passes(&request.filters, query::no_tags(), |it| match it {
            "service-name" => one(&name),
            "service-type" => query::maybe(kind.as_ref()),
            "owner" => one("amazon"),
            "supported-ip-address-types" => one("ipv4"),
            _ => None,
        })?;
        if passes && (request.service_names.is_empty() || request.service_names.contains(&name)) {
            service_details.push(detail);
        }
    }
    let service_names = service_details.iter().map(name_of).collect();
    Ok(DescribeVpcEndpointServicesResponse { service_names, service_details, next_token: None })
}

/// The kind of endpoint that leads to a service; a fault when there is no such service.
pub(crate) fn kind_of_service(call: &Call<'_>, service: &str) -> Result<&'static str, Fault> {
    let prefix = format!("com.amazonaws.{}.", call.config.region);
    let name = service.strip_prefix(&prefix).unwrap_or_default();
    let found = SERVICES.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind).ok_or_else(|| no_service(service))
}

fn no_service(name: &str) -> Fault {
    Fault::new("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist"))
}

fn service(call: &Call<'_>, name: &str, kind: &str) -> ServiceDetail {
    let region = &call.config.region;
    let host: Vec<&str> = name.split('.').rev().collect();
    let host = format!("{}.{region}.amazonaws.com", host.join("."));
    let private = match name {
        "ecr.dkr" => format!("*.{host}"),
        "eks-auth" => format!("eks-auth.{region}.api.aws"),
        _ => host.clone(),
    };
    ServiceDetail {
        service_name: Some(format!("com.amazonaws.{region}.{name}")),
        service_type: vec![ServiceTypeDetail { service_type: Some(kind.to_owned()) }],
        availability_zones: call.config.zones.iter().map(|(zone, _)| zone.clone()).collect(),
        owner: Some("amazon".to_owned()),
        base_endpoint_dns_names: vec![host],
        private_dns_name: (kind == "Interface").then_some(private),
        vpc_endpoint_policy_supported: Some(false),
        acceptance_required: Some(false),
        manages_vpc_endpoints: Some(false),
        supported_ip_address_types: vec!["ipv4".to_owned()],
        ..Default::default()
    }
}

/// Nobody has turned it on, and nobody can.
pub(crate) fn encryption_by_default(
    _call: &Call<'_>,
    _state: &State,
    _request: aws_ec2::ebs_defaults::GetEbsEncryptionByDefaultRequest,
) -> Result<aws_ec2::ebs_defaults::GetEbsEncryptionByDefaultResponse, Fault> {
    Ok(aws_ec2::ebs_defaults::GetEbsEncryptionByDefaultResponse {
        ebs_encryption_by_default: Some(false),
    })
}
