//! Reading parameters: by name, by path, and their metadata.

use aws_ssm::parameter::{
    DescribeParametersRequest, DescribeParametersResponse, GetParameterRequest,
    GetParameterResponse, GetParametersByPathRequest, GetParametersByPathResponse,
    GetParametersRequest, GetParametersResponse, ParameterStringFilter,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Ssm, parameters::Parameter};

pub(crate) fn no_such(name: &str) -> Fault {
    Fault::new("ParameterNotFound", format!("Parameter {name} not found."))
}

pub(crate) fn get(
    ssm: &Ssm,
    _caller: &Caller,
    request: GetParameterRequest,
) -> Result<GetParameterResponse, Fault> {
    let (found, selector) = select(ssm, &request.name)?;
    Ok(GetParameterResponse { parameter: Some(found.answer(ssm.config(), selector)) })
}

/// The parameter that `NAME`, `NAME:VERSION`, or one of these as a whole ARN, is about, with the version.
/// IAM decides on what is found here: whatever is asked for is asked for by this.
pub(crate) fn meant<'a>(ssm: &Ssm, asked: &'a str) -> Option<(Parameter, Option<&'a str>)> {
    let Some(rest) = asked.strip_prefix("arn:") else {
        let whole = ssm.find(asked).map(|it| (it, None));
        return whole.or_else(|| {
            let (name, version) = asked.split_once(':')?;
            Some((ssm.find(name)?, Some(version)))
        });
    };
    // A name in an ARN has one slash before it, its own or the ARN's.
    let (_, name) = rest.split_once(":parameter/")?;
    let (name, version) = match name.split_once(':') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    };
    let found = ssm.find(&format!("/{name}")).or_else(|| ssm.find(name))?;
    // An ARN of another account or region names nothing here.
    let own = found.arn(ssm.config());
    let given = asked.strip_suffix(version.unwrap_or_default()).unwrap_or(asked);
    (given.trim_end_matches(':') == own).then_some((found, version))
}

fn select<'a>(ssm: &Ssm, asked: &'a str) -> Result<(Parameter, Option<&'a str>), Fault> {
    let (found, version) = meant(ssm, asked).ok_or_else(|| no_such(asked))?;
    let Some(version) = version else { return Ok((found, None)) };
    let name = &found.name;
    if found.version.to_string() != version {
        return Err(Fault::new(
            "ParameterVersionNotFound",
            format!("Systems Manager could not find version {version} of {name}."),
        ));
    }
    let selector = asked.rfind(':').map(|at| &asked[at..]);
    Ok((found, selector))
}

pub(crate) fn get_many(
    ssm: &Ssm,
    _caller: &Caller,
    request: GetParametersRequest,
) -> Result<GetParametersResponse, Fault> {
    if request.names.is_empty() || request.names.len() > 10 {
        return Err(Fault::new("ValidationException", "Between 1 and 10 names must be given."));
    }
    let mut response = GetParametersResponse::default();
    for name in request.names {
        match select(ssm, &name) {
            Ok((found, selector)) => response.parameters.push(found.answer(ssm.config(), selector)),
            Err(_) => response.invalid_parameters.push(name),
        }
    }
    Ok(response)
}

pub(crate) fn get_by_path(
    ssm: &Ssm,
    _caller: &Caller,
    request: GetParametersByPathRequest,
) -> Result<GetParametersByPathResponse, Fault> {
    if !request.path.starts_with('/') {
        return Err(Fault::new(
            "ValidationException",
            "The parameter path must begin with a slash.",
        ));
    }
    let path = format!("{}/", request.path.trim_end_matches('/'));
    let is_recursive = request.recursive == Some(true);
    let mut found = Vec::new();
    for parameter in ssm.under(&path) {
        let is_direct = !parameter.name[path.len()..].contains('/');
        if (is_recursive || is_direct) && passes(&parameter, &request.parameter_filters)? {
            found.push(parameter);
        }
    }
    let (found, next_token) = page(found, request.max_results, request.next_token.as_deref(), 10)?;
    let parameters = found.iter().map(|it| it.answer(ssm.config(), None)).collect();
    Ok(GetParametersByPathResponse { parameters, next_token })
}

/// The account's own parameters only, as on AWS.
pub(crate) fn describe(
    ssm: &Ssm,
    _caller: &Caller,
    request: DescribeParametersRequest,
) -> Result<DescribeParametersResponse, Fault> {
    let mut found = Vec::new();
    for parameter in ssm.own() {
        if passes(&parameter, &request.parameter_filters)? {
            found.push(Parameter::clone(&parameter));
        }
    }
    let (found, next_token) = page(found, request.max_results, request.next_token.as_deref(), 50)?;
    let parameters = found.iter().map(|it| it.metadata(ssm.config())).collect();
    Ok(DescribeParametersResponse { parameters, next_token })
}

fn passes(parameter: &Parameter, filters: &[ParameterStringFilter]) -> Result<bool, Fault> {
    let mut passes = true;
    for filter in filters {
        let value = match filter.key.as_str() {
            "Name" => parameter.name.as_str(),
            "Type" => parameter.kind.as_str(),
            "DataType" => parameter.data_type.as_str(),
            "Tier" => "Standard",
            "Path" => {
                passes &= filter.values.iter().any(|it| {
                    parameter.name.starts_with(&format!("{}/", it.trim_end_matches('/')))
                });
                continue;
            }
            key => match key.strip_prefix("tag:") {
                Some(key) => parameter.tags.get(key).map_or("", String::as_str),
                None => {
                    return Err(Fault::new(
                        "InvalidFilterKey",
                        format!("The filter key {key} is not valid."),
                    ));
                }
            },
        };
        passes &= match filter.option.as_deref().unwrap_or("Equals") {
            "Equals" => filter.values.iter().any(|it| it == value),
            "BeginsWith" => filter.values.iter().any(|it| value.starts_with(it.as_str())),
            "Contains" => filter.values.iter().any(|it| value.contains(it.as_str())),
            other => {
                return Err(Fault::new(
                    "InvalidFilterOption",
                    format!("The filter option {other} is not valid."),
                ));
            }
        };
    }
    Ok(passes)
}

/// A page's token is the last name given.
fn page(
    parameters: Vec<Parameter>,
    max: Option<i64>,
    token: Option<&str>,
    most: usize,
) -> Result<(Vec<Parameter>, Option<String>), Fault> {
    let limit = max.map_or(Ok(most), usize::try_from).unwrap_or(0);
    if limit == 0 || limit > most {
        return Err(Fault::new(
            "ValidationException",
            format!("MaxResults must be between 1 and {most}."),
        ));
    }
    let mut rest: Vec<Parameter> = parameters
        .into_iter()
        .filter(|it| token.is_none_or(|token| it.name.as_str() > token))
        .collect();
    if rest.len() <= limit {
        return Ok((rest, None));
    }
    rest.truncate(limit);
    let token = rest.last().map(|it| it.name.clone());
    Ok((rest, token))
}
