//! What a claim asks for, with the selectors of its device classes.

use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceClass, DeviceConstraint, DeviceSelector, DeviceToleration,
    ResourceClaim,
};

use super::{
    Consumed,
    capacity::parse,
    cel::{self, Expression},
};

/// Why a claim cannot be allocated anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError(pub String);

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct ClaimRequest {
    pub(super) requests: Vec<Request>,
    pub(super) constraints: Vec<DeviceConstraint>,
}

/// The first alternative that can be had is.
#[derive(Debug)]
pub(super) struct Request {
    pub name: String,
    pub alternatives: Vec<Want>,
}

#[derive(Debug)]
pub(super) struct Want {
    /// `REQUEST`, or `REQUEST/ALTERNATIVE`.
    pub name: String,
    pub class: String,
    pub selectors: Vec<Expression>,
    /// `None` is all that match.
    pub count: Option<usize>,
    pub is_admin: bool,
    pub tolerations: Vec<DeviceToleration>,
    /// Of the device's capacities.
    pub capacity: Consumed,
}

/// What exact requests and alternatives have in common.
struct Parts<'a> {
    name: String,
    class: &'a str,
    selectors: Option<&'a Vec<DeviceSelector>>,
    mode: Option<&'a str>,
    count: Option<i64>,
    is_admin: bool,
    tolerations: Option<&'a Vec<DeviceToleration>>,
    capacity: Option<&'a CapacityRequirements>,
}

impl ClaimRequest {
    /// `class` finds a DeviceClass.
    pub fn new<C: AsRef<DeviceClass>>(
        claim: &ResourceClaim,
        class: impl Fn(&str) -> Option<C>,
    ) -> Result<Self, RequestError> {
        let devices = claim.spec.devices.clone().unwrap_or_default();
        let mut requests = Vec::new();
        for it in devices.requests.iter().flatten() {
            let mut alternatives = Vec::new();
            if let Some(exact) = &it.exactly {
                alternatives.push(Parts {
                    name: it.name.clone(),
                    class: &exact.device_class_name,
                    selectors: exact.selectors.as_ref(),
                    mode: exact.allocation_mode.as_deref(),
                    count: exact.count,
                    is_admin: exact.admin_access == Some(true),
                    tolerations: exact.tolerations.as_ref(),
                    capacity: exact.capacity.as_ref(),
                });
            }
            alternatives.extend(it.first_available.iter().flatten().map(|sub| Parts {
                name: format!("{}/{}", it.name, sub.name),
                class: &sub.device_class_name,
                selectors: sub.selectors.as_ref(),
                mode: sub.allocation_mode.as_deref(),
                count: sub.count,
                is_admin: false,
                tolerations: sub.tolerations.as_ref(),
                capacity: sub.capacity.as_ref(),
            }));
            let alternatives: Result<Vec<_>, _> =
                alternatives.into_iter().map(|it| want(it, &class)).collect();
            requests.push(Request { name: it.name.clone(), alternatives: alternatives? });
        }
        Ok(Self { requests, constraints: devices.constraints.unwrap_or_default() })
    }
}

fn want<C: AsRef<DeviceClass>>(
    parts: Parts<'_>,
    class: impl Fn(&str) -> Option<C>,
) -> Result<Want, RequestError> {
    let Parts { name, class: class_name, .. } = parts;
    let Some(class) = class(class_name) else {
        return Err(RequestError(format!(
            "request {name}: device class {class_name} does not exist"
        )));
    };
    let of_class = class.as_ref().spec.selectors.iter().flatten().map(|it| ("class", it));
    let of_request = parts.selectors.into_iter().flatten().map(|it| ("request", it));
    let mut selectors = Vec::new();
    for (owner, selector) in of_class.chain(of_request) {
        let text = selector.cel.as_ref().map(|it| it.expression.as_str()).unwrap_or_default();
        let parsed = cel::parse(text).map_err(|error| {
            RequestError(format!("request {name}: CEL expression of the {owner}: {error}"))
        })?;
        selectors.push(parsed);
    }
    let capacity = parts.capacity.iter().flat_map(|it| it.requests.iter().flatten());
    let count = usize::try_from(parts.count.unwrap_or(1)).unwrap_or(1);
    Ok(Want {
        name,
        class: class_name.to_owned(),
        selectors,
        count: (parts.mode != Some("All")).then_some(count),
        is_admin: parts.is_admin,
        tolerations: parts.tolerations.cloned().unwrap_or_default(),
        capacity: capacity.filter_map(|(name, it)| Some((name.clone(), parse(it)?))).collect(),
    })
}
