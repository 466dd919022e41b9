//! Snapshots: root file systems that images are registered from.
//!
//! One is pending while it is brought onto the machine, and belongs to whoever owns the region.
//! Deviation: there are no snapshots of volumes. A root file system is imported on the machine itself
//! (`nodestead image import`): AWS's own imports come from S3, which is not here.

use aws_ec2::snapshot::{
    self, DeleteSnapshotRequest, DeleteSnapshotResponse, DescribeSnapshotsRequest,
    DescribeSnapshotsResponse,
};
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{
    Call, Ec2, names,
    query::{self, Values, one},
    records::Snapshot,
    state::State,
    tagging,
};

/// The volume of snapshots that were made of none.
const NO_VOLUME: &str = "vol-ffffffff";

pub(crate) fn describe(
    call: &Call<'_>,
    state: &State,
    request: DescribeSnapshotsRequest,
) -> Result<DescribeSnapshotsResponse, Fault> {
    let named = state.snapshots.named(&request.snapshot_ids)?;
    let account = &call.config.account;
    let is_own =
        |users: &[String]| users.is_empty() || users.iter().any(|it| it == "self" || it == account);
    let is_seen = is_own(&request.owner_ids) && is_own(&request.restorable_by_user_ids);
    let seen = named.into_iter().filter(|_| is_seen).collect();
    let owner = account.as_str();
    let found = query::select(
        seen,
        &request.filters,
        |it| &it.tags,
        |it, name| attribute(owner, it, name),
    )?;
    let (found, next_token) =
        query::page(found, request.max_results, request.next_token.as_deref(), |it| &it.id)?;
    let snapshots = found.into_iter().map(|it| answer(owner, it)).collect();
    Ok(DescribeSnapshotsResponse { next_token, snapshots })
}

fn status(snapshot: &Snapshot) -> &'static str {
    if snapshot.is_completed { "completed" } else { "pending" }
}

fn attribute(owner: &str, snapshot: &Snapshot, name: &str) -> Values {
    match name {
        "snapshot-id" => one(&snapshot.id),
        "description" => one(&snapshot.description),
        "owner-id" => one(owner),
        "status" => one(status(snapshot)),
        "start-time" => one(names::date(snapshot.started_at)),
        "volume-id" => one(NO_VOLUME),
        "volume-size" => one(snapshot.size_gib),
        "encrypted" => one(false),
        "storage-tier" => one("standard"),
        "owner-alias" => Some(Vec::new()),
        _ => None,
    }
}

fn answer(owner: &str, snapshot: &Snapshot) -> snapshot::Snapshot {
    snapshot::Snapshot {
        storage_tier: Some("standard".to_owned()),
        tags: tagging::answer(&snapshot.tags),
        snapshot_id: Some(snapshot.id.clone()),
        volume_id: Some(NO_VOLUME.to_owned()),
        state: Some(status(snapshot).to_owned()),
        start_time: Some(names::date(snapshot.started_at)),
        progress: Some(if snapshot.is_completed { "100%" } else { "0%" }.to_owned()),
        owner_id: Some(owner.to_owned()),
        description: Some(snapshot.description.clone()),
        volume_size: Some(snapshot.size_gib),
        encrypted: Some(false),
    }
}

/// Instances that were started from it keep what they have.
pub(crate) fn delete(
    _call: &Call<'_>,
    state: &mut State,
    request: DeleteSnapshotRequest,
) -> Result<DeleteSnapshotResponse, Fault> {
    let id = &request.snapshot_id;
    state.snapshots.find(id)?;
    if let Some(image) = state.images.iter().find(|it| it.snapshot.as_ref() == Some(id)) {
        return Err(Fault::new(
            "InvalidSnapshot.InUse",
            format!("The snapshot {id} is currently in use by {}", image.id),
        ));
    }
    state.snapshots.remove(id)?;
    Ok(DeleteSnapshotResponse { r#return: Some(true) })
}

impl Ec2 {
    /// Takes note of a root file system that is on its way onto the machine, and names it.
    pub fn begin_snapshot(&self, description: &str) -> Result<String, Fault> {
        self.write(&self.itself(), |call, state| {
            let id = entropy::aws_id("snap");
            state.snapshots.insert(Snapshot {
                id: id.clone(),
                description: description.to_owned(),
                started_at: call.now,
                ..Snapshot::default()
            });
            Ok(id)
        })
    }

    /// It is there.
    pub fn complete_snapshot(&self, id: &str, size_gib: i64) -> Result<(), Fault> {
        self.write(&self.itself(), |_, state| {
            let snapshot = state.snapshots.edit(id)?;
            (snapshot.is_completed, snapshot.size_gib) = (true, size_gib);
            Ok(())
        })
    }

    /// Its import has failed.
    pub fn abandon_snapshot(&self, id: &str) -> Result<(), Fault> {
        self.write(&self.itself(), |_, state| state.snapshots.remove(id).map(drop))
    }

    /// Forgets imports that ended with the process which made them.
    pub fn abandon_pending_snapshots(&self) -> Result<(), Fault> {
        self.write(&self.itself(), |_, state| {
            let pending = state.snapshots.iter().filter(|it| !it.is_completed);
            let pending: Vec<String> = pending.map(|it| it.id.clone()).collect();
            pending.iter().try_for_each(|id| state.snapshots.remove(id).map(drop))
        })
    }

    fn itself(&self) -> Caller {
        Caller::service("ec2.amazonaws.com", self.account(), self.region(), self.now())
    }
}
