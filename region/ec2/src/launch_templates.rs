//! Launch templates and their versions.

mod of_instance;
mod shape;

use aws_ec2::launch_template::{
    CreateLaunchTemplateRequest, CreateLaunchTemplateResponse, CreateLaunchTemplateVersionRequest,
    CreateLaunchTemplateVersionResponse, DeleteLaunchTemplateRequest, DeleteLaunchTemplateResponse,
    DeleteLaunchTemplateVersionsRequest, DeleteLaunchTemplateVersionsResponse,
    DeleteLaunchTemplateVersionsResponseErrorItem, DeleteLaunchTemplateVersionsResponseSuccessItem,
    DescribeLaunchTemplateVersionsRequest, DescribeLaunchTemplateVersionsResponse,
    DescribeLaunchTemplatesRequest, DescribeLaunchTemplatesResponse, ModifyLaunchTemplateRequest,
    ModifyLaunchTemplateResponse, ResponseError,
};
use aws_wire::Fault;

pub(crate) use self::of_instance::of_instance;

use crate::{
    Call, client_tokens, faults,
    instances::run::check_user_data,
    query::{self, Values, one},
    records::{LaunchTemplate, TemplateVersion},
    state::State,
    tagging,
};

const TYPE: &str = "launch-template";

pub(crate) fn create(
    call: &Call<'_>,
    state: &mut State,
    request: CreateLaunchTemplateRequest,
) -> Result<CreateLaunchTemplateResponse, Fault> {
    let token = request.client_token.clone();
    let (action, token) = ("CreateLaunchTemplate", token.as_deref());
    let id = client_tokens::once(call, state, action, token, request, |state, it| {
        made(call, state, it)
    })?;
    let launch_template = Some(shape::template(state.launch_templates.find(&id)?));
    Ok(CreateLaunchTemplateResponse { launch_template, warning: None })
}

fn made(
    call: &Call<'_>,
    state: &mut State,
    request: CreateLaunchTemplateRequest,
) -> Result<String, Fault> {
    let name = request.launch_template_name;
    if !(3..=128).contains(&name.len()) {
        return Err(Fault::new(
            "InvalidLaunchTemplateName.MalformedException",
            "A launch template name must be between 3 and 128 characters.",
        ));
    }
    if state.launch_templates.iter().any(|it| it.name == name) {
        return Err(Fault::new(
            "InvalidLaunchTemplateName.AlreadyExistsException",
            format!("Launch template name already in use: {name}."),
        ));
    }
    check_user_data(request.launch_template_data.user_data.as_deref())?;
    let tags = tagging::of_specifications(call, &request.tag_specifications, TYPE, &[TYPE])?;
    let version = TemplateVersion {
        description: request.version_description,
        created_at: call.now,
        created_by: call.caller.arn.clone(),
        data: request.launch_template_data,
    };
    let id = entropy::aws_id("lt");
    let template = LaunchTemplate {
        id: id.clone(),
        name,
        created_at: call.now,
        created_by: call.caller.arn.clone(),
        default_version: 1,
        latest_version: 1,
        versions: [(1, version)].into(),
        tags,
    };
    state.launch_templates.insert(template);
    Ok(id)
}

pub(crate) fn create_version(
    call: &Call<'_>,
    state: &mut State,
    request: CreateLaunchTemplateVersionRequest,
) -> Result<CreateLaunchTemplateVersionResponse, Fault> {
    let (id, name) =
        (request.launch_template_id.as_deref(), request.launch_template_name.as_deref());
    let template_id = find(state, id, name)?.id.clone();
    let token = request.client_token.clone();
    let (action, token) = ("CreateLaunchTemplateVersion", token.as_deref());
    let made = client_tokens::once(call, state, action, token, request, |state, it| {
        made_version(call, state, &template_id, it)
    })?;
    let (template, version) = resolve(state, Some(&template_id), None, Some(&made))?;
    let number = made.parse().unwrap_or(template.latest_version);
    let launch_template_version = Some(shape::version(template, number, version));
    Ok(CreateLaunchTemplateVersionResponse { launch_template_version, warning: None })
}

/// The new version's number.
fn made_version(
    call: &Call<'_>,
    state: &mut State,
    template_id: &str,
    request: CreateLaunchTemplateVersionRequest,
) -> Result<String, Fault> {
    check_user_data(request.launch_template_data.user_data.as_deref())?;
    let data = match request.source_version.as_deref() {
        None => request.launch_template_data,
        Some(source) => {
            let (_, source) = resolve(state, Some(template_id), None, Some(source))?;
            shape::merge(&source.data, &request.launch_template_data)?
        }
    };
    let template = state.launch_templates.edit(template_id)?;
    template.latest_version += 1;
    let number = template.latest_version;
    let version = TemplateVersion {
        description: request.version_description,
        created_at: call.now,
        created_by: call.caller.arn.clone(),
        data,
    };
    template.versions.insert(number, version);
    Ok(number.to_string())
}

