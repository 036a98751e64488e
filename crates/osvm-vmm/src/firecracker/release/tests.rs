//! A release's way from a made-up server on loopback to a folder.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::{fs, thread};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::*;

const ARCHIVE: &str = "/v1.16.1/firecracker-v1.16.1-x86_64.tgz";
const SUMS: &str = "/v1.16.1/firecracker-v1.16.1-x86_64.tgz.sha256.txt";

/// A server's answer.
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Answer {
    fn whole(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status: 200, headers: vec![format!("Content-Length: {}", body.len())], body }
    }

    fn redirect(to: &str) -> Self {
        Self { status: 302, headers: vec![format!("Location: {to}")], body: Vec::new() }
    }
}

/// Serves `answers` by path, and 404 for all else, until the test's process ends.
fn serve(answers: HashMap<&'static str, Answer>) -> Release {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&stream.unwrap(), &answers);
        }
    });
    Release::new("1.16.1", &base).unwrap()
}

/// One request, one answer. The client may hang up whenever it likes.
fn answer(mut stream: &TcpStream, answers: &HashMap<&'static str, Answer>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let missing = Answer { status: 404, ..Answer::whole("not found") };
    let Answer { status, headers, body } = answers.get(path).unwrap_or(&missing);
    let head =
        format!("HTTP/1.1 {status} -\r\n{}\r\nConnection: close\r\n\r\n", headers.join("\r\n"));
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// An archive as a release has it, with the programs that are named.
fn archive(programs: &[&str]) -> Vec<u8> {
    archive_of("I am", programs)
}

fn archive_of(words: &str, programs: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let programs = programs.iter().map(|program| format!("{program}-v1.16.1-x86_64"));
    let others = ["LICENSE", "firecracker-v1.16.1-x86_64.debug"].map(str::to_owned);
    for name in others.into_iter().chain(programs) {
        let content = format!("{words} {name}");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        let path = format!("release-v1.16.1-x86_64/{name}");
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn both() -> Vec<u8> {
    archive(&["firecracker", "jailer"])
}

fn sum(archive: &[u8]) -> String {
    download::hexadecimal(&Sha256::digest(archive))
}

fn sums(archive: &[u8]) -> Answer {
    Answer::whole(format!("{}  firecracker-v1.16.1-x86_64.tgz\n", sum(archive)))
}

/// A server with this archive and the sum of that one.
fn release(served: Answer, summed: &[u8]) -> Release {
    serve(HashMap::from([(ARCHIVE, served), (SUMS, sums(summed))]))
}

fn good(archive: &[u8]) -> Release {
    release(Answer::whole(archive), archive)
}

/// A folder to fetch into, which the first fetch makes.
struct Bin(tempfile::TempDir);

impl Bin {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("home/bin")
    }

    fn fetch(&self, release: &Release) -> Result<Installed, ReleaseError> {
        fetch(release, &self.path(), &mut |_, _| ())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|entry| name(entry).into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The error of a fetch that left nothing behind.
fn refusal(release: &Release) -> ReleaseError {
    refusal_within(release, LIMITS)
}

fn refusal_within(release: &Release, limits: Limits) -> ReleaseError {
    let bin = Bin::new();
    let error = release.fetch(&bin.path(), limits, &mut |_, _| ()).unwrap_err();
    assert_eq!(bin.names(), Vec::<String>::new(), "{error}");
    error
}

#[test]
fn a_good_release_is_laid_down_executable_and_its_sum_remembered() {
    let (bin, bytes) = (Bin::new(), both());
    let mut seen = Vec::new();
    let mut progress = |done, size| seen.push((done, size));
    let installed = fetch(&good(&bytes), &bin.path(), &mut progress).unwrap();

    assert_eq!((installed.version.as_str(), &installed.sha256), ("1.16.1", &sum(&bytes)));
    assert_eq!(installed.firecracker, bin.path().join("firecracker"));
    assert_eq!(installed.jailer, bin.path().join("jailer"));
    for (path, content) in [
        (&installed.firecracker, "I am firecracker-v1.16.1-x86_64"),
        (&installed.jailer, "I am jailer-v1.16.1-x86_64"),
    ] {
        assert_eq!(fs::read_to_string(path).unwrap(), content);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
    }
    assert_eq!(bin.names(), ["firecracker", "jailer", "release.json"]);
    assert_eq!(seen.last(), Some(&(bytes.len() as u64, Some(bytes.len() as u64))));
    let record = fs::read_to_string(bin.path().join("release.json")).unwrap();
    assert!(record.contains(r#""magic":"osvm-release","version":1"#), "{record}");
    assert!(record.contains(&format!(r#""sums":{{"1.16.1":"{}"}}"#, sum(&bytes))), "{record}");
}

#[test]
fn a_release_may_be_fetched_again_and_replaces_other_programs() {
    let (bin, bytes) = (Bin::new(), both());
    fs::create_dir_all(bin.path()).unwrap();
    fs::write(bin.path().join("firecracker"), "another").unwrap();
    let first = bin.fetch(&good(&bytes)).unwrap();
    assert_ne!(fs::read_to_string(&first.firecracker).unwrap(), "another");
    assert_eq!(bin.fetch(&good(&bytes)).unwrap(), first);
}

#[test]
fn a_release_whose_sum_has_changed_since_is_refused_and_the_programs_stay() {
    let bin = Bin::new();
    let installed = bin.fetch(&good(&both())).unwrap();
    let changed = archive_of("I am no longer", &["firecracker", "jailer"]);
    let error = bin.fetch(&good(&changed)).unwrap_err();
    assert!(matches!(error, ReleaseError::Changed { .. }), "{error}");
    assert!(fs::read_to_string(installed.firecracker).unwrap().starts_with("I am firecracker"));
}

#[test]
fn a_damaged_record_is_not_taken_for_none() {
    let bin = Bin::new();
    bin.fetch(&good(&both())).unwrap();
    let path = bin.path().join("release.json");
    let record = fs::read_to_string(&path).unwrap();
    for damaged in [
        record.replace("1.16.1", "1.16.2"),
        record.replace(r#""version":1"#, r#""version":2"#),
        record.replace("osvm-release", "osvm-lease"),
        record[..record.len() / 2].to_owned(),
        " ".repeat(2 << 20),
    ] {
        fs::write(&path, damaged).unwrap();
        let error = bin.fetch(&good(&both())).unwrap_err();
        assert!(matches!(error, ReleaseError::Record { .. }), "{error}");
    }
}

#[test]
fn a_wrong_sum_is_refused_before_anything_is_unpacked() {
    let error = refusal(&release(Answer::whole(both()), b"another archive"));
    assert!(matches!(error, ReleaseError::WrongSum { .. }), "{error}");
}

#[test]
fn a_truncated_archive_is_refused_with_and_without_a_length() {
    let bytes = both();
    let half = || bytes[..bytes.len() / 2].to_vec();
    let told = Answer { body: half(), ..Answer::whole(bytes.clone()) };
    let error = refusal(&release(told, &bytes));
    assert!(matches!(error, ReleaseError::Cut { .. }), "{error}");
    let untold = Answer { headers: vec!["Server: x".to_owned()], ..Answer::whole(half()) };
    let error = refusal(&release(untold, &bytes));
    assert!(matches!(error, ReleaseError::WrongSum { .. }), "{error}");
}

#[test]
fn an_archive_that_is_none_or_half_of_one_but_has_its_sum_is_refused() {
    let bytes = both();
    for bytes in [b"no gzip".as_slice(), &bytes[..bytes.len() / 2]] {
        let error = refusal(&good(bytes));
        assert!(matches!(error, ReleaseError::Unpack { .. }), "{error}");
    }
}

#[test]
fn a_missing_version_is_named() {
    let bytes = both();
    let no_archive = serve(HashMap::from([(SUMS, sums(&bytes))]));
    let no_sums = serve(HashMap::from([(ARCHIVE, Answer::whole(bytes))]));
    for (release, path) in [(no_archive, ARCHIVE), (no_sums, SUMS)] {
        let error = refusal(&release);
        let ReleaseError::NoSuch { url } = error else { panic!("{error}") };
        assert_eq!(url, format!("{}{path}", release.place.base()));
    }
}

#[test]
fn other_failures_of_the_server_are_passed_on() {
    let broken = Answer { status: 503, ..Answer::whole("") };
    let error = refusal(&serve(HashMap::from([(SUMS, broken)])));
    let ReleaseError::Get { source, .. } = error else { panic!("{error}") };
    assert!(matches!(*source, ureq::Error::StatusCode(503)), "{source}");
}

#[test]
fn sums_that_do_not_speak_of_the_archive_are_refused() {
    for text in ["", "<html>", "00  firecracker-v1.16.1-x86_64.tgz", &format!("{:064}  other", 0)] {
        let error = refusal(&serve(HashMap::from([(SUMS, Answer::whole(text))])));
        assert!(matches!(error, ReleaseError::NoSum { .. }), "{error}");
    }
}

#[test]
fn an_archive_without_the_programs_is_refused() {
    for (programs, missing) in
        [(&[][..], "firecracker"), (&["jailer"], "firecracker"), (&["firecracker"], "jailer")]
    {
        let error = refusal(&good(&archive(programs)));
        let ReleaseError::Missing { program, .. } = error else { panic!("{error}") };
        assert_eq!(program, missing);
    }
}

#[test]
fn what_is_too_big_is_cut_off_whether_it_says_so_or_not() {
    let endless = |headers: &[String]| {
        let (headers, body) = (headers.to_vec(), vec![b'x'; 1 << 20]);
        refusal(&serve(HashMap::from([(SUMS, Answer { status: 200, headers, body })])))
    };
    for headers in ["Content-Length: 1048576", "Server: x"] {
        let error = endless(&[headers.to_owned()]);
        assert!(matches!(error, ReleaseError::TooBig { limit: SUMS_LIMIT, .. }), "{error}");
    }
    let error = refusal_within(&good(&both()), Limits { archive: 10, ..LIMITS });
    assert!(matches!(error, ReleaseError::TooBig { limit: 10, .. }), "{error}");
}

#[test]
fn what_is_too_big_unpacked_is_refused() {
    let error = refusal_within(&good(&both()), Limits { unpacked: 1000, ..LIMITS });
    let ReleaseError::Unpack { source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("far too big"), "{source}");
}

#[test]
fn redirects_on_the_same_loopback_are_followed() {
    let bytes = both();
    let elsewhere = serve(HashMap::from([("/a", Answer::whole(bytes.clone()))]));
    let absolute = Answer::redirect(&format!("{}/a", elsewhere.place.base()));
    let relative = Answer::redirect("/sums");
    let release =
        serve(HashMap::from([(ARCHIVE, absolute), (SUMS, relative), ("/sums", sums(&bytes))]));
    Bin::new().fetch(&release).unwrap();
}

#[test]
fn redirects_to_elsewhere_are_refused_before_they_are_followed() {
    for to in ["http://192.0.2.1/x", "//192.0.2.1/x", "http://localhost.example/", "file:///x"] {
        let error = refusal(&serve(HashMap::from([(SUMS, Answer::redirect(to))])));
        let ReleaseError::Redirect { to: told, .. } = error else { panic!("{error}") };
        assert_eq!(told, to);
    }
}

#[test]
fn redirects_in_a_circle_or_to_nowhere_end() {
    let nowhere = Answer { headers: vec!["Server: x".to_owned()], ..Answer::redirect("") };
    for answer in [Answer::redirect(SUMS), nowhere] {
        let error = refusal(&serve(HashMap::from([(SUMS, answer)])));
        assert!(matches!(error, ReleaseError::Astray { .. }), "{error}");
    }
}

#[test]
fn versions_and_places_that_cannot_be_right_are_refused_without_a_request() {
    let long = format!("1.16.{:040}", 0);
    for version in ["", "1..2", "../1", "v1.16.1", "1.16", "1.16.1 ", "latest", &long] {
        let error = Release::new(version, PUBLIC).unwrap_err();
        assert!(matches!(error, ReleaseError::Version(_)), "{version}");
    }
    for base in [
        "",
        "a.example",
        "http://a.example",
        "http://localhost",
        "http://127.0.0.1.a.example",
        "http://127.0.0.1:1@a.example",
        "file:///tmp",
    ] {
        let error = Release::new(VERSION, base).unwrap_err();
        assert!(matches!(error, ReleaseError::Place(_)), "{base}");
    }
    Release::new(VERSION, PUBLIC).unwrap();
    Release::new(VERSION, "http://[::1]:1/mirror").unwrap();
}
