//! What is switched on instances, and what AWS offers in a VPC.

use aws_ec2::{
    dhcp_options::{
        AssociateDhcpOptions, AssociateDhcpOptionsRequest, CreateDhcpOptions,
        CreateDhcpOptionsRequest, DeleteDhcpOptions, DeleteDhcpOptionsRequest, DescribeDhcpOptions,
        DescribeDhcpOptionsRequest, NewDhcpConfiguration,
    },
    image_attribute::{DescribeImageAttribute, DescribeImageAttributeRequest},
    instance::{DescribeInstances, DescribeInstancesRequest},
    instance_attribute::{
        DescribeInstanceCreditSpecifications, DescribeInstanceCreditSpecificationsRequest,
    },
    instance_options::{
        GetPasswordData, GetPasswordDataRequest, InstanceCreditSpecificationRequest,
        ModifyInstanceCreditSpecification, ModifyInstanceCreditSpecificationRequest,
        ModifyInstanceMaintenanceOptions, ModifyInstanceMaintenanceOptionsRequest,
        ModifyPrivateDnsNameOptions, ModifyPrivateDnsNameOptionsRequest, MonitorInstances,
        MonitorInstancesRequest, ReplaceIamInstanceProfileAssociation,
        ReplaceIamInstanceProfileAssociationRequest, UnmonitorInstances, UnmonitorInstancesRequest,
    },
    launch_template::{GetLaunchTemplateData, GetLaunchTemplateDataRequest},
    managed_prefix_list::{
        DescribeManagedPrefixLists, DescribeManagedPrefixListsRequest, GetManagedPrefixListEntries,
        GetManagedPrefixListEntriesRequest,
    },
    run_instances::{IamInstanceProfileSpecification, RunInstancesRequest},
    security_group_for_vpc::{GetSecurityGroupsForVpc, GetSecurityGroupsForVpcRequest},
    vpc_endpoint_service::{DescribeVpcEndpointServices, DescribeVpcEndpointServicesRequest},
};

use super::support::*;

async fn monitoring(region: &Region) -> String {
    let found = region.call::<DescribeInstances>(DescribeInstancesRequest::default()).await;
    let instance = found.reservations[0].instances[0].clone();
    instance.monitoring.unwrap().state.unwrap()
}

#[tokio::test(start_paused = true)]
async fn monitoring_is_switched_on_and_off() {
    let region = region();
    let id = region.run(launch()).await.remove(0).instance_id.unwrap();
    let on = MonitorInstancesRequest { instance_ids: vec![id.clone()], dry_run: None };
    let answer = region.call::<MonitorInstances>(on).await.instance_monitorings.remove(0);
    assert_eq!(answer.monitoring.unwrap().state.as_deref(), Some("pending"));
    assert_eq!(monitoring(&region).await, "enabled");
    let off = UnmonitorInstancesRequest { instance_ids: vec![id], dry_run: None };
    region.call::<UnmonitorInstances>(off).await;
    assert_eq!(monitoring(&region).await, "disabled");
    let unknown = vec!["i-0123456789abcdef0".to_owned()];
    let unknown = MonitorInstancesRequest { instance_ids: unknown, dry_run: None };
    assert_eq!(region.code::<MonitorInstances>(unknown).await, "InvalidInstanceID.NotFound");
}

