//! `osvm mcp gateway`: servers in VMs, for clients that speak HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually, kill, patience, wait};

pub(crate) struct Gateway {
    process: Option<Child>,
    pub(crate) address: String,
    pub(crate) token: String,
}

/// Path of all servers, in place of a server's name.
pub(crate) const ALL: &str = "/mcp";

/// Status, headers and body of a response.
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Gateway {
    pub(crate) fn start(osvm: &Osvm, more: &[&str]) -> Self {
        let args = [&["mcp", "gateway", "--listen", "127.0.0.1:0"], more].concat();
        let mut process = osvm.start(&args);
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some((_, address)) = line.split_once("://") {
                break address.to_owned();
            }
        };
        let token = std::fs::read_to_string(osvm.home().join("gateway.token"));
        Self { process: Some(process), address, token: token.unwrap_or_default().trim().to_owned() }
    }

    fn post(&self, server: &str, more: &[(&str, &str)], body: &Value) -> Response {
        self.post_by(&self.token, server, more, body)
    }

    pub(crate) fn post_by(
        &self,
        token: &str,
        server: &str,
        more: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        let authorization = format!("Bearer {token}");
        let own = [("host", "localhost"), ("authorization", &authorization)];
        self.send("POST", server, &[&own, more].concat(), body)
    }

    pub(crate) fn send(
        &self,
        method: &str,
        server: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Response {
        let body = body.to_string();
        let path = if server.starts_with('/') {
            server.to_owned()
        } else {
            format!("/servers/{server}/mcp")
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body =
            if head.contains("transfer-encoding: chunked") { whole(body) } else { body.to_owned() };
        Response { status, head: head.to_owned(), body }
    }

    pub(crate) fn end(mut self) {
        let process = self.process.take().unwrap();
        let pid = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        wait(process).expect(0);
    }
}

/// Of a test that failed.
impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Response {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}\n{}", self.head, self.body);
        // An answer that takes long is the last event of a stream.
        let mut events = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        let answer = events.next_back().unwrap_or(&self.body);
        serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| *own == name).map(|(_, value)| value)
    }
}

/// A body that came in chunks, each behind its length.
fn whole(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body += &rest[..length];
        chunks = &rest[length + 2..];
    }
    body
}

pub(crate) fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

#[test]
fn a_client_with_the_token_holds_a_session_with_a_server_in_a_vm() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let gateway = Gateway::start(&osvm, &[]);
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "0" } } });
    let begun = gateway.post("demo", &[], &initialize);
    assert_eq!(begun.json()["result"]["serverInfo"]["name"], "osvm-demo");
    let session = [("mcp-session-id", begun.header("mcp-session-id").unwrap())];
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(gateway.post("demo", &session, &ready).status, 202);
    let sum = call(1, "add", &json!({ "a": 1, "b": 2 }));
    assert_eq!(gateway.post("demo", &session, &sum).json()["result"]["content"][0]["text"], "3");
    // The VM dies, and another one goes on with the session.
    let first = osvm.vm("demo")["id"].clone();
    kill(osvm.vmm_processes()[0]);
    eventually("answered by another VM", || {
        let answer = gateway.post("demo", &session, &sum).json();
        assert!(
            answer["result"]["content"][0]["text"] == "3" || answer["error"].is_object(),
            "{answer}"
        );
        answer["error"].is_null() && osvm.vm("demo")["id"] != first
    });
    // The daemon dies, too, and with it the session; its client begins again.
    osvm.crash_daemon();
    eventually("the session is over", || gateway.post("demo", &session, &sum).status == 404);
    let begun = gateway.post("demo", &[], &initialize).json();
    assert_eq!(begun["result"]["serverInfo"]["name"], "osvm-demo");
    gateway.end();
}

#[test]
fn a_request_of_the_modern_era_needs_no_session() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let gateway = Gateway::start(&osvm, &[]);
    let mut sum = call(1, "add", &json!({ "a": 1, "b": 2 }));
    sum["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "add")];
    let answer = gateway.post("demo", &headers, &sum);
    assert_eq!(answer.json()["result"]["content"][0]["text"], "3");
    let wrong = gateway.post("demo", &headers[..2], &sum);
    assert_eq!((wrong.status, wrong.body.contains("-32020")), (400, true), "{}", wrong.body);
    gateway.end();
}

#[test]
fn nobody_is_served_without_the_token_or_by_a_name_that_is_not_this_hosts() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let gateway = Gateway::start(&osvm, &[]);
    let (token, ping) =
        (gateway.token.clone(), json!({ "jsonrpc": "2.0", "id": 0, "method": "ping" }));
    assert_eq!(token.len(), 64);
    let mode = osvm.home().join("gateway.token").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let authorization = format!("Bearer {token}");
    let shown = ("authorization", authorization.as_str());
    for (headers, status) in [
        (&[("host", "localhost")][..], 401),
        (&[("host", "localhost"), ("authorization", "Bearer wrong")], 401),
        (&[("host", "evil.example"), shown], 403),
        (&[("host", "localhost"), shown, ("origin", "https://evil.example")], 403),
        (&[("host", "localhost"), shown], 400),
    ] {
        assert_eq!(gateway.send("POST", "demo", headers, &ping).status, status, "{headers:?}");
    }
    let unknown =
        gateway.post("demi", &[], &json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize" }));
    assert_eq!((unknown.status, unknown.body.contains("did you mean demo?")), (404, true));
    assert!(osvm.vms().is_empty());
    gateway.end();
    // The token stays, and is not shown again.
    let gateway = Gateway::start(&osvm, &[]);
    assert_eq!(gateway.token, token);
    gateway.end();
    let open = ["mcp", "gateway", "--no-token", "--listen", "0.0.0.0:0"];
    osvm.run(&open).expect(2).says(&["--no-token on 0.0.0.0 would serve the whole network"]);
}

fn list(id: u64) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list", "params": { "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    } } })
}

#[test]
fn two_hundred_servers_are_listed_by_what_one_vm_has_said() {
    let servers: String = (0..200).map(|at| format!("[[servers]]\nid = \"s{at}\"\n")).collect();
    let osvm = Osvm::with_config(&servers);
    let gateway = Gateway::start(&osvm, &[]);
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
    let of_one = gateway.post("s0", &headers, &list(1)).json()["result"]["tools"].clone();
    let of_one = of_one.as_array().unwrap().len();
    assert!(of_one > 0);
    crate::manifest::kept(&osvm, "tools/list");
    let all = gateway.post(ALL, &headers, &list(2)).json();
    let again = gateway.post(ALL, &headers, &list(3)).json();
    assert_eq!(all["result"]["tools"].as_array().unwrap().len(), 200 * of_one);
    assert_eq!(again["result"], all["result"]);
    assert_eq!(osvm.vms().len(), 1, "no other server was started");
    gateway.end();
}
