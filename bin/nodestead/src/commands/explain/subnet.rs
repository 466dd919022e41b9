//! `nodestead explain subnet`: free addresses, who holds the others, and when there are none.

use std::{net::Ipv4Addr, time::Duration};

use clock::Clock;
use ipam::{Forecast, Sample, Survey};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde::Serialize;

use super::{REGION_LIMIT, within};
use crate::{
    admin::{Admin, DaemonStatus, SubnetUsage},
    cli::ExplainSubnet,
    failure::Failure,
    kubernetes,
    layout::Layout,
    region::Network,
};

/// How long the cluster may take to list its pods; without them the rest is told.
const PODS_LIMIT: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    #[serde(flatten)]
    survey: Survey,
    /// Pods with an address of the subnet; `None` where the cluster does not tell.
    pods: Option<u32>,
    forecast: Forecast,
}

pub(super) async fn run(args: ExplainSubnet) -> anyhow::Result<()> {
    let layout = Layout::new(&args.at.data_dir)?;
    let explanation = within(REGION_LIMIT, "the region", explain(&layout, &args)).await?;
    args.output.print(&explanation, rendered)
}

async fn explain(layout: &Layout, args: &ExplainSubnet) -> anyhow::Result<Explanation> {
    let admin = Admin::new(layout.admin_socket());
    let status: DaemonStatus = admin.get("/v1/status").await?;
    let network = Network::of(layout, &status)?;
    let subnets = network.subnets().await?;
    let known = subnets.iter().filter_map(|it| it.subnet_id.as_deref());
    let Some(subnet) = subnets.iter().find(|it| it.subnet_id.as_ref() == Some(&args.subnet)) else {
        return Err(Failure::new(
            format!("there is no subnet `{}`", args.subnet),
            format!("use one of: {}", known.collect::<Vec<_>>().join(", ")),
        )
        .into());
    };
    let interfaces = network.interfaces(Some(&args.subnet)).await?;
    let Some(survey) = Survey::of(subnet, &interfaces) else {
        anyhow::bail!("the region tells no readable CIDR of `{}`", args.subnet);
    };
    let usage: Vec<SubnetUsage> = admin.get(&format!("/v1/subnet-usage/{}", args.subnet)).await?;
    let samples: Vec<Sample> =
        usage.iter().map(|it| Sample { at: it.at, taken: it.taken }).collect();
    let window = Duration::from_secs(u64::from(args.minutes) * 60);
    let forecast = ipam::forecast(&samples, survey.free, Clock::system().now(), window);
    let pods = tokio::time::timeout(PODS_LIMIT, pods_in(layout, survey.cidr)).await;
    Ok(Explanation { pods: pods.ok().flatten(), survey, forecast })
}

/// How many running pods have an address of their own in this network.
async fn pods_in(layout: &Layout, cidr: Ipv4Net) -> Option<u32> {
    let client = kubernetes::client(layout).await.ok()?;
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await.ok()?;
    let is_here = |pod: &&Pod| {
        let is_on_host = pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or(false);
        let status = pod.status.as_ref();
        let has_ended = status
            .and_then(|it| it.phase.as_deref())
            .is_some_and(|it| matches!(it, "Succeeded" | "Failed"));
        let address: Option<Ipv4Addr> =
            status.and_then(|it| it.pod_ip.as_deref()).and_then(|it| it.parse().ok());
        !is_on_host && !has_ended && address.is_some_and(|it| cidr.contains(&it))
    };
    u32::try_from(pods.items.iter().filter(is_here).count()).ok()
}