#[tokio::test(start_paused = true)]
async fn credits_are_for_burstable_instances() {
    let region = region();
    let burstable = RunInstancesRequest { instance_type: text("t3.medium"), ..launch() };
    let burstable = region.run(burstable).await.remove(0).instance_id.unwrap();
    let fixed = region.run(launch()).await.remove(0).instance_id.unwrap();
    let asked = [&burstable, &fixed].map(|id| InstanceCreditSpecificationRequest {
        instance_id: id.clone(),
        cpu_credits: text("standard"),
    });
    let request = ModifyInstanceCreditSpecificationRequest {
        instance_credit_specifications: asked.to_vec(),
        ..Default::default()
    };
    let answer = region.call::<ModifyInstanceCreditSpecification>(request).await;
    let changed = &answer.successful_instance_credit_specifications;
    assert_eq!(changed[0].instance_id.as_ref(), Some(&burstable));
    let refused = &answer.unsuccessful_instance_credit_specifications;
    assert_eq!(refused[0].instance_id.as_ref(), Some(&fixed));
    let code = refused[0].error.as_ref().unwrap().code.as_deref();
    assert_eq!(code, Some("InstanceCreditSpecification.NotSupported"));
    let request = DescribeInstanceCreditSpecificationsRequest::default();
    let found = region.call::<DescribeInstanceCreditSpecifications>(request).await;
    let credits = found.instance_credit_specifications[0].cpu_credits.as_deref();
    assert_eq!(credits, Some("standard"));

    let request = GetPasswordDataRequest { instance_id: fixed, dry_run: None };
    let password = region.call::<GetPasswordData>(request).await.password_data;
    assert_eq!(password.unwrap_or_default(), "", "Linux has none");
}

#[tokio::test(start_paused = true)]
async fn another_profile_takes_the_place_of_the_first() {
    let region = region();
    let profile = || IamInstanceProfileSpecification { name: text("node"), ..Default::default() };
    let with = RunInstancesRequest { iam_instance_profile: Some(profile()), ..launch() };
    let id = region.run(with).await.remove(0).instance_id.unwrap();
    let association =
        || region.ec2.view().instances.get(&id).unwrap().profile.clone().unwrap().association_id;
    let before = association();
    let replace = |association_id: &str| ReplaceIamInstanceProfileAssociationRequest {
        association_id: association_id.to_owned(),
        iam_instance_profile: profile(),
    };
    region.call::<ReplaceIamInstanceProfileAssociation>(replace(&before)).await;
    assert_ne!(association(), before);
    let code = region.code::<ReplaceIamInstanceProfileAssociation>(replace(&before)).await;
    assert_eq!(code, "InvalidAssociationID.NotFound");
}

