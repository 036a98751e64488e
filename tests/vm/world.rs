//! A network of the test's own, with a name server and web servers in it: all of it on the loopback interface of a
//! network namespace, in which `osvm` then runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::getuid;
use tempfile::TempDir;

/// The servers' address. It is one for documentation, which counts as public.
pub(crate) const ADDRESS: &str = "203.0.113.7";

/// Where a program that a test brings along may serve on any port, such as a registry.
pub(crate) const SPARE: &str = "203.0.113.8";

/// Every name of the zone, and where it leads.
const NAMES: [(&str, &str); 5] = [
    ("api.example.test", ADDRESS),
    ("other.example.test", ADDRESS),
    ("registry.example.test", SPARE),
    ("private.example.test", "10.1.2.3"),
    ("rebind.example.test", "127.0.0.1"),
];

/// What the world consists of, until its standard input ends. It is the first process of a PID namespace, so that none
/// is left.
const SCRIPT: &str = r#"
set -e
cd "$0"
ip link set lo up
for address in "$@"; do ip address add "$address/32" dev lo; done
mount --make-rprivate /
cp -L /etc/resolv.conf old 2>/dev/null || true
mount --bind resolv.conf /etc/resolv.conf
dnsmasq --conf-file=dnsmasq.conf --keep-in-foreground >dnsmasq.log 2>&1 &
/usr/bin/python3 serve.py >serve.log 2>&1 &
until [ -e serving ]; do sleep 0.02; done
echo ready
cat >/dev/null
"#;

/// Files of `www` over HTTP and HTTPS, `/echo` sends a body back, `/big` sends 32 MiB.
const SERVE: &str = r#"
import http.server, ssl, threading, os
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/big":
            self.send_response(200); self.send_header("Content-Length", str(32 << 20)); self.end_headers()
            for _ in range(32): self.wfile.write(bytes(1 << 20))
        else: super().do_GET()
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
def serve(address, port, context):
    server = http.server.ThreadingHTTPServer((address, port), Handler)
    if context: server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.crt", "server.key")
os.makedirs("www", exist_ok=True)
os.chdir("www")
for address in ["203.0.113.7", "10.1.2.3", "127.0.0.1"]:
    serve(address, 80, None); serve(address, 443, context)
serve("127.0.0.1", 8080, None); serve("203.0.113.7", 8080, None)
open("../serving", "w").close()
threading.Event().wait()
"#;

pub(crate) struct World {
    folder: TempDir,
    holder: Child,
}

impl World {
    /// `None`, said on standard error, where none can be made.
    pub(crate) fn new() -> Option<Self> {
        if !getuid().is_root() {
            eprintln!("skipped: only root can make a network of the test's own");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        write(&folder);
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", SCRIPT])
            .arg(folder.path())
            .args([ADDRESS, SPARE, "10.1.2.3"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is installed");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let world = Self { folder, holder };
        assert_eq!(line, "ready\n", "{}", world.words());
        Some(world)
    }

    /// What the servers serve.
    pub(crate) fn www(&self) -> PathBuf {
        self.folder.path().join("www")
    }

    /// The certificate of the test's own authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Certificate and key of the servers, for every name of the zone.
    pub(crate) fn certificate(&self) -> [PathBuf; 2] {
        ["server.crt", "server.key"].map(|name| self.folder.path().join(name))
    }

    /// The process that holds it.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// What the servers said.
    fn words(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("dnsmasq.log") + &read("serve.log")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world's servers:\n{}", self.words());
        }
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

/// A command that runs `program` in the world of a process.
pub(crate) fn command(pid: u32, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.args([format!("--net=/proc/{pid}/ns/net"), format!("--mount=/proc/{pid}/ns/mnt")]);
    command.arg("--").arg(program);
    command
}

fn write(folder: &TempDir) {
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("www")).unwrap();
    fs::write(path("www/hello"), "hello from the world\n").unwrap();
    fs::write(path("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    fs::write(path("serve.py"), SERVE).unwrap();
    let names = NAMES.map(|(name, address)| format!("address=/{name}/{address}\n")).concat();
    // Its usual file for that is the host's, and other worlds begin at the same time.
    let pid = path("dnsmasq.pid");
    let dnsmasq = format!(
        "no-resolv\nno-hosts\nuser=root\nlisten-address=127.0.0.1\nbind-interfaces\npid-file={}\n{names}",
        pid.display()
    );
    fs::write(path("dnsmasq.conf"), dnsmasq).unwrap();
    certificates(folder.path());
}

/// An authority, and a certificate of it for every name of the zone.
fn certificates(folder: &Path) {
    let names = NAMES.map(|(name, _)| format!("DNS:{name}")).join(",");
    let openssl = |args: &[&str]| {
        let made = Command::new("openssl").args(args).current_dir(folder).output();
        let made = made.expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let authority = [
        "req",
        "-x509",
        "-subj",
        "/CN=the world's authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ];
    openssl(&[&authority[..], &key].concat());
    let names = format!("subjectAltName={names}");
    let server = ["req", "-x509", "-subj", "/CN=the world", "-CA", "ca.crt", "-CAkey", "ca.key"];
    let out = [
        "-addext",
        &names,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "server.key",
        "-out",
        "server.crt",
    ];
    openssl(&[&server[..], &out, &key].concat());
}
