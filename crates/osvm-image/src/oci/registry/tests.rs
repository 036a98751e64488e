//! Pulls: from a registry that fails in every way, and from a real one.

mod real;
mod server;
mod tls;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::decompress::tests::gzip;
use crate::oci::Limits;
use crate::oci::tests::{Pieces, chain, layer};
use crate::store::{Image, ImportError, Progress, Remote, Source, Store};
use server::{Answer, Asked, Server};

const USER: &str = "Basic YTpi";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image with a layer of a megabyte that does not pack.
fn image() -> (Pieces, String) {
    let noise: Vec<u8> = (0..1_200_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(i % 31)) as u8)
        .collect();
    let mut pieces = Pieces::of(&[(&layer(&[("noise", Some(&noise))]), gzip)]);
    let manifest = pieces.finish();
    (pieces, manifest["digest"].as_str().unwrap().to_owned())
}

/// The answer of a registry without faults, whose only tag is `v1`.
fn honest((pieces, manifest): &(Pieces, String), asked: &Asked) -> Answer {
    let last = asked.path.rsplit('/').next().unwrap();
    let digest = if last == "v1" { manifest } else { last };
    let Some(bytes) = pieces.blobs.get(digest) else { return Answer::status(404) };
    let answer = match asked.from {
        Some(from) => Answer::part(bytes, from),
        None => Answer::ok(bytes),
    };
    answer.with("docker-content-digest", digest).with("content-type", MANIFEST)
}

fn access() -> Access {
    Access { pause: Duration::from_millis(1), ..Access::default() }
}

fn source(server: &Server, tag: &str, access: Access) -> Source {
    let reference = format!("{}/some/image{tag}", server.address).parse().unwrap();
    let architecture = "amd64".to_owned();
    Source::Registry(Remote { reference, access, architecture, limits: Limits::default() })
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn pull(store: &Store, source: &Source) -> Result<Image, ImportError> {
    store.import(source, &mut |_| {})
}

fn parts(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("parts")).unwrap().count()
}

#[test]
fn a_tag_is_pulled_once_and_tells_how_far_it_is() {
    let (folder, store) = store();
    let image = image();
    let server = Server::start(move |asked| honest(&image, asked));
    let mut heard = Vec::new();
    let source = source(&server, ":v1", access());
    let pulled = store.import(&source, &mut |progress| heard.push(progress)).unwrap();
    assert_eq!(pulled.origin, format!("{}/some/image:v1", server.address));
    assert_eq!(pulled.manifest.as_ref().unwrap().to_string(), super::tests::image().1);
    let mut pulls = heard.iter().filter_map(|progress| match progress {
        Progress::Pulling { done, total } => Some((*done, *total)),
        _ => None,
    });
    let last = pulls.next_back().unwrap();
    assert!(last.0 == last.1 && last.1 > 1_000_000, "{last:?}");
    assert_eq!(parts(folder.path()), 0);
    let before = server.count();
    assert_eq!(pull(&store, &source).unwrap(), pulled);
    assert_eq!(server.count(), before + 1, "a look at the tag is all");
}

#[test]
fn a_digest_that_is_known_asks_nobody() {
    let (_folder, store) = store();
    let image = image();
    let pin = format!("@{}", image.1);
    let server = Server::start(move |asked| honest(&image, asked));
    let source = source(&server, &pin, access());
    let pulled = pull(&store, &source).unwrap();
    let before = server.count();
    assert_eq!(pull(&store, &source).unwrap(), pulled);
    assert_eq!(server.count(), before);
}

#[test]
fn a_digest_pin_is_held_against_what_comes() {
    let (_folder, store) = store();
    let (image, mut other) = (image(), Pieces::of(&[]));
    let pin = format!("@{}", image.1);
    let other = other.finish()["digest"].as_str().map(|digest| (other.clone(), digest.to_owned()));
    let server = Server::start(move |asked| match asked.path.contains("/manifests/") {
        true => honest(
            &(other.clone().unwrap().0, other.clone().unwrap().1),
            &Asked { path: "/v1".into(), ..asked.clone() },
        ),
        false => honest(&image, asked),
    });
    let refused = chain(&pull(&store, &source(&server, &pin, access())).unwrap_err());
    assert!(refused.contains(&format!("trust {}: its digest is", &pin[1..])), "{refused}");
}

