//! What is switched on an instance that runs: detailed monitoring, CPU credits; and its password.
//!
//! Deviation: CPU credits are kept and described, and meter nothing. An instance whose host fails is
//! always booted again, and names are always those of addresses; asking for the contrary is refused.

use aws_ec2::{
    instance::Monitoring,
    instance_options::{
        CreditSpecificationError, GetPasswordDataRequest, GetPasswordDataResponse,
        InstanceCreditSpecificationRequest, InstanceMonitoring,
        ModifyInstanceCreditSpecificationRequest, ModifyInstanceCreditSpecificationResponse,
        ModifyInstanceMaintenanceOptionsRequest, ModifyInstanceMaintenanceOptionsResponse,
        ModifyPrivateDnsNameOptionsRequest, ModifyPrivateDnsNameOptionsResponse,
        MonitorInstancesRequest, MonitorInstancesResponse,
        SuccessfulInstanceCreditSpecificationItem, UnmonitorInstancesRequest,
        UnmonitorInstancesResponse, UnsuccessfulInstanceCreditSpecificationItem,
    },
};
use aws_wire::Fault;

use crate::{Call, faults, names, state::State};

pub(crate) fn monitor(
    _call: &Call<'_>,
    state: &mut State,
    request: MonitorInstancesRequest,
) -> Result<MonitorInstancesResponse, Fault> {
    let instance_monitorings = set_monitored(state, &request.instance_ids, true)?;
    Ok(MonitorInstancesResponse { instance_monitorings })
}

pub(crate) fn unmonitor(
    _call: &Call<'_>,
    state: &mut State,
    request: UnmonitorInstancesRequest,
) -> Result<UnmonitorInstancesResponse, Fault> {
    let instance_monitorings = set_monitored(state, &request.instance_ids, false)?;
    Ok(UnmonitorInstancesResponse { instance_monitorings })
}

fn set_monitored(
    state: &mut State,
    ids: &[String],
    is_on: bool,
) -> Result<Vec<InstanceMonitoring>, Fault> {
    if ids.is_empty() {
        return Err(faults::missing("InstanceId"));
    }
    let mut changed = Vec::new();
    for id in ids {
        state.instances.edit(id)?.is_monitored = is_on;
        let on_its_way = if is_on { "pending" } else { "disabling" };
        changed.push(InstanceMonitoring {
            instance_id: Some(id.clone()),
            monitoring: Some(Monitoring { state: Some(on_its_way.to_owned()) }),
        });
    }
    Ok(changed)
}

/// Only Windows has one, and there is no Windows here.
pub(crate) fn password(
    call: &Call<'_>,
    state: &State,
    request: GetPasswordDataRequest,
) -> Result<GetPasswordDataResponse, Fault> {
    let instance = state.instances.find(&request.instance_id)?;
    Ok(GetPasswordDataResponse {
        instance_id: Some(instance.id.clone()),
        timestamp: Some(names::date(call.now)),
        password_data: Some(String::new()),
    })
}

/// Each instance succeeds or fails alone, where the request itself is sound.
pub(crate) fn modify_credits(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyInstanceCreditSpecificationRequest,
) -> Result<ModifyInstanceCreditSpecificationResponse, Fault> {
    let mut response = ModifyInstanceCreditSpecificationResponse::default();
    for asked in &request.instance_credit_specifications {
        match asked.cpu_credits.as_deref() {
            None => return Err(faults::missing("CpuCredits")),
            Some("standard" | "unlimited") => {}
            Some(other) => return Err(faults::invalid_value("CpuCredits", other)),
        }
    }
    for asked in &request.instance_credit_specifications {
        let instance_id = Some(asked.instance_id.clone());
        match set_credits(state, asked) {
            Ok(()) => response
                .successful_instance_credit_specifications
                .push(SuccessfulInstanceCreditSpecificationItem { instance_id }),
            Err(fault) => {
                let error = CreditSpecificationError {
                    code: Some(fault.code.into_owned()),
                    message: Some(fault.message),
                };
                response.unsuccessful_instance_credit_specifications.push(
                    UnsuccessfulInstanceCreditSpecificationItem { instance_id, error: Some(error) },
                );
            }
        }
    }
    Ok(response)
}

fn set_credits(state: &mut State, asked: &InstanceCreditSpecificationRequest) -> Result<(), Fault> {
    let instance = state.instances.edit(&asked.instance_id)?;
    if !instance.instance_type.starts_with('t') {
        return Err(Fault::new(
            "InstanceCreditSpecification.NotSupported",
            format!("The instance type {} has no CPU credits.", instance.instance_type),
        ));
    }
    if instance.state.is_ending() {
        return Err(Fault::new(
            "IncorrectInstanceState",
            format!("The instance '{}' is {}.", instance.id, instance.state.name()),
        ));
    }
    instance.cpu_credits.clone_from(&asked.cpu_credits);
    Ok(())
}

/// `default` is what holds here.
pub(crate) fn modify_maintenance(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyInstanceMaintenanceOptionsRequest,
) -> Result<ModifyInstanceMaintenanceOptionsResponse, Fault> {
    let instance = state.instances.find(&request.instance_id)?;
    for (name, value) in
        [("AutoRecovery", &request.auto_recovery), ("RebootMigration", &request.reboot_migration)]
    {
        match value.as_deref() {
            None | Some("default") => {}
            Some("disabled") => {
                return Err(faults::unsupported(format!(
                    "{name} cannot be disabled in this region."
                )));
            }
            Some(other) => return Err(faults::invalid_value(name, other)),
        }
    }
    Ok(ModifyInstanceMaintenanceOptionsResponse {
        instance_id: Some(instance.id.clone()),
        auto_recovery: request.auto_recovery,
        reboot_migration: request.reboot_migration,
    })
}

/// Only what is so already can be asked for.
pub(crate) fn modify_dns_name(
    _call: &Call<'_>,
    state: &mut State,
    request: ModifyPrivateDnsNameOptionsRequest,
) -> Result<ModifyPrivateDnsNameOptionsResponse, Fault> {
    state.instances.find(&request.instance_id)?;
    let is_other = request.private_dns_hostname_type.as_deref().is_some_and(|it| it != "ip-name")
        || request.enable_resource_name_dns_a_record == Some(true)
        || request.enable_resource_name_dns_aaaa_record == Some(true);
    match is_other {
        true => Err(faults::unsupported("Resource names are not supported in this region.")),
        false => Ok(ModifyPrivateDnsNameOptionsResponse { r#return: Some(true) }),
    }
}
