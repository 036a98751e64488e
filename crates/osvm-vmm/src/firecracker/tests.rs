//! Against a program that only waits, and sockets on which the test plays Firecracker. The real one
//! needs KVM: it is tested in the lab.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::{BootProtocol, Exit, Kernel};

const LONG: Duration = Duration::from_secs(30);

/// A machine's directory, and a stand-in for the program in it.
struct Bench {
    dir: tempfile::TempDir,
    said: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vmlinux", "initramfs", "disk"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        // Before the driver does, for the sockets in it.
        std::fs::create_dir(Workplace::of(dir.path()).folder()).unwrap();
        Self { dir, said: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The driver, whose program tells `version` and otherwise runs `script`.
    async fn driver(&self, version: &str, script: &str) -> Firecracker {
        let program = self.path("firecracker");
        let version = format!("[ \"$1\" = --version ] && {{ echo Firecracker v{version}; exit; }}");
        std::fs::write(&program, format!("#!/bin/sh\n{version}\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        Firecracker::bare(&program).await.unwrap()
    }

    fn workplace(&self) -> Workplace {
        Workplace::of(self.dir.path())
    }

    fn machine(&self) -> Machine {
        Machine {
            id: "one".to_owned(),
            dir: self.dir.path().to_owned(),
            logs: self.dir.path().to_owned(),
            kernel: Kernel {
                path: self.path("vmlinux"),
                boot: BootProtocol::default(),
                args: "more=1".to_owned(),
            },
            initramfs: self.path("initramfs"),
            disk: Some(self.path("disk")),
            resources: osvm_spec::Resources::new(128, 2).unwrap(),
            cpu_template: osvm_spec::CpuTemplate::None,
            guest_ports: vec![7],
        }
    }

    /// Answers every request, with a fault on `refused`.
    fn serve_api(&self, refused: &'static str) {
        let listener = UnixListener::bind(self.workplace().path(API_SOCKET)).unwrap();
        let said = Arc::clone(&self.said);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve_requests(socket, refused, Arc::clone(&said)));
            }
        });
    }

    fn said(&self) -> Vec<(String, Value)> {
        self.said.lock().unwrap().clone()
    }

    /// Echoes on guest port 5252; nobody listens on others, and nobody at all for the first two
    /// tries.
    fn serve_vsock(&self) {
        let listener = UnixListener::bind(self.workplace().path(vsock::SOCKET)).unwrap();
        tokio::spawn(async move {
            for connection in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve_stream(socket, connection >= 2));
            }
        });
    }
}

async fn serve_requests(
    socket: UnixStream,
    refused: &str,
    said: Arc<Mutex<Vec<(String, Value)>>>,
) -> Option<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).await.ok().filter(|&read| read > 0)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            if head.is_empty() {
                head = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.ok()?;
        let fault = json!({ "fault_message": "no such kernel" }).to_string();
        let answer = if head.ends_with(refused) {
            format!("HTTP/1.1 400 \r\nContent-Length: {}\r\n\r\n{fault}", fault.len())
        } else {
            "HTTP/1.1 204 \r\n\r\n".to_owned()
        };
        said.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap()));
        socket.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn serve_stream(socket: UnixStream, listens: bool) -> Option<()> {
    let mut socket = BufReader::new(socket);
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    if !listens || line != "CONNECT 5252\n" {
        return None;
    }
    socket.write_all(b"OK 1073741824\n").await.ok()?;
    let mut buffer = [0; 64];
    loop {
        let length = socket.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
        socket.write_all(&buffer[..length]).await.ok()?;
    }
}

#[tokio::test]
async fn a_machine_is_described_part_by_part_and_then_started() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    let driver = bench.driver("1.16.1", "exec sleep 900").await;
    assert_eq!(driver.version(), "1.16.1");
    let running = driver.start(&bench.machine()).await.unwrap();
    let file = |name| inherited_as(running.process().pid(), &bench.path(name));
    let expected = [
        ("PUT /machine-config", json!({ "vcpu_count": 2, "mem_size_mib": 128 })),
        (
            "PUT /boot-source",
            json!({
                "kernel_image_path": file("vmlinux"),
                "initrd_path": file("initramfs"),
                "boot_args": "console=ttyS0 quiet panic=-1 rdinit=/.osvm/agent osvm.root=disk \
                              reboot=k pci=off i8042.noaux i8042.nokbd more=1",
            }),
        ),
        (
            "PUT /drives/root",
            json!({
                "drive_id": "root",
                "is_root_device": false,
                "is_read_only": true,
                "path_on_host": "disk",
            }),
        ),
        ("PUT /vsock", json!({ "guest_cid": 3, "uds_path": "v.sock" })),
        ("PUT /entropy", json!({})),
        (
            "PUT /balloon",
            json!({ "amount_mib": 0, "deflate_on_oom": true, "free_page_reporting": true }),
        ),
        (
            "PUT /serial",
            json!({
                "serial_out_path": file("console.log"),
                "rate_limiter": {
                    "size": 65_536, "one_time_burst": 1_048_576, "refill_time": 3_600_000,
                },
            }),
        ),
        ("PUT /actions", json!({ "action_type": "InstanceStart" })),
    ];
    assert_eq!(bench.said(), expected.map(|(head, body)| (head.to_owned(), body)));
    let disk = std::fs::read_link(bench.workplace().path("disk")).unwrap();
    assert_eq!(disk.to_str().unwrap(), file("disk"));
    running.kill().unwrap();
}

