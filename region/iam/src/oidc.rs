//! OpenID Connect providers.

use std::sync::Arc;

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Iam, IamError, records::Oidc, view};

impl Iam {
    fn provider(&self, arn: &str) -> Result<Arc<Oidc>, IamError> {
        self.providers.get(arn).ok_or_else(|| IamError::ProviderNotFound { arn: arn.to_owned() })
    }

    pub(crate) fn change_provider(
        &self,
        arn: &str,
        change: impl FnOnce(&mut Oidc) -> Result<(), IamError>,
    ) -> Result<(), Fault> {
        self.change(|tx| {
            let found = tx.get(&self.providers, arn);
            let found = found.ok_or_else(|| IamError::ProviderNotFound { arn: arn.to_owned() })?;
            let mut provider = Oidc::clone(&found);
            change(&mut provider)?;
            tx.put(&self.providers, arn, provider);
            Ok(())
        })
    }

    pub(crate) fn create_oidc_provider(
        &self,
        _: &Caller,
        request: CreateOpenIDConnectProviderRequest,
    ) -> Result<CreateOpenIDConnectProviderResponse, Fault> {
        let Some(bare) = request.url.strip_prefix("https://").filter(|it| !it.is_empty()) else {
            let message = "Invalid Open ID Connect Provider URL".to_owned();
            return Err(Fault::new("ValidationError", message));
        };
        let bare = bare.trim_end_matches('/').to_owned();
        let mut entity = self.entity("oidc-provider", "", &bare, None, request.tags)?;
        entity.arn = self.arn("oidc-provider", &bare);
        let provider = Oidc {
            url: bare,
            clients: request.client_id_list,
            thumbprints: request.thumbprint_list,
            entity,
        };
        let (arn, tags) = (provider.entity.arn.clone(), view::tags(&provider.entity.tags));
        self.change(|tx| {
            if tx.get(&self.providers, &arn).is_some() {
                return Err(IamError::ProviderExists { url: request.url.clone() }.into());
            }
            tx.put(&self.providers, arn.clone(), provider);
            Ok(())
        })?;
        Ok(CreateOpenIDConnectProviderResponse { open_id_connect_provider_arn: arn, tags })
    }

    pub(crate) fn get_oidc_provider(
        &self,
        _: &Caller,
        request: GetOpenIDConnectProviderRequest,
    ) -> Result<GetOpenIDConnectProviderResponse, Fault> {
        let provider = self.provider(&request.open_id_connect_provider_arn)?;
        Ok(GetOpenIDConnectProviderResponse {
            url: provider.url.clone(),
            client_id_list: provider.clients.clone(),
            thumbprint_list: provider.thumbprints.clone(),
            create_date: view::time(provider.entity.created),
            tags: view::tags(&provider.entity.tags),
        })
    }

    pub(crate) fn delete_oidc_provider(
        &self,
        _: &Caller,
        request: DeleteOpenIDConnectProviderRequest,
    ) -> Result<DeleteOpenIDConnectProviderResponse, Fault> {
        let arn = request.open_id_connect_provider_arn;
        self.provider(&arn)?;
        self.change(|tx| {
            tx.delete(&self.providers, &arn);
            Ok(())
        })?;
        Ok(DeleteOpenIDConnectProviderResponse {})
    }

    pub(crate) fn list_oidc_providers(
        &self,
        _: &Caller,
        _: ListOpenIDConnectProvidersRequest,
    ) -> Result<ListOpenIDConnectProvidersResponse, Fault> {
        let entry = |it: Arc<Oidc>| OpenIDConnectProviderListEntry { arn: it.entity.arn.clone() };
        let list = self.providers.list().into_iter().map(entry).collect();
        Ok(ListOpenIDConnectProvidersResponse { open_id_connect_provider_list: list })
    }

    pub(crate) fn update_oidc_thumbprint(
        &self,
        _: &Caller,
        request: UpdateOpenIDConnectProviderThumbprintRequest,
    ) -> Result<UpdateOpenIDConnectProviderThumbprintResponse, Fault> {
        self.change_provider(&request.open_id_connect_provider_arn, |it| {
            it.thumbprints = request.thumbprint_list;
            Ok(())
        })?;
        Ok(UpdateOpenIDConnectProviderThumbprintResponse {})
    }

    pub(crate) fn add_oidc_client(
        &self,
        _: &Caller,
        request: AddClientIDToOpenIDConnectProviderRequest,
    ) -> Result<AddClientIDToOpenIDConnectProviderResponse, Fault> {
        self.change_provider(&request.open_id_connect_provider_arn, |it| {
            if !it.clients.contains(&request.client_id) {
                it.clients.push(request.client_id);
            }
            Ok(())
        })?;
        Ok(AddClientIDToOpenIDConnectProviderResponse {})
    }

    pub(crate) fn remove_oidc_client(
        &self,
        _: &Caller,
        request: RemoveClientIDFromOpenIDConnectProviderRequest,
    ) -> Result<RemoveClientIDFromOpenIDConnectProviderResponse, Fault> {
        self.change_provider(&request.open_id_connect_provider_arn, |it| {
            it.clients.retain(|client| *client != request.client_id);
            Ok(())
        })?;
        Ok(RemoveClientIDFromOpenIDConnectProviderResponse {})
    }

    pub(crate) fn list_oidc_tags(
        &self,
        _: &Caller,
        request: ListOpenIDConnectProviderTagsRequest,
    ) -> Result<ListOpenIDConnectProviderTagsResponse, Fault> {
        let provider = self.provider(&request.open_id_connect_provider_arn)?;
        let tags = view::tags(&provider.entity.tags);
        Ok(ListOpenIDConnectProviderTagsResponse { tags, is_truncated: false })
    }

    pub(crate) fn tag_oidc(
        &self,
        _: &Caller,
        request: TagOpenIDConnectProviderRequest,
    ) -> Result<TagOpenIDConnectProviderResponse, Fault> {
        self.change_provider(&request.open_id_connect_provider_arn, |it| {
            it.entity.tags = crate::checked_tags(it.entity.tags.clone(), request.tags)?;
            Ok(())
        })?;
        Ok(TagOpenIDConnectProviderResponse {})
    }

    pub(crate) fn untag_oidc(
        &self,
        _: &Caller,
        request: UntagOpenIDConnectProviderRequest,
    ) -> Result<UntagOpenIDConnectProviderResponse, Fault> {
        self.change_provider(&request.open_id_connect_provider_arn, |it| {
            it.entity.tags.retain(|key, _| !request.tag_keys.contains(key));
            Ok(())
        })?;
        Ok(UntagOpenIDConnectProviderResponse {})
    }
}
