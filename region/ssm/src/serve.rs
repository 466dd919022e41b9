//! Which function serves which operation, and which parameters IAM is asked about.

use std::sync::Arc;

use aws_ssm as api;
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, Routes, Target};

use crate::{Ssm, channels, commands, instances, parameters::arn, read, sessions, tagging, write};

macro_rules! serve {
    ($($module:ident::$operation:ident: $function:path, |$request:ident| $names:expr
        $(, |$target:ident| $with:expr)?;)*) => {
        $(impl Handle<api::$module::$operation> for Ssm {
            fn targets(
                &self,
                _caller: &Caller,
                $request: &<api::$module::$operation as Operation>::Request,
            ) -> Vec<Target> {
                let names: Vec<&String> = $names;
                let targets = names.into_iter().map(|it| target(self, it));
                $(let targets = targets.flat_map(|$target| $with);)?
                targets.collect()
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <api::$module::$operation as Operation>::Request,
            ) -> Result<<api::$module::$operation as Operation>::Response, Fault> {
                $function(self, caller, request)
            }
        })*

        /// Every operation of the service.
        pub fn routes(ssm: &Arc<Ssm>) -> Routes {
            let routes = Routes::new();
            $(let routes = routes.operation::<api::$module::$operation, _>(ssm.clone());)*
            let routes = managed_routes(routes, ssm);
            routes.operation::<api::parameter::DescribeParameters, _>(ssm.clone())
        }
    };
}

/// The parameter itself, in whatever way it is named, with its tags.
fn target(ssm: &Ssm, name: &str) -> Target {
    if let Some((found, _)) = read::meant(ssm, name) {
        let tags = found.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        return Target::resource(found.arn(ssm.config())).with_tags("aws:ResourceTag", tags);
    }
    match name.starts_with("arn:") {
        true => Target::resource(name),
        false => Target::resource(arn(ssm.config(), &ssm.config().account, name)),
    }
}

fn tagging(target: Target, tags: &[api::tag::Tag]) -> Target {
    let tags = tags
        .iter()
        .map(|it| (it.key.as_deref().unwrap_or_default(), it.value.as_deref().unwrap_or_default()));
    target.with_tags("aws:RequestTag", tags)
}

/// A parameter that is put with tags asks for the right to tag it, too.
fn making(target: Target) -> Vec<Target> {
    let arn = target.resource.clone();
    target.and_tagging("ssm:AddTagsToResource", arn)
}

serve! {
    parameter::GetParameter: read::get, |it| vec![&it.name];
    parameter::GetParameters: read::get_many, |it| it.names.iter().collect();
    parameter::GetParametersByPath: read::get_by_path, |it| vec![&it.path];
    parameter::PutParameter: write::put, |it| vec![&it.name],
        |target| making(tagging(target, &it.tags));
    parameter::DeleteParameter: write::delete, |it| vec![&it.name];
    parameter::DeleteParameters: write::delete_many, |it| it.names.iter().collect();
    tag::AddTagsToResource: tagging::add, |it| vec![&it.resource_id],
        |target| [tagging(target, &it.tags)];
    tag::RemoveTagsFromResource: tagging::remove, |it| vec![&it.resource_id],
        |target| [target.with("aws:TagKeys", it.tag_keys.iter().cloned())];
    tag::ListTagsForResource: tagging::list, |it| vec![&it.resource_id];
}

impl Handle<api::parameter::DescribeParameters> for Ssm {
    async fn handle(
        &self,
        caller: &Caller,
        request: api::parameter::DescribeParametersRequest,
    ) -> Result<api::parameter::DescribeParametersResponse, Fault> {
        read::describe(self, caller, request)
    }
}

/// What is about instances.
macro_rules! managed {
    ($($module:ident::$operation:ident: $function:path, |$ssm:ident, $request:ident| $targets:expr;)*) => {
        $(impl Handle<api::$module::$operation> for Ssm {
            fn targets(
                &self,
                _caller: &Caller,
                $request: &<api::$module::$operation as Operation>::Request,
            ) -> Vec<Target> {
                let $ssm = self;
                $targets
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <api::$module::$operation as Operation>::Request,
            ) -> Result<<api::$module::$operation as Operation>::Response, Fault> {
                $function(self, caller, request)
            }
        })*

        fn managed_routes(routes: Routes, ssm: &Arc<Ssm>) -> Routes {
            $(let routes = routes.operation::<api::$module::$operation, _>(ssm.clone());)*
            routes
        }
    };
}

managed! {
    session::StartSession: sessions::start, |ssm, it| sessions::start_targets(ssm, it);
    session::ResumeSession: sessions::resume, |ssm, it| vec![sessions::target(ssm, &it.session_id)];
    session::TerminateSession: sessions::terminate,
        |ssm, it| vec![sessions::target(ssm, &it.session_id)];
    session::DescribeSessions: sessions::describe, |_ssm, _it| vec![Target::any()];
    session::GetConnectionStatus: instances::connection, |ssm, it| vec![ssm.instance_target(&it.target)];
    instance::DescribeInstanceInformation: instances::describe, |_ssm, _it| vec![Target::any()];
    instance::UpdateInstanceInformation: instances::update,
        |ssm, it| vec![ssm.instance_target(&it.instance_id)];
    command::SendCommand: commands::send, |ssm, it| commands::targets(ssm, it);
    command::GetCommandInvocation: commands::get, |_ssm, _it| vec![Target::any()];
    channel::CreateControlChannel: channels::create_control, |_ssm, _it| vec![Target::any()];
    channel::CreateDataChannel: channels::create_data, |_ssm, _it| vec![Target::any()];
}