#[tokio::test]
async fn a_machine_is_saved_and_a_clone_is_told_where_it_is_and_of_its_console() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    let driver = bench.driver("1.16.1", "exec sleep 900").await;
    let running = driver.start(&bench.machine()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    running.save(folder.path()).await.unwrap();
    running.kill().unwrap();
    running.exited().await;
    let create =
        json!({ "snapshot_type": "Full", "snapshot_path": "state", "mem_file_path": "memory" });
    let asked = [
        ("PATCH /vm".to_owned(), json!({ "state": "Paused" })),
        ("PUT /snapshot/create".to_owned(), create),
    ];
    assert!(bench.said().ends_with(&asked), "{:?}", bench.said());

    let template = driver.load(folder.path()).await.unwrap();
    drop(folder);
    let other = Bench::new();
    other.serve_api("/nothing");
    let clone = template.restore(&other.machine()).await.unwrap();
    let said = other.said();
    let heads: Vec<_> = said.iter().map(|(head, _)| head.as_str()).collect();
    assert_eq!(heads, ["PUT /serial", "PUT /snapshot/load"]);
    let (_, load) = &said[1];
    assert_eq!(load["resume_vm"], false);
    for path in [&load["snapshot_path"], &load["mem_backend"]["backend_path"]] {
        let path = path.as_str().unwrap().replace("self", &clone.process().pid().to_string());
        assert!(std::fs::metadata(&path).is_ok(), "it has inherited {path}");
    }
    assert!(other.workplace().path("disk").is_symlink());
    clone.kill().unwrap();
}

/// The name by which a process opens a file that it has inherited.
fn inherited_as(pid: u32, file: &Path) -> String {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap());
    // Others come and go while the process works.
    let is_it = |path| std::fs::read_link(path).is_ok_and(|found| found == file);
    let numbers = all.filter(|entry| is_it(entry.path()));
    let number = numbers.map(|entry| entry.file_name().into_string().unwrap()).next();
    format!("/proc/self/fd/{}", number.expect("it has inherited the file"))
}

#[tokio::test]
async fn a_filter_that_lies_beside_the_program_is_put_on() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    std::fs::write(bench.path("firecracker-seccomp.bpf"), "filter").unwrap();
    let script = "echo \"$*\" > told.part; mv told.part told; exec sleep 900";
    let driver = bench.driver("1.16.1", script).await;
    let running = driver.start(&bench.machine()).await.unwrap();
    let file = bench.workplace().path("told");
    let told = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::fs::read_to_string(&file).unwrap()
    };
    let told = tokio::time::timeout(LONG, told).await.unwrap();
    let filter = inherited_as(running.process().pid(), &bench.path("firecracker-seccomp.bpf"));
    assert!(told.contains(&format!("--seccomp-filter {filter}")), "{told}");
    running.kill().unwrap();
}

#[tokio::test]
async fn an_old_version_gets_no_console_because_it_could_not_limit_it() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    let driver = bench.driver("1.12.0", "exec sleep 900").await;
    assert!(!driver.capabilities().pause);
    driver.start(&bench.machine()).await.unwrap().kill().unwrap();
    assert!(bench.said().iter().all(|(head, _)| head != "PUT /serial"));
    assert!(!driver.capabilities().balloon);
    let caveat = driver.caveat().unwrap();
    assert!(caveat.contains("firecracker 1.12.0 is untested"), "{caveat}");
    assert!(caveat.ends_with("tested: 1.16"), "{caveat}");
}

#[tokio::test]
async fn what_it_logs_and_counts_is_kept_and_bounded() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    // What it says on standard error is kept in the same file, and would come first at times.
    let flood = "head -c 10000000 /dev/zero | tr '\\0' x | dd bs=1000 oflag=nonblock of=log.pipe 2>/dev/null";
    let script =
        format!("echo counted > metrics.pipe; echo refused > log.pipe; {flood}; exec sleep 900");
    let driver = bench.driver("1.16.1", &script).await;
    let running = driver.start(&bench.machine()).await.unwrap();
    let read = |log: &str| std::fs::read_to_string(bench.path(log)).unwrap_or_default();
    let kept = async {
        while read("metrics.log") != "counted\n" || !read("vmm.log").starts_with("refused\n") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let kept = tokio::time::timeout(LONG, kept).await;
    kept.unwrap_or_else(|_| panic!("{:?} {:.80}", read("metrics.log"), read("vmm.log")));
    assert!(bench.path("vmm.log").metadata().unwrap().len() < 1 << 20);
    running.kill().unwrap();
}