/// The template of that id or name; exactly one of them is given.
fn find<'a>(
    state: &'a State,
    id: Option<&str>,
    name: Option<&str>,
) -> Result<&'a LaunchTemplate, Fault> {
    match (id, name) {
        (Some(id), None) => state.launch_templates.find(id),
        (None, Some(name)) => {
            state.launch_templates.iter().find(|it| it.name == name).ok_or_else(|| {
                Fault::new(
                    "InvalidLaunchTemplateName.NotFoundException",
                    format!(
                        "The specified launch template, with template name {name}, does not exist."
                    ),
                )
            })
        }
        (None, None) => Err(faults::missing("LaunchTemplateId or LaunchTemplateName")),
        (Some(_), Some(_)) => Err(faults::combination(
            "Only one of LaunchTemplateId and LaunchTemplateName may be given.",
        )),
    }
}

/// A template and the version that `version` stands for (`$Default` when not given).
pub(crate) fn resolve<'a>(
    state: &'a State,
    id: Option<&str>,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<(&'a LaunchTemplate, &'a TemplateVersion), Fault> {
    let template = find(state, id, name)?;
    let number = number(template, version.unwrap_or("$Default"))?;
    Ok((template, template.versions.get(&number).ok_or_else(|| no_version(template, number))?))
}

fn number(template: &LaunchTemplate, version: &str) -> Result<i64, Fault> {
    match version {
        "$Default" => Ok(template.default_version),
        // The newest that is left.
        "$Latest" => Ok(template.versions.keys().next_back().copied().unwrap_or_default()),
        other => other.parse().map_err(|_| {
            Fault::new(
                "InvalidLaunchTemplateId.VersionNotFound",
                format!("Could not find the specified version {other} for the launch template with ID {}.", template.id),
            )
        }),
    }
}

fn no_version(template: &LaunchTemplate, number: i64) -> Fault {
    Fault::new(
        "InvalidLaunchTemplateId.VersionNotFound",
        format!(
            "Could not find the specified version {number} for the launch template with ID {}.",
            template.id
        ),
    )
}

pub(crate) fn describe(
    _call: &Call<'_>,
    state: &State,
    request: DescribeLaunchTemplatesRequest,
) -> Result<DescribeLaunchTemplatesResponse, Fault> {
    let mut ids = request.launch_template_ids;
    for name in &request.launch_template_names {
        ids.push(find(state, None, Some(name))?.id.clone());
    }
    let query = query::Query {
        ids: &ids,
        filters: &request.filters,
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
    };
    let (found, next_token) = query::run(&state.launch_templates, query, attribute)?;
    let launch_templates = found.into_iter().map(shape::template).collect();
    Ok(DescribeLaunchTemplatesResponse { launch_templates, next_token })
}

fn attribute(template: &LaunchTemplate, name: &str) -> Values {
    match name {
        "launch-template-name" => one(&template.name),
        "create-time" => one(crate::names::date(template.created_at)),
        _ => None,
    }
}

/// Versions of one template, or, without a template, the `$Latest` or `$Default` of all.
pub(crate) fn describe_versions(
    _call: &Call<'_>,
    state: &State,
    request: DescribeLaunchTemplateVersionsRequest,
) -> Result<DescribeLaunchTemplateVersionsResponse, Fault> {
    let named = (request.launch_template_id.as_deref(), request.launch_template_name.as_deref());
    let mut found = Vec::new();
    if named == (None, None) {
        if request.versions.is_empty() {
            return Err(faults::missing("LaunchTemplateId or LaunchTemplateName"));
        }
        for template in state.launch_templates.iter() {
            push_versions(template, &request.versions, &mut found)?;
        }
    } else {
        let template = find(state, named.0, named.1)?;
        if request.versions.is_empty() {
            let bound =
                |it: &Option<String>| it.as_deref().map(|it| number(template, it)).transpose();
            let (min, max) = (bound(&request.min_version)?, bound(&request.max_version)?);
            let in_range = template.versions.iter().rev().filter(|(number, _)| {
                min.is_none_or(|it| **number >= it) && max.is_none_or(|it| **number <= it)
            });
            found.extend(in_range.map(|(number, version)| (template, *number, version)));
        } else {
            push_versions(template, &request.versions, &mut found)?;
        }
    }
    query::check(&request.filters, |name| {
        version_attribute(&TemplateVersion::default(), false, name)
    })?;
    let mut passed = Vec::new();
    for (template, number, version) in found {
        let is_default = template.default_version == number;
        let passes = query::passes(&request.filters, query::no_tags(), |name| {
            version_attribute(version, is_default, name)
        })?;
        if passes {
            passed.push(shape::version(template, number, version));
        }
    }
    // Newest first, as EC2 lists them; a page's key must ascend, so it counts down.
    let keyed: Vec<_> = passed
        .into_iter()
        .enumerate()
        .map(|(index, version)| (format!("{index:010}"), version))
        .collect();
    let (page, next_token) =
        query::page(keyed, request.max_results, request.next_token.as_deref(), |(key, _)| key)?;
    let launch_template_versions = page.into_iter().map(|(_, it)| it).collect();
    Ok(DescribeLaunchTemplateVersionsResponse { launch_template_versions, next_token })
}