#[test]
fn an_interrupted_layer_goes_on_where_it_was_cut() {
    let (_folder, store) = store();
    let image = image();
    let froms = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = froms.clone();
    let server = Server::start(move |asked| {
        let answer = honest(&image, asked);
        let is_layer = answer.size() > 100_000;
        if is_layer {
            seen.lock().unwrap().push(asked.from);
        }
        if is_layer { answer.cut(300_000) } else { answer }
    });
    pull(&store, &source(&server, ":v1", access())).unwrap();
    let froms = froms.lock().unwrap();
    assert_eq!(froms[..2], [None, Some(300_000)]);
    assert!(froms.windows(2).all(|pair| pair[0] < pair[1]), "{froms:?}");
}

#[test]
fn a_retry_goes_on_with_what_is_here_and_nothing_half_made_is_used() {
    let (folder, store) = store();
    let image = image();
    let (broken, first) = (Mutex::new(true), Mutex::new(None));
    let state = std::sync::Arc::new((broken, first));
    let shared = state.clone();
    let server = Server::start(move |asked| {
        let answer = honest(&image, asked);
        if answer.size() < 100_000 {
            return answer;
        }
        if *shared.0.lock().unwrap() {
            return if asked.from.is_none() { answer.cut(400_000) } else { Answer::status(503) };
        }
        shared.1.lock().unwrap().get_or_insert(asked.from);
        answer
    });
    let source = source(&server, ":v1", access());
    let refused = chain(&pull(&store, &source).unwrap_err());
    assert!(refused.contains("the answer was 503"), "{refused}");
    assert!(store.list().unwrap().is_empty());
    assert_eq!(parts(folder.path()), 1);
    *state.0.lock().unwrap() = false;
    pull(&store, &source).unwrap();
    assert_eq!(*state.1.lock().unwrap(), Some(Some(400_000)));
    assert_eq!(parts(folder.path()), 0);
}

#[test]
fn a_registry_without_ranges_begins_anew() {
    let (_folder, store) = store();
    let image = image();
    let cut = Mutex::new(false);
    let server = Server::start(move |asked| {
        let answer = honest(&image, &Asked { from: None, ..asked.clone() });
        let mut cut = cut.lock().unwrap();
        if answer.size() < 100_000 || std::mem::replace(&mut *cut, true) {
            answer
        } else {
            answer.cut(50_000)
        }
    });
    pull(&store, &source(&server, ":v1", access())).unwrap();
}

#[test]
fn a_damaged_layer_is_refused_and_comes_whole_the_next_time() {
    let (_folder, store) = store();
    let image = image();
    let damage = Mutex::new(true);
    let server = Server::start(move |asked| {
        let answer = honest(&image, asked);
        if answer.size() < 100_000 || !std::mem::take(&mut *damage.lock().unwrap()) {
            answer
        } else {
            answer.damage()
        }
    });
    let source = source(&server, ":v1", access());
    let refused = chain(&pull(&store, &source).unwrap_err());
    assert!(refused.contains(": its digest is "), "{refused}");
    pull(&store, &source).unwrap();
}

#[test]
fn a_registry_that_stays_broken_is_asked_a_few_times_only() {
    let (_folder, store) = store();
    let server = Server::start(|_| Answer::status(502));
    let refused = chain(&pull(&store, &source(&server, ":v1", access())).unwrap_err());
    assert!(refused.ends_with("the answer was 502"), "{refused}");
    assert_eq!(server.count(), 5);
}

#[test]
fn an_image_that_is_not_there_is_asked_for_once() {
    let (_folder, store) = store();
    let image = image();
    let server = Server::start(move |asked| honest(&image, asked));
    let refused = chain(&pull(&store, &source(&server, ":v2", access())).unwrap_err());
    assert!(refused.ends_with("the registry has no such image"), "{refused}");
    assert_eq!(server.count(), 1);
}

