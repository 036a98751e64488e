//! Pulls over TLS, from a server whose certificate an authority of the test's own has given it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;

use super::*;

/// A server's side of TLS for these names, and the certificate of its authority.
fn tls(names: &[&str]) -> (Arc<ServerConfig>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("authority of {names:?}"));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let given = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![given.der().clone()], key.into()).unwrap();
    (Arc::new(config), authority.pem())
}

fn over_tls(trust: Trust) -> Access {
    Access { trust, transport: Transport::Tls, ..access() }
}

fn start(names: &[&str]) -> (Server, String) {
    let (tls, authority) = tls(names);
    let image = image();
    (Server::start_with(Some(tls), move |asked| honest(&image, asked)), authority)
}

#[test]
fn a_registry_is_trusted_whose_authority_the_host_trusts() {
    let (server, authority) = start(&["127.0.0.1"]);
    let (_folder, store) = store();
    let trust = Trust { host: Some(authority), ..Trust::default() };
    pull(&store, &source(&server, ":v1", over_tls(trust))).unwrap();
}

#[test]
fn a_registry_is_trusted_whose_authority_lies_in_dockers_folder_for_it() {
    let (server, authority) = start(&["127.0.0.1"]);
    let (folder, store) = store();
    let (_, other) = tls(&["another"]);
    let own = folder.path().join("certs.d").join(&server.address);
    let trust = Trust { host: Some(other), folders: vec![folder.path().join("certs.d")] };
    let source = source(&server, ":v1", over_tls(trust));
    std::fs::create_dir_all(folder.path().join("certs.d/127.0.0.1")).unwrap();
    std::fs::write(folder.path().join("certs.d/127.0.0.1/ca.crt"), &authority).unwrap();
    assert!(pull(&store, &source).is_err(), "that is another registry's");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("ca.crt"), authority).unwrap();
    pull(&store, &source).unwrap();
}

#[test]
fn a_registry_that_nobody_trusts_is_refused_at_once_and_says_what_to_do() {
    let (_, other) = tls(&["another"]);
    for (host, names, why) in [
        (None, ["127.0.0.1"], "is of nobody whom this host trusts"),
        (Some(other), ["127.0.0.1"], "is of nobody whom this host trusts"),
        (None, ["other.invalid"], "is for another name"),
    ] {
        let (server, authority) = start(&names);
        let (_folder, store) = store();
        let host = if names == ["127.0.0.1"] { host } else { Some(authority) };
        let trust = Trust { host, ..Trust::default() };
        let error = pull(&store, &source(&server, ":v1", over_tls(trust))).unwrap_err();
        let refused = chain(&error);
        assert!(refused.ends_with(&format!("the server's certificate {why}")), "{refused}");
        assert!(error.hint().unwrap().contains("~/.docker/certs.d"));
        assert_eq!(server.count(), 0);
    }
}

#[test]
fn a_proxy_leads_to_a_registry_that_is_trusted() {
    let (server, authority) = start(&["registry.invalid"]);
    let (_folder, store) = store();
    let https = Some(format!("http://{}", server.address));
    let proxies = Proxies { https, ..Proxies::default() };
    let trust = Trust { host: Some(authority), ..Trust::default() };
    let access = Access { proxies, ..over_tls(trust) };
    let reference = "registry.invalid/some/image:v1".parse().unwrap();
    let (architecture, limits) = ("amd64".to_owned(), Limits::default());
    pull(&store, &Source::Registry(Remote { reference, access, architecture, limits })).unwrap();
    assert!(server.count() > 0);
}
