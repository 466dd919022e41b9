//! What IMDS tells, from EC2's records and STS.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use api_imds::SecurityCredentials;
use region_autoscaling::AutoScaling;
use region_ec2::{
    Ec2, State, names,
    records::{Instance, NetworkInterface},
};
use region_iam::Iam;
use region_imds::{
    CredentialsError, Identity, InstanceMetadata, Interface, Metadata, Options, Profile,
};
use region_sts::Sts;
use serde_json::json;

use super::{
    region::{ACCOUNT, REGION, Region},
    world,
};

/// See the module.
pub(crate) struct RegionMetadata {
    ec2: Arc<Ec2>,
    iam: Arc<Iam>,
    sts: Arc<Sts>,
    autoscaling: Arc<AutoScaling>,
}

impl RegionMetadata {
    pub(crate) fn new(region: &Region) -> Self {
        Self {
            ec2: region.ec2.clone(),
            iam: region.iam.clone(),
            sts: region.sts.clone(),
            autoscaling: region.autoscaling.clone(),
        }
    }

    fn describe(&self, state: &State, instance: &Instance) -> InstanceMetadata {
        let interfaces: Vec<Interface> = world::interfaces(state, &instance.id)
            .into_iter()
            .filter_map(|(index, eni)| interface(state, index, eni))
            .collect();
        let primary = interfaces.first();
        InstanceMetadata {
            identity: identity(state, instance),
            hostname: primary.map(|it| it.hostname.clone()).unwrap_or_default(),
            zone_id: zone_id(state, instance),
            reservation_id: instance.reservation_id.clone(),
            placement_group: instance
                .placed
                .as_ref()
                .map(|it| (it.group_name.clone(), it.partition)),
            launch_index: u32::try_from(instance.launch_index).unwrap_or(0),
            public_ipv4: primary.and_then(|it| it.public_ipv4),
            key_name: instance.key_name.clone(),
            public_key: instance.public_key.clone(),
            user_data: instance.user_data.as_deref().and_then(decoded),
            interfaces,
            instance_profile: instance.profile.as_ref().map(|profile| Profile {
                arn: profile.arn.clone(),
                id: profile.id.clone(),
                role: self.iam.profile_role(&profile.arn).map(|it| it.name),
            }),
            tags: instance.tags.clone(),
            life_cycle: if instance.is_spot { "spot" } else { "on-demand" }.to_owned(),
            spot_action: instance
                .interruption
                .as_ref()
                .filter(|it| it.is_warned)
                .map(|it| json!({ "action": "terminate", "time": seconds(it.at) }).to_string()),
            rebalance_recommendation: instance
                .interruption
                .as_ref()
                .map(|it| json!({ "noticeTime": seconds(it.recommended_at) }).to_string()),
            target_lifecycle_state: self
                .autoscaling
                .target_state(&instance.id, instance.client_token.as_deref())
                .map(str::to_owned),
            options: Options {
                is_enabled: instance.metadata.http_endpoint == "enabled",
                by_ipv6: instance.metadata.http_protocol_ipv6 == "enabled",
                tokens_required: instance.metadata.http_tokens == "required",
                hop_limit: u8::try_from(instance.metadata.http_put_response_hop_limit).unwrap_or(1),
                tags_enabled: instance.metadata.instance_metadata_tags == "enabled",
            },
        }
    }
}

/// As notices have it: `2026-11-23T16:00:00Z`.
fn seconds(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Where an instance is, as condition keys of what it does with its role.
fn place_of(instance: &InstanceMetadata) -> BTreeMap<String, String> {
    let Identity { account, region, instance_id, .. } = &instance.identity;
    let arn = format!("arn:aws:ec2:{region}:{account}:instance/{instance_id}");
    let mut keys = BTreeMap::from([("ec2:SourceInstanceArn".to_owned(), arn)]);
    if let Some(primary) = instance.interfaces.first() {
        keys.insert("aws:Ec2InstanceSourceVpc".to_owned(), primary.vpc_id.clone());
        let address = primary.primary.to_string();
        keys.insert("aws:Ec2InstanceSourcePrivateIPv4".to_owned(), address);
    }
    keys
}

/// User data is kept as it was given: base64.
fn decoded(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).ok()
}

