//! A gateway that is none, with clients who must notice what it does wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Door;
use super::crowd::Crowd;
use super::ledger::Kind;
use super::mark::Numbers;
use crate::servers::{Catalogue, Soak};

/// What answers a call, message by message.
type Manner = fn(&Gateway, &Value) -> Vec<Value>;

struct Gateway {
    manner: Manner,
    /// What comes where nothing was asked.
    beside: Option<Value>,
    /// The message of the call before.
    last: Mutex<String>,
}

impl Gateway {
    fn start(manner: Manner, beside: Option<Value>) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let last = Mutex::new("nothing".to_owned());
        let gateway = Arc::new(Self { manner, beside, last });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let gateway = Arc::clone(&gateway);
                thread::spawn(move || gateway.serve(stream.unwrap()));
            }
        });
        Door { url, token: "token".to_owned() }
    }

    /// One request, and the connection ends.
    fn serve(&self, mut stream: TcpStream) {
        let (head, body) = request(&stream);
        let (status, messages) = match head.split(' ').next() {
            Some("GET") => ("200 OK", self.beside.iter().cloned().collect()),
            Some("DELETE") => ("204 No Content", Vec::new()),
            _ => self.answers(&serde_json::from_str(&body).unwrap()),
        };
        let events: String =
            messages.iter().map(|message| format!("data: {message}\n\n")).collect();
        let headers = "content-type: text/event-stream\r\nmcp-session-id: 1\r\nconnection: close";
        write!(stream, "HTTP/1.1 {status}\r\n{headers}\r\n\r\n{events}").unwrap();
    }

    fn answers(&self, message: &Value) -> (&'static str, Vec<Value>) {
        let result = match message["method"].as_str() {
            Some("initialize") => json!({ "protocolVersion": "2025-11-25" }),
            Some("tools/list") => json!({ "tools": [{ "name": "one__echo" }] }),
            Some("tools/call") => return ("200 OK", (self.manner)(self, message)),
            _ => return ("202 Accepted", Vec::new()),
        };
        ("200 OK", vec![json!({ "id": message["id"], "result": result })])
    }
}

fn request(stream: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (first, String::from_utf8(body).unwrap())
}

fn echo(id: &Value, text: &Value) -> Value {
    json!({ "id": id, "result": { "content": [{ "type": "text", "text": text }] } })
}

fn honest(_: &Gateway, call: &Value) -> Vec<Value> {
    let told = json!({ "method": "notifications/message", "params": {} });
    vec![told, echo(&call["id"], &call["params"]["arguments"]["message"])]
}

/// What two clients, one of each era, make of it.
fn noticed(manner: Manner, beside: Option<Value>) -> Vec<Kind> {
    let door = Gateway::start(manner, beside);
    let soak = Soak {
        tool: "echo".to_owned(),
        arguments: r#"{"message":"{mark}"}"#.to_owned(),
        answer: "{mark}".to_owned(),
        fails: false,
    };
    let work = tempfile::tempdir().unwrap();
    let crowd = Crowd::gather(&door, 2, vec![("one", &soak)], work.path()).unwrap();
    let run = crowd.run(Duration::ZERO, || Ok(())).unwrap();
    run.faults.into_iter().map(|fault| fault.kind).collect()
}

#[test]
fn a_gateway_that_does_its_work_is_found_to() {
    assert_eq!(noticed(honest, None), []);
}

#[test]
fn a_gateway_that_answers_by_what_another_asked_is_found_out() {
    let crossing: Manner = |gateway, call| {
        let own = call["params"]["arguments"]["message"].as_str().unwrap().to_owned();
        let other = std::mem::replace(&mut *gateway.last.lock().unwrap(), own);
        vec![echo(&call["id"], &other.into())]
    };
    let noticed = noticed(crossing, None);
    assert!(noticed.len() >= 2 && noticed.iter().all(|kind| *kind == Kind::Crossed), "{noticed:?}");
}

#[test]
fn a_gateway_that_answers_twice_is_found_out() {
    let doubling: Manner = |gateway, call| [honest(gateway, call), honest(gateway, call)].concat();
    let noticed = noticed(doubling, None);
    assert!(noticed.len() >= 2 && noticed.iter().all(|kind| *kind == Kind::Doubled), "{noticed:?}");
}

#[test]
fn a_gateway_that_loses_answers_is_found_out() {
    let losing: Manner = |gateway, call| honest(gateway, call)[..1].to_vec();
    let noticed = noticed(losing, None);
    assert!(noticed.len() >= 2 && noticed.iter().all(|kind| *kind == Kind::Lost), "{noticed:?}");
}

#[test]
fn an_answer_in_the_stream_of_what_nobody_asked_is_found_out() {
    let stray = echo(&json!(1), &json!("stray"));
    let noticed = noticed(honest, Some(stray));
    assert!(matches!(noticed[..], [Kind::Crossed | Kind::Doubled]), "{noticed:?}");
}

#[test]
fn what_the_catalogue_asks_is_json_and_no_two_answers_are_alike() {
    let (catalogue, numbers) = (Catalogue::read().unwrap(), Numbers::default());
    let asked: Vec<_> =
        catalogue.servers.iter().filter_map(|server| server.soak.as_ref()).collect();
    assert!(asked.len() >= 12);
    for soak in asked {
        let (one, other) = (numbers.mark(1), numbers.mark(2));
        serde_json::from_str::<Value>(&one.fill(&soak.arguments)).unwrap();
        assert_ne!(one.fill(&soak.arguments), other.fill(&soak.arguments), "{soak:?}");
        assert_ne!(one.fill(&soak.answer), other.fill(&soak.answer), "{soak:?}");
    }
}