fn rendered(it: &Explanation) -> String {
    let Explanation { survey, pods, forecast } = it;
    let mut text = format!("Subnet {} ({}) in {}\n", survey.subnet_id, survey.cidr, survey.zone);
    text += &format!(
        "{} of {} addresses are free ({} more are reserved by AWS)\n",
        survey.free, survey.usable, survey.reserved
    );
    text += &format!(
        "{} whole /28 blocks are free; {} free addresses lie outside of them, and prefix delegation \
         cannot use them\n",
        survey.free_blocks, survey.fragmented
    );
    if let Some(pods) = pods {
        let interfaces: usize = survey.holders.iter().map(|it| it.interfaces.len()).sum();
        let held: u32 = survey.holders.iter().map(|it| it.addresses).sum();
        let own = u32::try_from(interfaces).unwrap_or(u32::MAX);
        let idle = held.saturating_sub(own).saturating_sub(*pods);
        text += &format!(
            "{pods} pods have an address of it, {own} are interfaces' own, {idle} are held warm\n"
        );
    }
    text += &format!("{}\n", in_words(forecast, survey.free));
    if survey.holders.is_empty() {
        return text;
    }
    let mut table = super::plain_table();
    table.set_header(["HOLDER", "ADDRESSES", "PREFIXES", "INTERFACES"]);
    for holder in &survey.holders {
        let unattached = match holder.unattached {
            0 => String::new(),
            count => format!(" ({count} attached to nothing)"),
        };
        table.add_row([
            holder.name.clone(),
            holder.addresses.to_string(),
            holder.prefixes.to_string(),
            format!("{}{unattached}", holder.interfaces.join(", ")),
        ]);
    }
    text + &format!("\n{}\n", table.trim_fmt())
}

fn in_words(forecast: &Forecast, free: u32) -> String {
    let minutes = forecast.over_seconds / 60;
    let shortest = i64::try_from(ipam::SHORTEST.as_secs()).unwrap_or(i64::MAX);
    let rate =
        format!("{:.1} more are taken an hour (by the last {minutes} minutes)", forecast.per_hour);
    match &forecast.runs_out_at {
        _ if free == 0 => "It is full: no address is left to give".to_owned(),
        _ if forecast.over_seconds == 0 => {
            "Nothing was seen to change yet: there is no forecast".to_owned()
        }
        _ if forecast.over_seconds < shortest => format!(
            "What was seen is less than {} minutes old: there is no forecast",
            shortest / 60
        ),
        Some(at) => format!("{rate}: it runs out at {at:.0}"),
        None => format!("{rate}: it does not run out"),
    }
}

#[cfg(test)]
mod tests {
    use ipam::Holder;

    use super::*;

    fn explanation() -> Explanation {
        Explanation {
            survey: Survey {
                subnet_id: "subnet-1".to_owned(),
                zone: "us-east-1a".to_owned(),
                cidr: "10.0.0.0/26".parse().unwrap(),
                usable: 59,
                reserved: 5,
                free: 37,
                free_blocks: 1,
                fragmented: 21,
                holders: vec![Holder {
                    name: "i-1".to_owned(),
                    interfaces: vec!["eni-1".to_owned(), "eni-2".to_owned()],
                    addresses: 22,
                    prefixes: 1,
                    unattached: 1,
                }],
            },
            pods: Some(6),
            forecast: Forecast {
                over_seconds: 1800,
                per_hour: 12.0,
                runs_out_at: Some("2026-01-01T03:05:00Z".parse().unwrap()),
            },
        }
    }

    #[test]
    fn a_subnet_is_told_with_its_pods_its_holders_and_its_end() {
        let text = rendered(&explanation());
        for part in [
            "Subnet subnet-1 (10.0.0.0/26) in us-east-1a",
            "37 of 59 addresses are free (5 more",
            "1 whole /28 blocks are free; 21 free addresses lie outside",
            "6 pods have an address of it, 2 are interfaces' own, 14 are held warm",
            "12.0 more are taken an hour (by the last 30 minutes): it runs out at \
             2026-01-01T03:05:00Z",
            "eni-1, eni-2 (1 attached to nothing)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_full_subnet_and_one_that_was_seen_for_a_moment_have_no_forecast() {
        let Explanation { forecast, .. } = explanation();
        assert_eq!(in_words(&forecast, 0), "It is full: no address is left to give");
        let short = Forecast { over_seconds: 599, ..forecast };
        let told = in_words(&short, 37);
        assert_eq!(told, "What was seen is less than 10 minutes old: there is no forecast");
    }

    #[test]
    fn json_has_the_survey_and_the_forecast_side_by_side() {
        let value = serde_json::to_value(explanation()).unwrap();
        assert_eq!(value["freeBlocks"], 1);
        assert_eq!(value["holders"][0]["prefixes"], 1);
        assert_eq!(value["forecast"]["runsOutAt"], "2026-01-01T03:05:00Z");
    }
}