fn zone_id(state: &State, instance: &Instance) -> String {
    state.subnets.get(&instance.subnet_id).map(|it| it.zone_id.clone()).unwrap_or_default()
}

fn identity(state: &State, instance: &Instance) -> Identity {
    let image = state.images.get(&instance.image_id);
    Identity {
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        zone: instance.zone.clone(),
        image_id: instance.image_id.clone(),
        instance_id: instance.id.clone(),
        instance_type: instance.instance_type.clone(),
        architecture: image.map_or_else(|| "x86_64".to_owned(), |it| it.architecture.clone()),
        launch_time: instance.launched_at.to_string(),
    }
}

fn interface(state: &State, index: u32, eni: &NetworkInterface) -> Option<Interface> {
    let subnet = state.subnets.get(&eni.subnet_id)?;
    let vpc = state.vpcs.get(&eni.vpc_id)?;
    let group = |id: &String| {
        let name = state.security_groups.get(id).map(|it| it.name.clone()).unwrap_or_default();
        (id.clone(), name)
    };
    Some(Interface {
        id: eni.id.clone(),
        mac: eni.mac.clone(),
        device_number: index,
        primary: eni.primary_address,
        secondary: eni.secondary_addresses.iter().copied().collect(),
        prefixes: eni.prefixes.iter().copied().collect(),
        ipv6_addresses: eni.ipv6_addresses.clone(),
        ipv6_prefixes: eni.ipv6_prefixes.iter().copied().collect(),
        public_ipv4: eni.public_address(),
        subnet_id: eni.subnet_id.clone(),
        subnet_cidr: subnet.cidr,
        vpc_id: eni.vpc_id.clone(),
        vpc_cidrs: vpc.cidrs.iter().map(|it| it.cidr).collect(),
        subnet_ipv6_cidrs: subnet.ipv6_cidr.iter().map(|it| it.cidr).collect(),
        vpc_ipv6_cidrs: vpc.ipv6_cidrs.iter().map(|it| it.cidr).collect(),
        security_groups: eni.security_groups.iter().map(group).collect(),
        owner: ACCOUNT.to_owned(),
        hostname: names::private_dns(REGION, eni.primary_address),
    })
}

fn owns(eni: &NetworkInterface, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            eni.addresses().any(|it| it == address)
                || eni.prefixes.iter().any(|it| it.contains(&address))
        }
        IpAddr::V6(address) => {
            eni.ipv6_addresses.contains(&address)
                || eni.ipv6_prefixes.iter().any(|it| it.contains(&address))
        }
    }
}

impl Metadata for RegionMetadata {
    fn instance(&self, vpc: &str, source: IpAddr) -> Option<Arc<InstanceMetadata>> {
        let state = self.ec2.view();
        let is_owner = |eni: &&NetworkInterface| eni.vpc_id == vpc && owns(eni, source);
        let eni = state.network_interfaces.iter().find(is_owner)?;
        // A branch's packets come from the instance that has its trunk.
        let instance = state.instances.get(&state.attachment_of(eni)?.instance_id)?;
        Some(Arc::new(self.describe(&state, instance)))
    }

    async fn credentials(
        &self,
        instance: &InstanceMetadata,
        role: &str,
    ) -> Result<SecurityCredentials, CredentialsError> {
        let identity = &instance.identity;
        let found = self.sts.instance_credentials(role, &identity.instance_id, place_of(instance));
        let found = found.map_err(|fault| CredentialsError {
            role: role.to_owned(),
            code: "AssumeRoleUnauthorizedAccess".to_owned(),
            source: fault.into(),
        })?;
        Ok(SecurityCredentials {
            code: "Success".to_owned(),
            last_updated: found.issued,
            kind: "AWS-HMAC".to_owned(),
            access_key_id: found.access_key_id,
            secret_access_key: found.secret_access_key,
            token: found.token,
            expiration: found.expires,
        })
    }
}
