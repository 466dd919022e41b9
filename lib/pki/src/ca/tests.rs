//! What must hold of `ca`.

use super::*;
use crate::{Subject, parse_csr, subject_of_pem};

const LATER: Timestamp = Timestamp::constant(2_000_000_000, 0);

fn request(prepare: impl FnOnce(&mut CertificateParams)) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(vec!["node-a".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.distinguished_name =
        distinguished_name("system:node:node-a", &["system:nodes".into()]).unwrap();
    prepare(&mut params);
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn extensions(pem: &str) -> (bool, bool, bool) {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let usage = certificate.extended_key_usage().unwrap().unwrap().value.clone();
    (certificate.is_ca(), usage.server_auth, usage.client_auth)
}

#[test]
fn an_issued_certificate_names_its_user_and_group() {
    let ca = Ca::new("kubernetes").unwrap();
    let profile = Profile {
        cn: "admin".into(),
        organizations: vec!["system:masters".into()],
        sans: vec![],
        usages: vec![Usage::Client],
        not_after: LATER,
    };
    let identity = ca.issue(&profile).unwrap();
    let expected =
        Subject { common_name: "admin".into(), organizations: vec!["system:masters".into()] };
    assert_eq!(subject_of_pem(&identity.certificate_pem).unwrap(), expected);
    assert_eq!(extensions(&identity.certificate_pem), (false, false, true));
}

#[test]
fn an_authority_survives_its_pem() {
    let ca = Ca::new("kubernetes").unwrap();
    let again = Ca::from_pem(ca.certificate_pem(), ca.key_pem()).unwrap();
    let csr = request(|_| {});
    let signed = again.sign_csr(&csr, &[Usage::Server], Timestamp::UNIX_EPOCH, LATER).unwrap();
    assert_eq!(subject_of_pem(&signed).unwrap().common_name, "system:node:node-a");
}

#[test]
fn a_request_cannot_make_itself_an_authority_or_choose_its_usages() {
    let ca = Ca::new("kubernetes").unwrap();
    let csr = request(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    let signed = ca.sign_csr(&csr, &[Usage::Server], Timestamp::UNIX_EPOCH, LATER).unwrap();
    assert_eq!(extensions(&signed), (false, true, false));
}

#[test]
fn a_key_enciphers_only_where_its_certificate_says_so() {
    let ca = Ca::new("kubernetes").unwrap();
    for (usages, enciphers) in
        [(&[Usage::Client][..], false), (&[Usage::Client, Usage::KeyEncipherment], true)]
    {
        let signed = ca.sign_csr(&request(|_| {}), usages, Timestamp::UNIX_EPOCH, LATER).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert_eq!((usage.digital_signature(), usage.key_encipherment()), (true, enciphers));
        assert_eq!(extensions(&signed), (false, false, true));
    }
}

#[test]
fn a_request_whose_signature_is_wrong_is_refused() {
    let csr = request(|_| {});
    let mut lines: Vec<String> = csr.lines().map(str::to_owned).collect();
    // The end of the last base64 line is inside the signature.
    let last = lines.len() - 2;
    let flipped: String = lines[last]
        .chars()
        .map(|c| {
            if c == 'A' {
                'B'
            } else if c == '=' {
                c
            } else {
                'A'
            }
        })
        .collect();
    lines[last] = flipped;
    let ca = Ca::new("kubernetes").unwrap();
    let signed = ca.sign_csr(&lines.join("\n"), &[Usage::Client], Timestamp::UNIX_EPOCH, LATER);
    assert!(signed.is_err());
}

#[test]
fn two_organizations_are_refused_rather_than_truncated() {
    let ca = Ca::new("kubernetes").unwrap();
    let profile = Profile {
        cn: "x".into(),
        organizations: vec!["a".into(), "system:masters".into()],
        sans: vec![],
        usages: vec![Usage::Client],
        not_after: LATER,
    };
    assert!(matches!(ca.issue(&profile), Err(PkiError::ManyOrganizations { count: 2, .. })));
}

#[test]
fn a_request_shows_its_subject_and_names() {
    let contents = parse_csr(&request(|_| {})).unwrap();
    assert_eq!(contents.subject.organizations, ["system:nodes"]);
    assert_eq!(contents.dns_names, ["node-a"]);
    assert_eq!(contents.ip_addresses, [std::net::IpAddr::from([10, 0, 0, 1])]);
}
