//! Which function serves which operation, and which parameters IAM is asked about.

use std::sync::Arc;

use aws_ssm as api;
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, Routes, Target};

use crate::{Ssm, parameters::arn, read, tagging, write};

macro_rules! serve {
    ($($module:ident::$operation:ident: $function:path, |$request:ident| $names:expr;)*) => {
        $(impl Handle<api::$module::$operation> for Ssm {
            fn targets(
                &self,
                _caller: &Caller,
                $request: &<api::$module::$operation as Operation>::Request,
            ) -> Vec<Target> {
                let names: Vec<&String> = $names;
                names.into_iter().map(|it| target(self, it)).collect()
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
            routes.operation::<api::parameter::DescribeParameters, _>(ssm.clone())
        }
    };
}

fn target(ssm: &Ssm, name: &str) -> Target {
    match name.starts_with("arn:") {
        true => Target::resource(name),
        false => Target::resource(arn(ssm.config(), &ssm.config().account, name)),
    }
}

serve! {
    parameter::GetParameter: read::get, |it| vec![&it.name];
    parameter::GetParameters: read::get_many, |it| it.names.iter().collect();
    parameter::GetParametersByPath: read::get_by_path, |it| vec![&it.path];
    parameter::PutParameter: write::put, |it| vec![&it.name];
    parameter::DeleteParameter: write::delete, |it| vec![&it.name];
    parameter::DeleteParameters: write::delete_many, |it| it.names.iter().collect();
    tag::AddTagsToResource: tagging::add, |it| vec![&it.resource_id];
    tag::RemoveTagsFromResource: tagging::remove, |it| vec![&it.resource_id];
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
