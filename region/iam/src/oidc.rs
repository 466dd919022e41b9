//! OpenID Connect providers.

use std::sync::Arc;

use aws_iam::*;
use aws_wire::Fault;
use region_gateway::Caller;

use crate::{Iam, IamError, records::Oidc, view};

/// Quotas and lengths of IAM's documentation.
const MOST_PROVIDERS: usize = 100;
const MOST_CLIENTS: usize = 100;
const MOST_THUMBPRINTS: usize = 5;
const LONGEST: usize = 255;

/// An issuer without its scheme: a host and a path, nothing else.
fn bare_url(url: &str) -> Result<String, Fault> {
    let bare = url.strip_prefix("https://").unwrap_or_default().trim_end_matches('/');
    let is_plain = !bare.is_empty() && bare.chars().all(|it| it.is_ascii_graphic());
    if !is_plain || bare.contains(['?', '#', '@', ':']) || url.len() > LONGEST {
        let message = "Invalid Open ID Connect Provider URL".to_owned();
        return Err(Fault::new("ValidationError", message));
    }
    Ok(bare.to_owned())
}

fn check_clients(clients: &[String]) -> Result<(), IamError> {
    if clients.len() > MOST_CLIENTS {
        return Err(IamError::Quota {
            what: "ClientIdsPerOpenIdConnectProvider",
            limit: MOST_CLIENTS,
        });
    }
    match clients.iter().find(|it| it.is_empty() || it.len() > LONGEST) {
        None => Ok(()),
        Some(value) => Err(IamError::Invalid {
            field: "clientIDList",
            value: value.clone(),
            constraint: format!("Member must have length between 1 and {LONGEST}"),
        }),
    }
}

/// Nothing is checked against them: AWS, too, trusts issuers by its own authorities.
fn check_thumbprints(thumbprints: &[String]) -> Result<(), IamError> {
    if thumbprints.len() > MOST_THUMBPRINTS {
        return Err(IamError::Input {
            message: format!("Thumbprint list must contain fewer than {MOST_THUMBPRINTS} entries."),
        });
    }
    let is_hash = |it: &str| it.len() == 40 && it.bytes().all(|it| it.is_ascii_hexdigit());
    match thumbprints.iter().find(|it| !is_hash(it)) {
        None => Ok(()),
        Some(value) => Err(IamError::Invalid {
            field: "thumbprintList",
            value: value.clone(),
            constraint: "Member must have length equal to 40".to_owned(),
        }),
    }
}

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
        let bare = bare_url(&request.url)?;
        check_clients(&request.client_id_list)?;
        check_thumbprints(&request.thumbprint_list)?;
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
            if self.providers.list().len() >= MOST_PROVIDERS {
                let what = "OpenIdConnectProvidersPerAccount";
                return Err(IamError::Quota { what, limit: MOST_PROVIDERS }.into());
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
        check_thumbprints(&request.thumbprint_list)?;
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
            check_clients(&it.clients)
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
        let key = crate::tags::tag_key;
        let page = crate::serve::page(tags, request.max_items, request.marker, key)?;
        Ok(ListOpenIDConnectProviderTagsResponse {
            tags: page.items,
            is_truncated: page.next.is_some(),
            marker: page.next,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_host_and_a_path_over_https() {
        let good = "https://oidc.eks.us-east-1.amazonaws.com/id/ABC";
        assert_eq!(bare_url(good).unwrap(), "oidc.eks.us-east-1.amazonaws.com/id/ABC");
        assert_eq!(bare_url("https://issuer.test/").unwrap(), "issuer.test");
        for bad in [
            "http://issuer.test",
            "issuer.test",
            "https://",
            "https:///",
            "https://issuer.test:8443",
            "https://issuer.test?a=b",
            "https://user@issuer.test",
            "https://issuer test",
            &format!("https://{}", "a".repeat(255)),
        ] {
            assert!(bare_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn thumbprints_are_hashes_and_few() {
        let one = "9e99a48a9960b14926bb7f3b02e22da2b0ab7280".to_owned();
        assert!(check_thumbprints(std::slice::from_ref(&one)).is_ok());
        assert!(check_thumbprints(&["9e99".to_owned()]).is_err());
        assert!(check_thumbprints(&vec![one; 6]).is_err());
    }

    #[test]
    fn an_audience_is_short_and_there_is_a_hundred_at_the_most() {
        let clients = |count: usize| vec!["sts.amazonaws.com".to_owned(); count];
        assert!(check_clients(&clients(100)).is_ok());
        assert!(check_clients(&clients(101)).is_err());
        assert!(check_clients(&[String::new()]).is_err());
    }
}
