//! The gateway between hostile clients and a hostile server: every request is answered, with a message or a reason, and
//! what a server says makes no events but its own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use osvm_mcp::OnBehalf;
use osvm_mcp::envelope::Envelope;
use osvm_mcp::gateway::{Access, Bounds, Gateway, Naming, Opening, Recalling, Servers, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tower::ServiceExt;

use crate::run;

/// How long an answer is read.
const PATIENCE: Duration = Duration::from_secs(120);

/// Servers say the first part, and have said before what follows a line `=` in it. Then each of the other parts is a
/// request: its first line and headers, an empty line, and its body. Parts are separated by lines of a dash.
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

    fn recall(&self, _: Vec<String>, servers: Vec<(String, OnBehalf)>) -> Recalling<'_> {
        let said = self.0.split_once("\n=\n").map(|(_, said)| said.to_owned());
        let known = servers.into_iter().filter(|(name, _)| name != "one__two");
        let said = known.filter_map(|(name, _)| Some((name, said.clone()?))).collect();
        Box::pin(async { Ok(said) })
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
    // A stream that waits for something to happen has no end of its own.
    let mut chunks = answer.into_body().into_data_stream();
    let mut body = Vec::new();
    let read = async {
        while let Some(Ok(chunk)) = chunks.next().await {
            body.extend_from_slice(&chunk);
        }
    };
    let _ = timeout(PATIENCE, read).await;
    let body = String::from_utf8(body).expect("it is text");
    if is_json {
        serde_json::from_str::<serde_json::Value>(&body).expect("it is JSON");
    }
    if is_events {
        // As the HTML standard has it, a carriage return ends a line, too.
        body.split(['\r', '\n']).for_each(event_line);
    }
}

fn event_line(line: &str) {
    if let Some(data) = line.strip_prefix("data: ") {
        Envelope::parse(data).expect("an event is a message");
        return;
    }
    let known = ["id: ", "retry: ", ":"];
    assert!(line.is_empty() || known.iter().any(|field| line.starts_with(field)), "{line:?}");
}
