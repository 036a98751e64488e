//! A registry of container images on the loopback, as far as pulling goes.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Serves one image under each of these names until the test's process ends. Its address.
pub(crate) fn serve(names: &[&str]) -> String {
    serve_image(names, image(None))
}

/// The same of an image whose layer is said to have so many bytes.
pub(crate) fn serve_claiming(name: &str, size: u64) -> String {
    serve_image(&[name], image(Some(size)))
}

/// Answers every request with a body that has no end, whatever it says of its length.
pub(crate) fn serve_endless(length: Option<u64>) -> String {
    let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    let head = format!("HTTP/1.1 200 -\r\nContent-Type: {MANIFEST}\r\n{length}\r\n");
    listen(move |mut stream| {
        let request = request(stream);
        let _ = stream.write_all(head.as_bytes());
        if !request.starts_with("HEAD") {
            while stream.write_all(&[b' '; 64 << 10]).is_ok() {}
        }
    })
}

/// Serves one connection after the other until the test's process ends. Its address.
fn listen(serve: impl Fn(&TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(&stream)));
    address
}

fn serve_image(names: &[&str], (blobs, manifest): ([Vec<u8>; 2], Vec<u8>)) -> String {
    let mut files = HashMap::new();
    for name in names {
        for blob in &blobs {
            files.insert(format!("/v2/{name}/blobs/{}", digest(blob)), blob.clone());
        }
        for version in ["latest", &digest(&manifest)] {
            files.insert(format!("/v2/{name}/manifests/{version}"), manifest.clone());
        }
    }
    listen(move |stream| answer(stream, &files))
}

/// One that wants to know who asks. Its address.
pub(crate) fn refuse() -> String {
    listen(|mut stream| {
        request(stream);
        let head = "HTTP/1.1 401 -\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
    })
}

/// Configuration and one layer, and what names them.
fn image(claim: Option<u64>) -> ([Vec<u8>; 2], Vec<u8>) {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o755);
    layer.append_data(&mut header, "server", &b"hi"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Entrypoint": ["/server"], "Cmd": ["stdio"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let config = config.to_string().into_bytes();
    let described = |bytes: &[u8], kind: &str| -> Value {
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
    };
    let mut described_layer = described(&layer, "layer.v1.tar");
    if let Some(size) = claim {
        described_layer["size"] = json!(size);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": described(&config, "config.v1+json"),
        "layers": [described_layer],
    });
    ([config, layer], manifest.to_string().into_bytes())
}

fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    format!("sha256:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The first line.
fn request(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    request
}

fn answer(mut stream: &TcpStream, files: &HashMap<String, Vec<u8>>) {
    let request = request(stream);
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let file = files.get(path);
    let status = if file.is_some() { 200 } else { 404 };
    let body = file.map(Vec::as_slice).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Type: {MANIFEST}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if method == "HEAD" { &[][..] } else { body };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
