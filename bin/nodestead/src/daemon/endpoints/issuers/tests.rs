//! What must hold of `issuers`.

use rustls::{ClientConnection, ServerConnection};
use transport::tls;

use super::*;

/// Whether a client who trusts that authority alone takes the server for `name`.
fn believes(authority: &str, certificates: &Certificates, name: &str) -> bool {
    let client = tls::client(authority, None).unwrap();
    let mut client = ClientConnection::new(client, name.to_owned().try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(certificates.server()).unwrap();
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
    }
    true
}

#[test]
fn who_trusts_a_clusters_authority_believes_the_issuers_pages_and_no_other_service() {
    let (region, one, other) = (
        Ca::new("region").unwrap(),
        Ca::new("kubernetes").unwrap(),
        Ca::new("kubernetes").unwrap(),
    );
    let certificates = Certificates::new(&region, Clock::system()).unwrap();
    let (issuers, sts) = ("oidc.eks.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com");
    let believed = |ca: &Ca, name| believes(ca.certificate_pem(), &certificates, name);
    assert!(believed(&region, issuers) && believed(&region, sts));
    assert!(!believed(&one, issuers), "nobody has vouched");
    let scopes = [Scope::new(), Scope::new()];
    certificates.vouch(&one, &scopes[0]).unwrap();
    certificates.vouch(&other, &scopes[1]).unwrap();
    for cluster in [&one, &other] {
        assert!(believed(cluster, issuers));
        assert!(!believed(cluster, sts));
    }
    assert!(believed(&region, issuers) && believed(&region, sts));
    scopes[0].cancel();
    certificates.vouch(&other, &scopes[1]).unwrap();
    assert!(!believed(&one, issuers), "its control plane has ended");
}

#[test]
fn a_regions_authority_cannot_speak_for_a_clusters_api_server() {
    let (region, cluster) = (Ca::new("region").unwrap(), Ca::new("kubernetes").unwrap());
    let mut certificates = Certificates::new(&region, Clock::system()).unwrap();
    let forged = region.issue(&Profile {
        cn: "kubernetes".to_owned(),
        organizations: Vec::new(),
        sans: vec!["kubernetes.default.svc".to_owned()],
        usages: vec![Usage::Server],
        not_after: Clock::system().now() + LIFE,
    });
    let mut shown = forged.unwrap();
    shown.certificate_pem.push_str(&cluster.vouch_for(&region, &host()).unwrap());
    certificates.named = Named::new("kubernetes.default.svc", &shown, &shown).unwrap();
    let believed =
        |ca: &Ca| believes(ca.certificate_pem(), &certificates, "kubernetes.default.svc");
    assert!(believed(&region), "it is the region's own certificate");
    assert!(!believed(&cluster));
}
