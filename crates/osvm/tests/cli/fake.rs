//! A daemon that answers as a test wants, on the socket where the command looks for one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use osvm_daemon::Home;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Builder;

use crate::osvm::Osvm;

pub(crate) type Stream = TokioIo<hyper::upgrade::Upgraded>;

/// What the daemon was asked, in order.
#[derive(Clone)]
pub(crate) struct Fake {
    answers: Arc<BTreeMap<&'static str, Answer>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    news: Sender<String>,
}

pub(crate) enum Answer {
    Json(u16, Value),
    Text(&'static str),
    /// Lines, each for any name in the request; `NAME` stands for it.
    Lines(Vec<Value>),
    /// Lines for one name, others for every other.
    LinesFor(&'static str, Vec<Value>, Vec<Value>),
    /// Never ends; the end of the connection is news.
    Silence,
    /// Lines for one name, silence for every other.
    SilenceBut(&'static str, Vec<Value>),
    Upgrade(fn(Stream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Fake {
    /// Serves for the rest of the test. Answers go by method and path. What happens is also heard
    /// from the receiver.
    pub(crate) fn start(
        osvm: &Osvm,
        answers: impl IntoIterator<Item = (&'static str, Answer)>,
    ) -> (Self, Receiver<String>) {
        let (news, heard) = channel();
        let answers = Arc::new(answers.into_iter().collect());
        let fake = Self { answers, asked: Arc::default(), news };
        let home = Home::new(osvm.home(), osvm.folder().to_owned());
        std::fs::create_dir_all(home.run()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(home.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let router = Router::new().fallback(answer).with_state(fake.clone());
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).unwrap();
                axum::serve(listener, router).await
            })
        });
        (fake, heard)
    }

    /// Requests so far, as `METHOD /path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(target, _)| target.clone()).collect()
    }

    /// The body of the last request.
    pub(crate) fn last_body(&self) -> Value {
        self.asked.lock().unwrap().last().unwrap().1.clone()
    }

    /// The body of the last request of that kind.
    pub(crate) fn body_of(&self, target: &str) -> Value {
        let asked = self.asked.lock().unwrap();
        asked.iter().rfind(|(other, _)| other == target).unwrap().1.clone()
    }

    fn tell(&self, news: &str) {
        // Most tests don't listen.
        let _ = self.news.send(news.to_owned());
    }
}

async fn answer(State(fake): State<Fake>, mut request: Request) -> Response {
    let target = format!("{} {}", request.method(), request.uri());
    let upgrade = hyper::upgrade::on(&mut request);
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    fake.asked.lock().unwrap().push((target.clone(), body));
    fake.tell(&target);
    match fake.answers.get(target.as_str()) {
        Some(Answer::Json(status, value)) => json_answer(*status, value),
        Some(Answer::Text(text)) => Response::new(Body::from(*text)),
        Some(Answer::Lines(lines)) => line_answer(lines, &name),
        Some(Answer::LinesFor(one, its, others)) => {
            line_answer(if name == *one { its } else { others }, &name)
        }
        Some(Answer::SilenceBut(one, lines)) if name == *one => line_answer(lines, &name),
        Some(Answer::Silence | Answer::SilenceBut(..)) => {
            Response::new(Body::new(Silent::new(fake.clone(), target)))
        }
        Some(Answer::Upgrade(work)) => {
            let work = *work;
            tokio::spawn(async move { work(TokioIo::new(upgrade.await.unwrap())).await });
            switching()
        }
        None => json_answer(404, &error("no_such", &format!("nothing at {target}"))),
    }
}

fn switching() -> Response {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, osvm_daemon::api::UPGRADE)
        .body(Body::empty())
        .unwrap()
}

fn json_answer(status: u16, value: &Value) -> Response {
    Response::builder().status(status).body(Body::from(value.to_string())).unwrap()
}

fn line_answer(lines: &[Value], name: &str) -> Response {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Response::new(Body::from(text.replace("NAME", name)))
}

/// A body that never comes and tells when nobody waits for it any more.
struct Silent(Fake, String);

impl Silent {
    fn new(fake: Fake, target: String) -> Self {
        Self(fake, target)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.0.tell(&format!("hung up on {}", self.1));
    }
}

impl hyper::body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}

pub(crate) fn error(kind: &str, message: &str) -> Value {
    json!({ "kind": kind, "message": message, "hints": ["look here"] })
}

/// A VM as the daemon describes it.
pub(crate) fn vm(name: &str) -> Value {
    json!({
        "name": name, "id": "0123abcd", "state": "ready", "vmm": "qemu 7.2.0",
        "accelerator": "tcg", "pid": 4242, "vcpus": 2, "memory_mib": 512,
        "memory_used_bytes": 104_857_600, "memory_resident_bytes": 125_829_120,
        "memory_shared_bytes": 52_428_800, "memory_unique_bytes": 73_400_320,
        "memory_limit_bytes": 1_073_741_824, "cpu_seconds": 1.25, "uptime_seconds": 75.0,
        "sessions": 1, "calls": 3, "started_by": "user", "demo": false,
        "command": ["/bin/server"], "image": "sha256:00", "server": null,
        "timings": { "prepared_ms": 10, "agent_ms": 900, "ready_ms": 1234 },
        "run_dir": "/tmp/microvm-0123abcd"
    })
}

pub(crate) fn ready(name: &str) -> Vec<Value> {
    vec![
        json!({ "event": "state", "id": "0123abcd", "state": "preparing" }),
        json!({ "event": "state", "id": "0123abcd", "state": "booting" }),
        json!({ "event": "ready", "vm": vm(name) }),
    ]
}
