//! Profiles become active when new pods are brought before them, and go when nobody is any more.

use aws_wire::Fault;
use tracing::info;

use super::{FargateProfile, State, admission, key};
use crate::{Eks, reconcile::PassError, records::Cluster, service::ControlPlane};

pub(crate) async fn pass(
    eks: &Eks,
    cluster: &Cluster,
    plane: &ControlPlane,
) -> Result<(), PassError> {
    let profiles = eks.fargate_profiles(&cluster.name);
    if profiles.iter().all(|it| it.state == State::Active) {
        return Ok(());
    }
    let is_any_left = profiles.iter().any(|it| it.state != State::Deleting);
    match &plane.fargate {
        Some(endpoint) if is_any_left => admission::ensure(&plane.client, endpoint).await?,
        Some(_) => admission::remove(&plane.client).await?,
        None => {}
    }
    for profile in profiles {
        match profile.state {
            State::Active => {}
            State::Creating => {
                change(eks, &profile, |it| it.state = State::Active)?;
                info!(
                    cluster = cluster.name,
                    profile = profile.name,
                    "a Fargate profile is active"
                );
            }
            State::Deleting => eks.0.store.transaction(|transaction| {
                transaction.delete(&eks.0.profiles, &key(&profile));
                Ok::<_, Fault>(())
            })?,
        }
    }
    Ok(())
}

/// Unless it was told otherwise meanwhile.
fn change(
    eks: &Eks,
    profile: &FargateProfile,
    change: impl FnOnce(&mut FargateProfile),
) -> Result<(), Fault> {
    eks.0.store.transaction(|transaction| {
        transaction.update(&eks.0.profiles, &key(profile), |it| {
            if it.state == profile.state {
                change(it);
            }
        });
        Ok(())
    })
}