fn dhcp(options: &[(&str, &str)]) -> CreateDhcpOptionsRequest {
    let configuration = |(key, value): &(&str, &str)| NewDhcpConfiguration {
        key: text(key),
        values: vec![(*value).to_owned()],
    };
    CreateDhcpOptionsRequest {
        dhcp_configurations: options.iter().map(configuration).collect(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_vpc_takes_dhcp_options_and_those_in_use_stay() {
    let region = region();
    let own = ("domain-name-servers", "AmazonProvidedDNS");
    let request = dhcp(&[("domain-name", "corp.example"), own]);
    let made = region.call::<CreateDhcpOptions>(request).await.dhcp_options.unwrap();
    let id = made.dhcp_options_id.unwrap();
    let vpc = region.ec2.default_vpc().unwrap();
    let associate = |id: &str| AssociateDhcpOptionsRequest {
        dhcp_options_id: id.to_owned(),
        vpc_id: vpc.id.clone(),
        dry_run: None,
    };
    region.call::<AssociateDhcpOptions>(associate(&id)).await;
    assert_eq!(region.ec2.default_vpc().unwrap().dhcp_options_id, id);
    let delete = || DeleteDhcpOptionsRequest { dhcp_options_id: id.clone(), dry_run: None };
    assert_eq!(region.code::<DeleteDhcpOptions>(delete()).await, "DependencyViolation");
    region.call::<AssociateDhcpOptions>(associate("default")).await;
    region.call::<DeleteDhcpOptions>(delete()).await;
    let request =
        DescribeDhcpOptionsRequest { dhcp_options_ids: vec![id.clone()], ..Default::default() };
    let gone = region.code::<DescribeDhcpOptions>(request).await;
    assert_eq!(gone, "InvalidDhcpOptionID.NotFound");
    for without_effect in
        [dhcp(&[("domain-name-servers", "10.0.0.1")]), dhcp(&[own, ("ntp-servers", "10.0.0.1")])]
    {
        let code = region.code::<CreateDhcpOptions>(without_effect).await;
        assert_eq!(code, "UnsupportedOperation");
    }
}

#[tokio::test(start_paused = true)]
async fn aws_says_what_it_offers_in_a_vpc() {
    let region = region();
    let by_name = DescribeManagedPrefixListsRequest {
        filters: vec![filter("prefix-list-name", &["com.amazonaws.us-east-1.s3"])],
        ..Default::default()
    };
    let lists = region.call::<DescribeManagedPrefixLists>(by_name).await.prefix_lists;
    let [list] = lists.as_slice() else { panic!("{lists:?}") };
    let entries = GetManagedPrefixListEntriesRequest {
        prefix_list_id: list.prefix_list_id.clone().unwrap(),
        ..Default::default()
    };
    let entries = region.call::<GetManagedPrefixListEntries>(entries).await.entries;
    assert_eq!(entries[0].cidr.as_deref(), Some("198.18.0.1/32"));

    let name = "com.amazonaws.us-east-1.ecr.api".to_owned();
    let services = DescribeVpcEndpointServicesRequest {
        service_names: vec![name.clone()],
        ..Default::default()
    };
    let services = region.call::<DescribeVpcEndpointServices>(services).await;
    assert_eq!(services.service_names, [name]);
    let private = services.service_details[0].private_dns_name.as_deref();
    assert_eq!(private, Some("api.ecr.us-east-1.amazonaws.com"));

    let vpc_id = region.ec2.default_vpc().unwrap().id;
    let groups = GetSecurityGroupsForVpcRequest { vpc_id, ..Default::default() };
    let groups = region.call::<GetSecurityGroupsForVpc>(groups).await.security_group_for_vpcs;
    assert_eq!(groups[0].group_name.as_deref(), Some("default"));

    let permission = DescribeImageAttributeRequest {
        attribute: "launchPermission".to_owned(),
        image_id: image_id(),
        ..Default::default()
    };
    let image = region.call::<DescribeImageAttribute>(permission).await;
    assert_eq!(image.launch_permissions[0].group.as_deref(), Some("all"));
}

#[tokio::test(start_paused = true)]
async fn an_instance_says_how_another_one_like_it_is_launched() {
    let region = region();
    let id = region.run(launch()).await.remove(0).instance_id.unwrap();
    let request = GetLaunchTemplateDataRequest { instance_id: id, dry_run: None };
    let data = region.call::<GetLaunchTemplateData>(request).await.launch_template_data.unwrap();
    assert_eq!(data.image_id, Some(image_id()));
    assert_eq!(data.instance_type.as_deref(), Some("m5.large"));
    let interface = &data.network_interfaces[0];
    assert!(interface.subnet_id.is_some() && interface.private_ip_address.is_none());
    assert_eq!(interface.device_index, Some(0));
}

#[tokio::test(start_paused = true)]
async fn options_without_an_effect_are_refused() {
    let region = region();
    let id = region.run(launch()).await.remove(0).instance_id.unwrap();
    let recovery = |value: &str| ModifyInstanceMaintenanceOptionsRequest {
        instance_id: id.clone(),
        auto_recovery: text(value),
        ..Default::default()
    };
    region.call::<ModifyInstanceMaintenanceOptions>(recovery("default")).await;
    let code = region.code::<ModifyInstanceMaintenanceOptions>(recovery("disabled")).await;
    assert_eq!(code, "UnsupportedOperation");
    let names = |kind: &str| ModifyPrivateDnsNameOptionsRequest {
        instance_id: id.clone(),
        private_dns_hostname_type: text(kind),
        ..Default::default()
    };
    region.call::<ModifyPrivateDnsNameOptions>(names("ip-name")).await;
    let code = region.code::<ModifyPrivateDnsNameOptions>(names("resource-name")).await;
    assert_eq!(code, "UnsupportedOperation");
}
