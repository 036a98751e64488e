//! The gateway between hostile clients and a hostile server: every request is answered, with a message or a reason, and
//! what a server says makes no events but its own.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use osvm_mcp::OnBehalf;
use osvm_mcp::envelope::Envelope;
use osvm_mcp::gateway::{Access, Bounds, Gateway, Naming, Opening, Servers, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tower::ServiceExt;

use crate::run;

/// Longest answer that is looked at.
const LONGEST: usize = 16 << 20;

/// Servers say the first part; then each of the other parts is a request: its first line and headers, an empty line, and
/// its body. Parts are separated by lines of a dash.
pub fn gateway(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split("\n-\n");
    let says: Arc<str> = parts.next().unwrap_or_default().into();
    run(async {
        let gateway = Gateway::new(Says(says), Access::default(), Bounds::default());
        let mut session = None;
        for part in parts {
            let Some(request) = request(part, session.as_deref()) else { continue };
            let answered = gateway.router().oneshot(request).await;
            let answer = answered.expect("a router always answers");
            let own = answer.headers().get("mcp-session-id");
            session = own.and_then(|own| Some(own.to_str().ok()?.to_owned())).or(session);
            look(answer).await;
        }
        gateway.drain();
    });
}

/// A server that says the same whatever it hears, and then nothing until it is left.
struct Says(Arc<str>);

impl Servers for Says {
    fn open<'s>(&'s self, _: &'s str, _: OnBehalf) -> Opening<'s> {
        let says = Arc::clone(&self.0);
        Box::pin(async move {
            let (near, far) = duplex(1 << 16);
            tokio::spawn(async move {
                let (mut from_gateway, mut to_gateway) = tokio::io::split(far);
                let mut first = [0; 1];
                let _ = from_gateway.read(&mut first).await;
                let _ = to_gateway.write_all(says.as_bytes()).await;
                let _ = tokio::io::copy(&mut from_gateway, &mut tokio::io::sink()).await;
            });
            Ok(Box::new(near) as Stream)
        })
    }

    fn is_shared(&self, name: &str) -> bool {
        name == "shared"
    }

    fn names(&self) -> Naming<'_> {
        Box::pin(async { Ok(["one", "one__two", "shared"].map(str::to_owned).to_vec()) })
    }
}

/// Nothing, if no HTTP library would take it for one.
fn request(part: &str, session: Option<&str>) -> Option<Request<Body>> {
    let (head, body) = part.split_once("\n\n").unwrap_or((part, ""));
    let mut lines = head.lines();
    let (method, path) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        // Its session's id is not for a fuzzer to guess.
        let value = if value == "$session" { session.unwrap_or_default() } else { value };
        request = request.header(name, value);
    }
    request.body(Body::from(body.to_owned())).ok()
}

async fn look(answer: Response<Body>) {
    let is = |kind: &str| {
        let told = answer.headers().get("content-type").and_then(|told| told.to_str().ok());
        told.is_some_and(|told| told.starts_with(kind))
    };
    let (is_json, is_events) = (is("application/json"), is("text/event-stream"));
    let patience = std::time::Duration::from_secs(3600);
    // A stream that waits for something to happen has no end of its own.
    let read = tokio::time::timeout(patience, to_bytes(answer.into_body(), LONGEST)).await;
    let Ok(Ok(body)) = read else { return };
    let body = String::from_utf8(body.to_vec()).expect("it is text");
    if is_json {
        serde_json::from_str::<serde_json::Value>(&body).expect("it is JSON");
    }
    if is_events {
        body.lines().filter_map(|line| line.strip_prefix("data: ")).for_each(|data| {
            Envelope::parse(data).expect("an event is a message");
        });
        let known = ["data: ", "id: ", "retry: ", ":"];
        let strange =
            |line: &&str| !line.is_empty() && !known.iter().any(|field| line.starts_with(field));
        assert_eq!(body.lines().find(strange), None);
    }
}
