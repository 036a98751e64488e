//! `osvm setup --firecracker` against a made-up release server on loopback. What setup does after
//! the download depends on the host, so its exit code is looked at only when the download fails.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::osvm::{Osvm, Ran};

/// Files by path, served until the test's process ends.
fn serve(files: HashMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&stream.unwrap(), &files);
        }
    });
    base
}

fn answer(mut stream: &TcpStream, files: &HashMap<String, Vec<u8>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let file = files.get(request.split(' ').nth(1).unwrap_or_default());
    let status = if file.is_some() { 200 } else { 404 };
    let body = file.map(Vec::as_slice).unwrap_or_default();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// A server with one release, and the sum that the release says it has.
fn server(version: &str, sum: impl Fn(&[u8]) -> String) -> String {
    let archive = archive(version);
    let name = format!("firecracker-v{version}-x86_64.tgz");
    let path = format!("/v{version}/{name}");
    let sums = format!("{}  {name}\n", sum(&archive));
    serve(HashMap::from([(format!("{path}.sha256.txt"), sums.into_bytes()), (path, archive)]))
}

fn archive(version: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for program in ["firecracker", "jailer"] {
        let content = format!("{program} {version}");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let path = format!("release-v{version}-x86_64/{program}-v{version}-x86_64");
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn setup(osvm: &Osvm, releases: &str, args: &[&str]) -> Ran {
    let args = [&["setup", "--firecracker"], args].concat();
    let mut command = osvm.command(&args);
    Ran::from(command.env("OSVM_FIRECRACKER_RELEASES", releases).output().unwrap())
}

#[test]
fn a_release_is_downloaded_and_can_be_executed() {
    let osvm = Osvm::new();
    let ran = setup(&osvm, &server("1.2.3", sha256), &["1.2.3"]);
    for name in ["firecracker", "jailer"] {
        let program = osvm.home().join("bin").join(name);
        let content = fs::read_to_string(&program).unwrap();
        assert_eq!(content, format!("{name} 1.2.3"), "{}", ran.stderr);
        assert_eq!(program.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert!(ran.stdout.contains(&program.display().to_string()), "{}", ran.stdout);
    }
    assert!(ran.stdout.starts_with("installed firecracker 1.2.3 (SHA-256 "), "{}", ran.stdout);
}

#[test]
fn without_a_version_it_is_the_newest_that_osvm_knows() {
    let osvm = Osvm::new();
    let ran = setup(&osvm, &server("1.16.1", sha256), &["--json"]);
    assert!(osvm.home().join("bin/firecracker").is_file(), "{}", ran.stderr);
}

#[test]
fn a_release_with_a_wrong_sum_is_not_installed() {
    let osvm = Osvm::new();
    let ran = setup(&osvm, &server("1.2.3", |_| sha256(b"another")), &["1.2.3"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("failed to trust http://127.0.0.1:"), "{}", ran.stderr);
    assert!(!osvm.home().join("bin/firecracker").exists());
}

#[test]
fn a_missing_release_is_unavailable_and_a_version_that_is_none_is_a_usage_error() {
    let (osvm, releases) = (Osvm::new(), server("1.2.3", sha256));
    let missing = setup(&osvm, &releases, &["1.2.4"]);
    assert_eq!(missing.code, 4, "{}", missing.stderr);
    assert!(missing.stderr.contains("there is no such release"), "{}", missing.stderr);
    let wrong = setup(&osvm, &releases, &["newest"]);
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
    let open = setup(&osvm, "http://releases.example", &["1.2.3"]);
    assert_eq!(open.code, 2, "{}", open.stderr);
}

#[test]
fn programs_in_osvms_own_folder_come_before_those_on_the_search_path() {
    let osvm = Osvm::new();
    let (own, path) = (osvm.home().join("bin"), osvm.folder().join("path"));
    for folder in [&own, &path] {
        fs::create_dir_all(folder).unwrap();
        for program in ["firecracker", "qemu-system-x86_64"] {
            fs::write(folder.join(program), "").unwrap();
        }
    }
    let mut command = osvm.command(&["doctor", "--json"]);
    let ran = Ran::from(command.env("PATH", &path).output().unwrap());
    assert!(ran.stdout.contains(&format!("{}/", own.display())), "{}", ran.stdout);
    assert!(!ran.stdout.contains(&format!("{}/", path.display())), "{}", ran.stdout);
}