fn version_attribute(version: &TemplateVersion, is_default: bool, name: &str) -> Values {
    match name {
        "is-default-version" => one(is_default),
        "image-id" => query::maybe(version.data.image_id.as_ref()),
        "instance-type" => query::maybe(version.data.instance_type.as_ref()),
        "create-time" => one(crate::names::date(version.created_at)),
        _ => None,
    }
}

fn push_versions<'a>(
    template: &'a LaunchTemplate,
    versions: &[String],
    found: &mut Vec<(&'a LaunchTemplate, i64, &'a TemplateVersion)>,
) -> Result<(), Fault> {
    for version in versions {
        let number = number(template, version)?;
        let version = template.versions.get(&number).ok_or_else(|| no_version(template, number))?;
        found.push((template, number, version));
    }
    Ok(())
}

pub(crate) fn modify(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyLaunchTemplateRequest,
) -> Result<ModifyLaunchTemplateResponse, Fault> {
    let (id, name) =
        (request.launch_template_id.as_deref(), request.launch_template_name.as_deref());
    let template = find(state, id, name)?;
    let id = template.id.clone();
    let wanted = request.default_version.as_deref();
    let number = wanted.map(|it| number(template, it)).transpose()?;
    if let Some(number) = number.filter(|it| !template.versions.contains_key(it)) {
        return Err(no_version(template, number));
    }
    let template = state.launch_templates.edit(&id)?;
    template.default_version = number.unwrap_or(template.default_version);
    Ok(ModifyLaunchTemplateResponse { launch_template: Some(shape::template(template)) })
}

pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteLaunchTemplateRequest,
) -> Result<DeleteLaunchTemplateResponse, Fault> {
    let (id, name) =
        (request.launch_template_id.as_deref(), request.launch_template_name.as_deref());
    let id = find(state, id, name)?.id.clone();
    let template = state.launch_templates.remove(&id)?;
    Ok(DeleteLaunchTemplateResponse { launch_template: Some(shape::template(&template)) })
}

/// Each version succeeds or fails alone; the default one cannot go.
pub(crate) fn delete_versions(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteLaunchTemplateVersionsRequest,
) -> Result<DeleteLaunchTemplateVersionsResponse, Fault> {
    let (id, name) =
        (request.launch_template_id.as_deref(), request.launch_template_name.as_deref());
    let id = find(state, id, name)?.id.clone();
    let mut response = DeleteLaunchTemplateVersionsResponse::default();
    let template = state.launch_templates.edit(&id)?;
    for version in &request.versions {
        let number = number(template, version)?;
        let refusal = match template.versions.contains_key(&number) {
            false => Some(("launchTemplateVersionDoesNotExist", "The version does not exist.")),
            true if number == template.default_version => {
                Some(("unexpectedError", "The default version cannot be deleted."))
            }
            true => None,
        };
        let (launch_template_id, launch_template_name) =
            (Some(template.id.clone()), Some(template.name.clone()));
        match refusal {
            None => {
                template.versions.remove(&number);
                response.successfully_deleted_launch_template_versions.push(
                    DeleteLaunchTemplateVersionsResponseSuccessItem {
                        launch_template_id,
                        launch_template_name,
                        version_number: Some(number),
                    },
                );
            }
            Some((code, message)) => {
                let error = ResponseError {
                    code: Some(code.to_owned()),
                    message: Some(message.to_owned()),
                };
                response.unsuccessfully_deleted_launch_template_versions.push(
                    DeleteLaunchTemplateVersionsResponseErrorItem {
                        launch_template_id,
                        launch_template_name,
                        version_number: Some(number),
                        response_error: Some(error),
                    },
                );
            }
        }
    }
    Ok(response)
}
