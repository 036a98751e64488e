//! Pulls from the reference implementation of a registry: `docker-registry`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine;

use super::*;

/// `user` with the password `secret`, as `htpasswd -B` writes it.
const PASSWORDS: &str = "user:$2b$04$xvoJQ0t4m9XuKEXfGvvPseHXM/kQss9eeU12J4dtdFdpYvGNcH83S\n";

/// Killed with the test.
struct Registry {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Nothing where it is not installed.
    #[expect(clippy::disallowed_methods, reason = "a real registry must be understood")]
    fn start(asks: bool) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (data, passwords) = (folder.path().join("data"), folder.path().join("passwords"));
        let auth = format!("auth: {{htpasswd: {{realm: x, path: {}}}}}\n", passwords.display());
        let configuration = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n{}",
            data.display(),
            if asks { &auth } else { "" }
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&passwords, PASSWORDS).unwrap();
        std::fs::write(&path, configuration).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            eprintln!("skipped: docker-registry is not installed (package docker-registry)");
            return None;
        };
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = said.find(|line| line.contains("listening on ")).expect("it listens");
        let address = line.split("listening on ").nth(1).unwrap();
        let address = address.split(['"', ' ', ',']).next().unwrap().to_owned();
        // Who stops reading stops it.
        thread::spawn(move || said.for_each(drop));
        Some(Self { child, address, _folder: folder })
    }

    fn push(&self, pieces: &Pieces, manifest: &str, tag: &str, user: Option<&str>) {
        let agent: Agent = Agent::config_builder().proxy(None).build().into();
        let base = format!("http://{}/v2/some/image", self.address);
        let authorization = user.map_or(String::new(), |user| {
            format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(user))
        });
        let put = |url: &str, kind: &str, bytes: &[u8]| {
            let request = agent.put(url).header(header::AUTHORIZATION, &authorization);
            request.header(header::CONTENT_TYPE, kind).send(bytes).unwrap();
        };
        for (digest, bytes) in pieces.blobs.iter().filter(|(digest, _)| *digest != manifest) {
            let post = agent.post(format!("{base}/blobs/uploads/"));
            let place = post.header(header::AUTHORIZATION, &authorization).send_empty().unwrap();
            let place = place.headers()[header::LOCATION].to_str().unwrap();
            put(&format!("{place}&digest={digest}"), "application/octet-stream", bytes);
        }
        put(&format!("{base}/manifests/{tag}"), MANIFEST, &pieces.blobs[manifest]);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn remote(registry: &Registry, rest: &str, access: Access) -> Source {
    let reference = format!("{}/some/image{rest}", registry.address).parse().unwrap();
    let (architecture, limits) = ("amd64".to_owned(), Limits::default());
    Source::Registry(Remote { reference, access, architecture, limits })
}

/// What tools push has media types, which a real registry wants.
fn typed() -> (Pieces, String) {
    let (mut pieces, digest) = image();
    pieces.blobs.remove(&digest);
    pieces.manifest["mediaType"] = MANIFEST.into();
    let manifest = pieces.finish();
    (pieces, manifest["digest"].as_str().unwrap().to_owned())
}

#[test]
fn a_real_registry_gives_by_tag_and_by_digest() {
    let Some(registry) = Registry::start(false) else { return };
    let (pieces, digest) = typed();
    registry.push(&pieces, &digest, "v1", None);
    let (_folder, store) = store();
    let by_tag = pull(&store, &remote(&registry, ":v1", access())).unwrap();
    let by_digest = pull(&store, &remote(&registry, &format!("@{digest}"), access())).unwrap();
    assert_eq!(by_tag.digest, by_digest.digest);
    assert_eq!(by_tag.manifest.unwrap().to_string(), digest);
    let refused = chain(&pull(&store, &remote(&registry, ":v2", access())).unwrap_err());
    assert!(refused.ends_with("the registry has no such image"), "{refused}");
}

#[test]
fn a_real_registry_lets_in_who_knows_the_password() {
    let Some(registry) = Registry::start(true) else { return };
    let (pieces, digest) = typed();
    registry.push(&pieces, &digest, "v1", Some("user:secret"));
    let (_folder, store) = store();
    let refused = chain(&pull(&store, &remote(&registry, ":v1", access())).unwrap_err());
    assert!(refused.ends_with("asks for credentials, and there are none for it"), "{refused}");
    let file = tempfile::NamedTempFile::new().unwrap();
    for (password, takes) in [("wrong", false), ("secret", true)] {
        let auths = serde_json::json!({ registry.address.as_str(): {"username": "user", "password": password}});
        std::fs::write(file.path(), serde_json::json!({ "auths": auths }).to_string()).unwrap();
        assert_eq!(
            pull(&store, &remote(&registry, ":v1", with(&file))).is_ok(),
            takes,
            "{password}"
        );
    }
}