/// Docker's configuration with a user `a` whose password is `b`.
fn credentials(host: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(r#"{{"auths":{{"{host}":{{"auth":"YTpi"}}}}}}"#);
    std::fs::write(file.path(), text).unwrap();
    file
}

fn with(credentials: &tempfile::NamedTempFile) -> Access {
    Access { credentials: Some(credentials.path().to_owned()), ..access() }
}

#[test]
fn a_password_is_given_where_it_is_asked_for() {
    let (_folder, store) = store();
    let image = image();
    let server = Server::start(move |asked| match asked.authorization.as_deref() {
        Some(USER) => honest(&image, asked),
        _ => Answer::status(401).with("www-authenticate", "Basic realm=\"x\""),
    });
    let refused = chain(&pull(&store, &source(&server, ":v1", access())).unwrap_err());
    assert!(refused.ends_with("asks for credentials, and there are none for it"), "{refused}");
    let file = credentials(&server.address);
    pull(&store, &source(&server, ":v1", with(&file))).unwrap();
}

#[test]
fn a_wrong_password_is_told_and_not_tried_again() {
    let (_folder, store) = store();
    let server =
        Server::start(|_| Answer::status(401).with("www-authenticate", "Basic realm=\"x\""));
    let file = credentials(&server.address);
    let refused = chain(&pull(&store, &source(&server, ":v1", with(&file))).unwrap_err());
    assert!(refused.ends_with("refuses the credentials"), "{refused}");
    assert!(!refused.contains("YTpi"));
    assert_eq!(server.count(), 2);
}

#[test]
fn a_token_is_got_and_renewed_when_it_runs_out() {
    let (_folder, store) = store();
    let image = image();
    let (tokens, uses) = (Mutex::new(0), Mutex::new(0));
    let server = Server::start(move |asked| {
        if asked.path.starts_with("/token?") {
            assert!(asked.path.contains("repository%3Asome%2Fimage%3Apull"), "{}", asked.path);
            assert_eq!(asked.authorization.as_deref(), Some(USER));
            *tokens.lock().unwrap() += 1;
            *uses.lock().unwrap() = 0;
            let token = format!(r#"{{"access_token":"t{}"}}"#, tokens.lock().unwrap());
            return Answer::ok(token.as_bytes());
        }
        let token = format!("Bearer t{}", tokens.lock().unwrap());
        let mut uses = uses.lock().unwrap();
        *uses += 1;
        if asked.authorization.as_ref() == Some(&token) && *uses < 3 {
            return honest(&image, asked);
        }
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", asked.host);
        Answer::status(401).with("www-authenticate", &challenge)
    });
    let file = credentials(&server.address);
    pull(&store, &source(&server, ":v1", with(&file))).unwrap();
}

/// Docker's configuration with a helper that runs `script`, and where that is found.
fn helped(folder: &Path, script: &str) -> Access {
    let (file, program) = (folder.join("config.json"), folder.join("docker-credential-test"));
    std::fs::write(&file, r#"{"credsStore":"test"}"#).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    Access { credentials: Some(file), programs: folder.into(), ..access() }
}

#[test]
fn a_helper_is_asked_once_and_only_where_a_registry_asks() {
    let (folder, store) = store();
    let image = image();
    let open = image.clone();
    let open = Server::start(move |asked| honest(&open, asked));
    let uses = AtomicUsize::new(0);
    let closed = Server::start(move |asked| {
        let is_known = asked.authorization.as_deref() == Some(USER);
        // The second of them has come too late, as with a token that has run out.
        if is_known && uses.fetch_add(1, Ordering::SeqCst) != 1 {
            return honest(&image, asked);
        }
        Answer::status(401).with("www-authenticate", "Basic realm=\"x\"")
    });
    let asked = folder.path().join("asked");
    let script = format!(r#"cat >>{}; echo '{{"Username":"a","Secret":"b"}}'"#, asked.display());
    let access = helped(folder.path(), &script);
    pull(&store, &source(&open, ":v1", access.clone())).unwrap();
    assert!(!asked.exists());
    let Source::Registry(remote) = source(&closed, ":v1", access) else { unreachable!() };
    let mut repository =
        Repository::open(&remote.reference, &remote.access, folder.path(), &|_, _| {}).unwrap();
    repository.resolve().unwrap();
    repository.resolve().unwrap();
    assert_eq!(std::fs::read_to_string(asked).unwrap(), closed.address);
}

#[test]
fn an_identity_token_gets_the_tokens_that_are_asked_for() {
    let (folder, store) = store();
    let image = image();
    let server = Server::start(move |asked| {
        if asked.path == "/token" {
            let form = String::from_utf8(asked.body.clone()).unwrap();
            let want = "grant_type=refresh_token&client_id=osvm&\
                scope=repository%3Asome%2Fimage%3Apull&refresh_token=renew%26me&service=s";
            assert_eq!((asked.method.as_str(), form.as_str()), ("POST", want));
            // Docker's own service says it twice.
            return Answer::ok(br#"{"token":"t","access_token":"t"}"#);
        }
        if asked.authorization.as_deref() == Some("Bearer t") {
            return honest(&image, asked);
        }
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", asked.host);
        Answer::status(401).with("www-authenticate", &challenge)
    });
    let script = r#"echo '{"Username":"<token>","Secret":"renew&me"}'"#;
    pull(&store, &source(&server, ":v1", helped(folder.path(), script))).unwrap();
}

#[test]
fn a_helper_that_fails_ends_the_pull_and_is_named() {
    let (folder, store) = store();
    let server =
        Server::start(|_| Answer::status(401).with("www-authenticate", "Basic realm=\"x\""));
    let access = helped(folder.path(), "echo the keyring is locked; exit 1");
    let refused = chain(&pull(&store, &source(&server, ":v1", access)).unwrap_err());
    assert!(refused.contains("ask docker-credential-test for the credentials of"), "{refused}");
    assert!(refused.ends_with("the keyring is locked"), "{refused}");
    assert_eq!(server.count(), 1);
}

#[test]
fn a_redirect_elsewhere_takes_no_password_along() {
    let (_folder, store) = store();
    let image = image();
    let other = image.clone();
    let elsewhere = Server::start(move |asked| {
        assert_eq!(asked.authorization, None);
        honest(&other, asked)
    });
    let to = elsewhere.address.replace("127.0.0.1", "localhost");
    let server = Server::start(move |asked| match asked.authorization.as_deref() {
        Some(USER) if asked.path.contains("/blobs/") => {
            Answer::status(307).with("location", &format!("http://{to}{}", asked.path))
        }
        Some(USER) => honest(&image, asked),
        _ => Answer::status(401).with("www-authenticate", "Basic realm=\"x\""),
    });
    let file = credentials(&server.address);
    pull(&store, &source(&server, ":v1", with(&file))).unwrap();
    assert!(elsewhere.count() > 0);
}

#[test]
fn many_pulls_of_one_image_are_one() {
    let (folder, store) = store();
    let image = image();
    let layers = std::sync::Arc::new(Mutex::new(0));
    let counted = layers.clone();
    let server = Server::start(move |asked| {
        let answer = honest(&image, asked);
        *counted.lock().unwrap() += usize::from(answer.size() > 100_000);
        answer
    });
    let source = source(&server, ":v1", access());
    thread::scope(|scope| {
        let pulls: Vec<_> =
            (0..6).map(|_| scope.spawn(|| pull(&store, &source).unwrap())).collect();
        let images: Vec<_> = pulls.into_iter().map(|pull| pull.join().unwrap()).collect();
        assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    });
    assert_eq!((*layers.lock().unwrap(), parts(folder.path())), (1, 0));
}

#[test]
fn plain_http_is_for_the_loopback_or_when_asked() {
    for (host, loopback) in [
        ("127.0.0.1:5000", true),
        ("127.9.9.9", true),
        ("localhost", true),
        ("localhost:1", true),
        ("[::1]:5000", true),
        ("localhost.evil.net", false),
        ("127.0.0.1.evil.net", false),
        ("10.0.0.1:5000", false),
        ("a.b", false),
        ("[2001:db8::1]:1", false),
    ] {
        assert_eq!(is_loopback(host), loopback, "{host}");
    }
    let image = image();
    let server = Server::start(move |asked| honest(&image, asked));
    let (_folder, store) = store();
    let tls = Access { transport: Transport::Tls, attempts: 1, ..access() };
    assert!(pull(&store, &source(&server, ":v1", tls)).is_err());
}

#[test]
fn a_registry_is_asked_through_the_proxy_but_for_exceptions() {
    let image = image();
    let proxy = Server::start(move |asked| honest(&image, asked));
    let address = format!("http://{}", proxy.address);
    let (_folder, store) = store();
    let pulled = |none: &[&str]| {
        let none = none.iter().map(|host| (*host).to_owned()).collect();
        let proxies = Proxies { http: Some(address.clone()), https: None, none };
        let access = Access { proxies, transport: Transport::Plain, attempts: 1, ..access() };
        let reference = "registry.invalid/some/image:v1".parse().unwrap();
        let (architecture, limits) = ("amd64".to_owned(), Limits::default());
        pull(&store, &Source::Registry(Remote { reference, access, architecture, limits }))
    };
    pulled(&["other.invalid"]).unwrap();
    assert!(proxy.count() > 0);
    assert!(pulled(&["registry.invalid"]).is_err());
    assert!(pulled(&["invalid"]).is_err());
}
