//! Health checks: one request, and what a row of answers means.

use std::{net::SocketAddr, sync::Arc};

use http::{Request, StatusCode};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use transport::{HttpClient, Place, tls};

use crate::records::{CheckProtocol, HealthCheck};

/// What is known of an instance, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Unchecked,
    Failing,
    /// Not yet often enough.
    Passing,
    InService,
}

/// A row of checks, as one node sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    health: Health,
    /// Passed ones in a row while it is out of service, failed ones while it is in.
    streak: u16,
}

impl Row {
    pub(super) fn new() -> Self {
        Self { health: Health::Unchecked, streak: 0 }
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn note(&mut self, has_passed: bool, check: &HealthCheck) {
        let is_in_service = self.health == Health::InService;
        if has_passed == is_in_service {
            self.streak = 0;
            if !is_in_service {
                self.health = Health::Failing;
            }
            return;
        }
        self.streak = self.streak.saturating_add(1);
        self.health = match has_passed {
            true if self.streak >= check.healthy_threshold => Health::InService,
            true => Health::Passing,
            false if self.streak >= check.unhealthy_threshold => Health::Failing,
            false => Health::InService,
        };
        if matches!((has_passed, self.health), (true, Health::InService) | (false, Health::Failing))
        {
            self.streak = 0;
        }
    }
}

/// Says whether the instance passes, within the check's own limit.
pub(super) async fn check(place: &Place, address: SocketAddr, check: &HealthCheck) -> bool {
    let limit = check.timeout();
    let passed = async {
        match check.target.protocol {
            CheckProtocol::Tcp => place.connect(address, limit).await.is_ok(),
            CheckProtocol::Ssl => shakes_hands(place, address, check).await,
            CheckProtocol::Http => answers(place, address, check, None).await,
            CheckProtocol::Https => match tls::client_unverified(None) {
                Ok(config) => answers(place, address, check, Some(config)).await,
                Err(_) => false,
            },
        }
    };
    tokio::time::timeout(limit, passed).await.unwrap_or(false)
}

/// Certificates are not looked at, as on AWS.
async fn shakes_hands(place: &Place, address: SocketAddr, check: &HealthCheck) -> bool {
    let Ok(config) = tls::client_unverified(None) else { return false };
    let Ok(stream) = place.connect(address, check.timeout()).await else { return false };
    let name = ServerName::from(address.ip());
    TlsConnector::from(config).connect(name, stream).await.is_ok()
}

/// Only 200 passes.
async fn answers(
    place: &Place,
    address: SocketAddr,
    check: &HealthCheck,
    tls: Option<Arc<ClientConfig>>,
) -> bool {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let client = HttpClient::new(place.clone(), tls, check.timeout());
    let request = Request::get(format!("{scheme}://{address}{}", check.target.path))
        .header(http::header::USER_AGENT, "ELB-HealthChecker/1.0")
        .body(transport::empty());
    let Ok(request) = request else { return false };
    client.send(request).await.is_ok_and(|it| it.status() == StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_row_to_come_into_service_and_a_row_to_leave_it() {
        let check =
            HealthCheck { healthy_threshold: 2, unhealthy_threshold: 3, ..HealthCheck::of_port(1) };
        let mut row = Row::new();
        let mut note = |passed| {
            row.note(passed, &check);
            row.health()
        };
        assert_eq!(note(true), Health::Passing);
        assert_eq!(note(false), Health::Failing);
        assert_eq!(note(true), Health::Passing);
        assert_eq!(note(true), Health::InService);
        assert_eq!(note(false), Health::InService);
        assert_eq!(note(false), Health::InService);
        assert_eq!(note(true), Health::InService);
        assert_eq!([note(false), note(false), note(false)].last(), Some(&Health::Failing));
        assert_eq!(note(true), Health::Passing);
    }
}