#[tokio::test]
async fn a_cpu_template_is_named_as_firecracker_names_it() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    let driver = bench.driver("1.16.1", "exec sleep 900").await;
    let machine = Machine { cpu_template: osvm_spec::CpuTemplate::T2CL, ..bench.machine() };
    driver.start(&machine).await.unwrap().kill().unwrap();
    let (_, body) = &bench.said()[0];
    assert_eq!(body["cpu_template"], "T2CL");
}

#[tokio::test]
async fn a_refusal_is_told_in_firecrackers_words_and_leaves_no_process() {
    let bench = Bench::new();
    bench.serve_api("/boot-source");
    let driver = bench.driver("1.16.1", "echo $$ > pid; exec sleep 900").await;
    let error = driver.start(&bench.machine()).await.err().unwrap();
    assert_eq!(error.to_string(), "start firecracker: no such kernel");
    assert_eq!(bench.said().len(), 2, "nothing was sent after the refusal");
}

#[tokio::test]
async fn a_missing_kernel_is_named_before_anything_is_started() {
    let bench = Bench::new();
    let driver = bench.driver("1.16.1", "exit 1").await;
    let mut machine = bench.machine();
    machine.kernel.path = "/nowhere/vmlinux".into();
    let error = driver.start(&machine).await.err().unwrap();
    assert_eq!(error.to_string(), "open kernel /nowhere/vmlinux");
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_quoted() {
    let bench = Bench::new();
    let driver = bench.driver("1.16.1", "echo 'unknown argument' >&2; exit 1").await;
    let error = driver.start(&bench.machine()).await.err().unwrap();
    assert_eq!(error.to_string(), "start firecracker: unknown argument");
    let bench = Bench::new();
    let driver = bench.driver("1.16.1", "exit 7").await;
    let error = driver.start(&bench.machine()).await.err().unwrap();
    let reason = "start firecracker: it ended with exit status 7 and said nothing";
    assert_eq!(error.to_string(), reason);
}

#[tokio::test]
async fn a_program_that_is_no_firecracker_is_refused() {
    let error = Firecracker::bare(Path::new("/bin/true")).await.unwrap_err();
    assert!(matches!(error, VmmError::Version { .. }), "{error}");
}

#[tokio::test]
async fn the_link_waits_for_the_agent_and_opens_streams_both_ways() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    bench.serve_vsock();
    let driver = bench.driver("1.16.1", "exec sleep 900").await;
    let running = driver.start(&bench.machine()).await.unwrap();
    let link = running.connect(LONG).await.unwrap();

    for _ in 0..2 {
        let mut stream = link.open(5252).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"hello", "shutdown ended both directions");
        assert!(stream.write(b"more").await.is_err());
    }
    assert!(matches!(link.open(9).await, Err(LinkError::Refused { port: 9 })));

    let guest = bench.workplace().path("v.sock_7");
    UnixStream::connect(&guest).await.unwrap().write_all(b"hi").await.unwrap();
    let (port, mut stream) = link.accept().await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!((port, said.as_str()), (7, "hi"));

    link.hang_up();
    let link = running.connect(LONG).await.unwrap();
    UnixStream::connect(&guest).await.unwrap();
    assert_eq!(link.accept().await.unwrap().0, 7);

    running.kill().unwrap();
    assert_eq!(running.exited().await, Exit::Signal(9));
    link.closed().await;
    assert!(matches!(running.connect(LONG).await, Err(LinkError::Ended)));
}

#[tokio::test]
async fn pause_and_resume_are_asked_of_a_machine_that_was_adopted_too() {
    let bench = Bench::new();
    bench.serve_api("/nothing");
    let driver = bench.driver("1.17.0-dev", "exec sleep 900").await;
    assert!(driver.capabilities().pause);
    let saved = driver.start(&bench.machine()).await.unwrap().saved();
    let running = driver.adopt(&saved).await.unwrap();
    running.pause().await.unwrap();
    running.resume().await.unwrap();
    let (said, state) = (bench.said(), |state| json!({ "state": state }));
    let last =
        [("PATCH /vm".to_owned(), state("Paused")), ("PATCH /vm".to_owned(), state("Resumed"))];
    assert!(said.ends_with(&last), "{said:?}");
    running.kill().unwrap();
}
