//! Writing the account's own parameters.

use std::collections::BTreeMap;

use aws_ssm::parameter::{
    DeleteParameterRequest, DeleteParameterResponse, DeleteParametersRequest,
    DeleteParametersResponse, PutParameterRequest, PutParameterResponse,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Ssm, parameters::Parameter, read::no_such};

/// Of the Standard tier.
const LONGEST_VALUE: usize = 4096;

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("ValidationException", message)
}

pub(crate) fn put(
    ssm: &Ssm,
    caller: &Caller,
    request: PutParameterRequest,
) -> Result<PutParameterResponse, Fault> {
    check_name(&request.name)?;
    if request.value.is_empty() || request.value.len() > LONGEST_VALUE {
        return Err(invalid(format!("A value has 1 to {LONGEST_VALUE} characters.")));
    }
    let now = ssm.now();
    let version = ssm.change(|transaction, own| {
        let known = transaction.get(own, &request.name);
        if known.is_some() && request.overwrite != Some(true) {
            return Err(Fault::new(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option \
                 in the request to true.",
            ));
        }
        let kind = request.r#type.clone().or(known.as_ref().map(|it| it.kind.clone()));
        let kind = kind.unwrap_or("String".to_owned());
        match kind.as_str() {
            "String" | "StringList" => {}
            "SecureString" => {
                return Err(Fault::new(
                    "UnsupportedParameterType",
                    "SecureString parameters need KMS, which this region does not have.",
                ));
            }
            other => return Err(invalid(format!("The parameter type {other} is not valid."))),
        }
        let version = known.as_ref().map_or(0, |it| it.version) + 1;
        let mut tags = known.as_ref().map_or_else(BTreeMap::new, |it| it.tags.clone());
        for tag in &request.tags {
            let key = tag.key.clone().unwrap_or_default();
            tags.insert(key, tag.value.clone().unwrap_or_default());
        }
        let parameter = Parameter {
            name: request.name.clone(),
            kind,
            value: request.value.clone(),
            version,
            description: request
                .description
                .clone()
                .or(known.as_ref().and_then(|it| it.description.clone())),
            data_type: request.data_type.clone().unwrap_or("text".to_owned()),
            modified_at: now,
            modified_by: caller.arn.clone(),
            tags,
        };
        transaction.put(own, request.name.clone(), parameter);
        Ok(version)
    })?;
    Ok(PutParameterResponse { version: Some(version), tier: Some("Standard".to_owned()) })
}

fn check_name(name: &str) -> Result<(), Fault> {
    let lower = name.trim_start_matches('/').to_ascii_lowercase();
    if lower.starts_with("aws") || lower.starts_with("ssm") {
        return Err(Fault::new(
            "AccessDeniedException",
            "No access to reserved parameter name: ".to_owned() + name,
        ));
    }
    let is_word = |it: char| it.is_ascii_alphanumeric() || "_.-/".contains(it);
    let has_path = name.contains('/');
    if name.is_empty()
        || name.len() > 1011
        || !name.chars().all(is_word)
        || (has_path && !name.starts_with('/'))
        || name.ends_with('/')
    {
        return Err(invalid(
            "Parameter name must be a fully qualified name: letters, digits and _.-, with a \
             leading slash where it has a path.",
        ));
    }
    Ok(())
}

pub(crate) fn delete(
    ssm: &Ssm,
    _caller: &Caller,
    request: DeleteParameterRequest,
) -> Result<DeleteParameterResponse, Fault> {
    ssm.change(|transaction, own| {
        transaction.get(own, &request.name).ok_or_else(|| no_such(&request.name))?;
        transaction.delete(own, &request.name);
        Ok(())
    })?;
    Ok(DeleteParameterResponse {})
}

pub(crate) fn delete_many(
    ssm: &Ssm,
    _caller: &Caller,
    request: DeleteParametersRequest,
) -> Result<DeleteParametersResponse, Fault> {
    ssm.change(|transaction, own| {
        let mut response = DeleteParametersResponse::default();
        for name in request.names {
            if transaction.get(own, &name).is_some() {
                transaction.delete(own, &name);
                response.deleted_parameters.push(name);
            } else {
                response.invalid_parameters.push(name);
            }
        }
        Ok(response)
    })
}
