//! Attributes: idle timeout, connection draining, cross-zone.

use aws_elasticloadbalancing::attribute::{
    AccessLog, AdditionalAttribute, ConnectionDraining, ConnectionSettings, CrossZoneLoadBalancing,
    DescribeLoadBalancerAttributesRequest, DescribeLoadBalancerAttributesResponse,
    LoadBalancerAttributes, ModifyLoadBalancerAttributesRequest,
    ModifyLoadBalancerAttributesResponse,
};
use aws_wire::Fault;

use crate::{Call, ElasticLoadBalancing, faults, records::Attributes};

const DESYNC: &str = "elb.http.desyncmitigationmode";

pub(crate) async fn describe(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: DescribeLoadBalancerAttributesRequest,
) -> Result<DescribeLoadBalancerAttributesResponse, Fault> {
    let known = service.get(&request.load_balancer_name)?;
    Ok(DescribeLoadBalancerAttributesResponse {
        load_balancer_attributes: answer(&known.attributes),
    })
}

pub(crate) async fn modify(
    service: &ElasticLoadBalancing,
    _call: Call,
    request: ModifyLoadBalancerAttributesRequest,
) -> Result<ModifyLoadBalancerAttributesResponse, Fault> {
    let wanted = request.load_balancer_attributes;
    let changed = service.update(&request.load_balancer_name, |it| {
        it.attributes = merged(it.attributes.clone(), &wanted)?;
        Ok(answer(&it.attributes))
    })?;
    Ok(ModifyLoadBalancerAttributesResponse {
        load_balancer_name: Some(request.load_balancer_name),
        load_balancer_attributes: Some(only_given(changed, &wanted)),
    })
}

fn merged(old: Attributes, wanted: &LoadBalancerAttributes) -> Result<Attributes, Fault> {
    let mut new = old;
    if let Some(it) = &wanted.cross_zone_load_balancing {
        new.cross_zone = it.enabled;
    }
    if let Some(it) = &wanted.connection_draining {
        new.draining = it.enabled;
        if let Some(timeout) = it.timeout {
            new.draining_timeout = within("ConnectionDraining.Timeout", timeout, 1, 3600)?;
        }
    }
    if let Some(it) = &wanted.connection_settings {
        new.idle_timeout = within("ConnectionSettings.IdleTimeout", it.idle_timeout, 1, 4000)?;
    }
    if let Some(it) = wanted.access_log.as_ref().filter(|it| it.enabled) {
        let bucket = it.s3_bucket_name.as_deref().unwrap_or_default();
        return Err(faults::configuration(format!(
            "Access Denied for bucket: {bucket}. Please check S3bucket permission"
        )));
    }
    for attribute in &wanted.additional_attributes {
        let key = attribute.key.as_deref().unwrap_or_default();
        let value = attribute.value.as_deref().unwrap_or_default();
        match (key, value) {
            (DESYNC, "monitor" | "defensive" | "strictest") => {
                new.desync_mitigation = value.to_owned();
            }
            (DESYNC, _) => {
                return Err(faults::configuration(format!("{DESYNC} cannot be '{value}'")));
            }
            _ => {
                return Err(Fault::new(
                    "LoadBalancerAttributeNotFound",
                    format!("Load balancer attribute '{key}' is not recognized"),
                ));
            }
        }
    }
    Ok(new)
}

fn within(name: &str, value: i64, least: u16, most: u16) -> Result<u16, Fault> {
    let value = u16::try_from(value).ok().filter(|it| (least..=most).contains(it));
    value.ok_or_else(|| {
        faults::validation(format!("{name} must be between {least} and {most} seconds"))
    })
}

fn answer(attributes: &Attributes) -> LoadBalancerAttributes {
    LoadBalancerAttributes {
        cross_zone_load_balancing: Some(CrossZoneLoadBalancing { enabled: attributes.cross_zone }),
        access_log: Some(AccessLog { enabled: false, ..AccessLog::default() }),
        connection_draining: Some(ConnectionDraining {
            enabled: attributes.draining,
            timeout: Some(attributes.draining_timeout.into()),
        }),
        connection_settings: Some(ConnectionSettings {
            idle_timeout: attributes.idle_timeout.into(),
        }),
        additional_attributes: vec![AdditionalAttribute {
            key: Some(DESYNC.to_owned()),
            value: Some(attributes.desync_mitigation.clone()),
        }],
    }
}

/// What was not asked for is not answered.
fn only_given(
    all: LoadBalancerAttributes,
    given: &LoadBalancerAttributes,
) -> LoadBalancerAttributes {
    LoadBalancerAttributes {
        cross_zone_load_balancing: given
            .cross_zone_load_balancing
            .as_ref()
            .and(all.cross_zone_load_balancing),
        access_log: given.access_log.as_ref().and(all.access_log),
        connection_draining: given.connection_draining.as_ref().and(all.connection_draining),
        connection_settings: given.connection_settings.as_ref().and(all.connection_settings),
        additional_attributes: match given.additional_attributes.is_empty() {
            true => Vec::new(),
            false => all.additional_attributes,
        },
    }
}
