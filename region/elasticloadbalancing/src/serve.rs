//! Which function serves which operation, and which load balancers IAM is asked about.
//!
//! Source: Service Authorization Reference, "AWS Elastic Load Balancing". What describes is decided on
//! without resources.

use std::sync::Arc;

use aws_elasticloadbalancing as api;
use aws_wire::{Fault, Operation};
use region_gateway::{Caller, Handle, Routes, Target};

use crate::{
    ElasticLoadBalancing, attributes, health_check, instances, listeners, load_balancers, network,
    policies, tags,
};

macro_rules! serve {
    ($($module:ident::$operation:ident: $function:path,
       |$service:ident, $request:ident| $targets:expr;)*) => {
        $(impl Handle<api::$module::$operation> for ElasticLoadBalancing {
            fn targets(
                &self,
                _caller: &Caller,
                $request: &<api::$module::$operation as Operation>::Request,
            ) -> Vec<Target> {
                let ($service, _) = (self, $request);
                $targets
            }

            async fn handle(
                &self,
                caller: &Caller,
                request: <api::$module::$operation as Operation>::Request,
            ) -> Result<<api::$module::$operation as Operation>::Response, Fault> {
                $function(self, self.call(caller), request).await
            }
        })*

        /// Every operation of the service.
        pub fn routes(service: &Arc<ElasticLoadBalancing>) -> Routes {
            let routes = Routes::new();
            $(let routes = routes.operation::<api::$module::$operation, _>(service.clone());)*
            routes
        }
    };
}

fn any() -> Vec<Target> {
    vec![Target::any()]
}

fn one(service: &ElasticLoadBalancing, name: &str) -> Vec<Target> {
    vec![tags::target(service, name)]
}

serve! {
    load_balancer::CreateLoadBalancer: load_balancers::create, |service, it| {
        let target = tags::target(service, &it.load_balancer_name);
        tags::making(tags::with_request_tags(target, &it.tags))
    };
    load_balancer::DeleteLoadBalancer: load_balancers::delete,
        |service, it| one(service, &it.load_balancer_name);
    load_balancer::DescribeLoadBalancers: load_balancers::describe, |_it, _request| any();
    load_balancer::ApplySecurityGroupsToLoadBalancer: network::apply_groups,
        |service, it| one(service, &it.load_balancer_name);
    load_balancer::AttachLoadBalancerToSubnets: network::attach,
        |service, it| one(service, &it.load_balancer_name);
    load_balancer::DetachLoadBalancerFromSubnets: network::detach,
        |service, it| one(service, &it.load_balancer_name);
    listener::CreateLoadBalancerListeners: listeners::create,
        |service, it| one(service, &it.load_balancer_name);
    listener::DeleteLoadBalancerListeners: listeners::delete,
        |service, it| one(service, &it.load_balancer_name);
    listener::SetLoadBalancerPoliciesOfListener: policies::set_on_listener,
        |service, it| one(service, &it.load_balancer_name);
    instance::RegisterInstancesWithLoadBalancer: instances::register,
        |service, it| one(service, &it.load_balancer_name);
    instance::DeregisterInstancesFromLoadBalancer: instances::deregister,
        |service, it| one(service, &it.load_balancer_name);
    instance::DescribeInstanceHealth: instances::health, |_it, _request| any();
    instance::ConfigureHealthCheck: health_check::configure,
        |service, it| one(service, &it.load_balancer_name);
    attribute::DescribeLoadBalancerAttributes: attributes::describe, |_it, _request| any();
    attribute::ModifyLoadBalancerAttributes: attributes::modify,
        |service, it| one(service, &it.load_balancer_name);
    policy::CreateLoadBalancerPolicy: policies::create,
        |service, it| one(service, &it.load_balancer_name);
    policy::DeleteLoadBalancerPolicy: policies::delete,
        |service, it| one(service, &it.load_balancer_name);
    policy::DescribeLoadBalancerPolicies: policies::describe, |_it, _request| any();
    policy::SetLoadBalancerPoliciesForBackendServer: policies::set_on_instances,
        |service, it| one(service, &it.load_balancer_name);
    tag::AddTags: tags::add, |service, it| {
        let names = it.load_balancer_names.iter();
        names.map(|name| tags::with_request_tags(tags::target(service, name), &it.tags)).collect()
    };
    tag::RemoveTags: tags::remove, |service, it| {
        it.load_balancer_names.iter().map(|name| tags::target(service, name)).collect()
    };
    tag::DescribeTags: tags::describe, |_it, _request| any();
}
