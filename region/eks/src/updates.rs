//! Updates: the record of a change that was asked for.
//!
//! A call that comes again with its `clientRequestToken` gets the update that it began. EKS does not
//! say what it answers to a token that comes with something else; here it is
//! `InvalidParameterException`.

use aws_eks::{
    DescribeUpdate, DescribeUpdateRequest, DescribeUpdateResponse, ErrorDetail, ListUpdates,
    ListUpdatesRequest, ListUpdatesResponse, UpdateParam,
};
use aws_wire::Fault;
use region_gateway::{Caller, Handle, Target};
use region_store::Transaction;
use serde::Serialize;

use crate::{
    Eks, faults,
    records::{Asked, Update},
    tags,
};

/// An update that begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewUpdate {
    pub(crate) cluster: String,
    pub(crate) nodegroup: Option<String>,
    pub(crate) addon: Option<String>,
    pub(crate) kind: String,
    pub(crate) params: Vec<(String, String)>,
    /// `InProgress` unless it is over already.
    pub(crate) status: String,
    pub(crate) asked: Option<Asked>,
}

impl Asked {
    /// `None` without a token.
    pub(crate) fn of<R: Serialize>(
        token: Option<&String>,
        request: &R,
    ) -> Result<Option<Self>, Fault> {
        let Some(token) = token.cloned() else { return Ok(None) };
        let request =
            serde_json::to_string(request).map_err(|error| Fault::internal(error.to_string()))?;
        Ok(Some(Self { token, request }))
    }

    /// Whether what is there was made by the call that has come again.
    pub(crate) fn made(known: Option<&Self>, asked: Option<&Self>) -> Result<bool, Fault> {
        match (known, asked) {
            (Some(known), Some(asked)) if known.token == asked.token => {
                if known == asked {
                    Ok(true)
                } else {
                    Err(used_before())
                }
            }
            _ => Ok(false),
        }
    }
}

fn used_before() -> Fault {
    faults::invalid_parameter("The clientRequestToken was used with other parameters before.")
}

impl Eks {
    /// Writes the record of a new update, with what it changes: one without the other would never end.
    pub(crate) fn put_update(&self, transaction: &mut Transaction, new: NewUpdate) -> Update {
        let update = Update {
            cluster: new.cluster,
            id: entropy::uuid(),
            nodegroup: new.nodegroup,
            addon: new.addon,
            kind: new.kind,
            status: if new.status.is_empty() { "InProgress".to_owned() } else { new.status },
            params: new.params,
            errors: Vec::new(),
            resources: Vec::new(),
            asked: new.asked,
            created_at: self.now(),
        };
        let key = key(&update.cluster, &update.id);
        transaction.put(&self.0.updates, key, update.clone());
        update
    }

    /// An update that something else takes the place of.
    pub(crate) fn cancel_update(&self, transaction: &mut Transaction, cluster: &str, id: &str) {
        transaction.update(&self.0.updates, &key(cluster, id), |it| {
            if it.status == "InProgress" {
                it.status = "Cancelled".to_owned();
            }
        });
    }

    /// The update that the same call began before.
    pub(crate) fn begun_before(
        &self,
        cluster: &str,
        asked: Option<&Asked>,
    ) -> Result<Option<aws_eks::Update>, Fault> {
        let Some(asked) = asked else { return Ok(None) };
        let all = self.0.updates.under(&format!("{cluster}/"));
        let found = all.iter().map(|(_, it)| it).find_map(|it| {
            let known = it.asked.as_ref().filter(|it| it.token == asked.token)?;
            Some((it, known))
        });
        match found {
            None => Ok(None),
            Some((update, known)) if known == asked => Ok(Some(shape(update))),
            Some(_) => Err(used_before()),
        }
    }

    /// Ends an update. One that has ended stays as it is.
    pub fn finish_update(
        &self,
        cluster: &str,
        id: &str,
        errors: Vec<(String, String)>,
        resources: Vec<String>,
    ) -> Result<(), Fault> {
        self.0.store.transaction(|transaction| {
            self.end_update(transaction, cluster, id, errors, resources);
            Ok(())
        })
    }

    /// The same as part of more.
    pub(crate) fn end_update(
        &self,
        transaction: &mut Transaction,
        cluster: &str,
        id: &str,
        errors: Vec<(String, String)>,
        resources: Vec<String>,
    ) {
        let status = if errors.is_empty() { "Successful" } else { "Failed" };
        transaction.update(&self.0.updates, &key(cluster, id), |it| {
            if it.status == "InProgress" {
                it.status = status.to_owned();
                (it.errors, it.resources) = (errors, resources);
            }
        });
    }
}

pub(crate) fn key(cluster: &str, id: &str) -> String {
    format!("{cluster}/{id}")
}

/// An update as it is described.
pub(crate) fn shape(update: &Update) -> aws_eks::Update {
    let param =
        |(kind, value): &(String, String)| UpdateParam { kind: kind.clone(), value: value.clone() };
    let error = |(code, message): &(String, String)| ErrorDetail {
        error_code: Some(code.clone()),
        error_message: Some(message.clone()),
        resource_ids: update.resources.clone(),
    };
    aws_eks::Update {
        id: update.id.clone(),
        status: update.status.clone(),
        kind: update.kind.clone(),
        params: update.params.iter().map(param).collect(),
        created_at: Eks::seconds(update.created_at),
        errors: update.errors.iter().map(error).collect(),
    }
}

impl Handle<DescribeUpdate> for Eks {
    fn targets(&self, _: &Caller, request: &DescribeUpdateRequest) -> Vec<Target> {
        self.cluster_target(&request.name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: DescribeUpdateRequest,
    ) -> Result<DescribeUpdateResponse, Fault> {
        self.find(&request.name)?;
        let found = self.0.updates.get(&key(&request.name, &request.update_id));
        let is_meant =
            |it: &Update| it.nodegroup == request.nodegroup_name && it.addon == request.addon_name;
        let update = found.filter(|it| is_meant(it)).ok_or_else(|| {
            faults::not_found(format!("No update found for ID: {}", request.update_id))
        })?;
        Ok(DescribeUpdateResponse { update: Some(shape(&update)) })
    }
}

impl Handle<ListUpdates> for Eks {
    fn targets(&self, _: &Caller, request: &ListUpdatesRequest) -> Vec<Target> {
        self.cluster_target(&request.name)
    }

    async fn handle(
        &self,
        _: &Caller,
        request: ListUpdatesRequest,
    ) -> Result<ListUpdatesResponse, Fault> {
        self.find(&request.name)?;
        let all = self.0.updates.under(&format!("{}/", request.name));
        let ids = all
            .iter()
            .map(|(_, update)| update)
            .filter(|it| it.nodegroup == request.nodegroup_name && it.addon == request.addon_name)
            .map(|it| it.id.clone())
            .collect();
        let (update_ids, next_token) =
            tags::page(ids, request.max_results, request.next_token.as_deref())?;
        Ok(ListUpdatesResponse { update_ids, next_token })
    }
}
