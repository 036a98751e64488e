//! A release's way from a made-up server on loopback to a folder.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const VERSION: &str = "1.16.1";
const ARCHIVE: &str = "/v1.16.1/firecracker-v1.16.1-x86_64.tgz";
const SUMS: &str = "/v1.16.1/firecracker-v1.16.1-x86_64.tgz.sha256.txt";

/// A server's answer: a body, and the length that its header claims.
struct Answer {
    body: Vec<u8>,
    claimed: usize,
}

impl Answer {
    fn whole(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { claimed: body.len(), body }
    }
}

/// Serves `answers` by path, and 404 for all else, until the test's process ends.
fn serve(answers: HashMap<&'static str, Answer>) -> Release {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&stream.unwrap(), &answers);
        }
    });
    Release { base, version: VERSION.to_owned(), proxy: None }
}

/// One request, one answer. The client may hang up whenever it likes.
fn answer(stream: &TcpStream, answers: &HashMap<&'static str, Answer>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let missing = Answer::whole("not found");
    let (status, found) = answers.get(path).map_or((404, &missing), |found| (200, found));
    let head = format!(
        "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        found.claimed
    );
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&found.body));
}

/// An archive as a release has it, with the programs that are named.
fn archive(programs: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let programs = programs.iter().map(|program| format!("{program}-v1.16.1-x86_64"));
    for name in
        programs.chain(["LICENSE".to_owned(), "firecracker-v1.16.1-x86_64.debug".to_owned()])
    {
        let content = format!("I am {name}");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        let path = format!("release-v1.16.1-x86_64/{name}");
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn sums(archive: &[u8]) -> Answer {
    let sum = hexadecimal(&Sha256::digest(archive));
    Answer::whole(format!("{sum}  firecracker-v1.16.1-x86_64.tgz\n"))
}

/// A server with this archive and the sum of that one.
fn release(served: Answer, summed: &[u8]) -> Release {
    serve(HashMap::from([(ARCHIVE, served), (SUMS, sums(summed))]))
}

/// A place to install into; whatever the parent holds afterwards was left there.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("v1.16.1")
    }

    fn install(&self, release: &Release) -> Result<Installed, ReleaseError> {
        release.install(&self.folder(), &mut |_, _| ())
    }

    fn refuses(&self, release: &Release) -> ReleaseError {
        let error = self.install(release).unwrap_err();
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 0, "something was left: {error}");
        error
    }
}

#[test]
fn a_good_release_is_checked_and_both_programs_are_laid_down_executable() {
    let (place, bytes) = (Place::new(), archive(&["firecracker", "jailer"]));
    let mut seen = Vec::new();
    let release = release(Answer::whole(bytes.clone()), &bytes);
    let mut progress = |done, size| seen.push((done, size));
    let installed = release.install(&place.folder(), &mut progress).unwrap();

    assert_eq!(installed.sha256, hexadecimal(&Sha256::digest(&bytes)));
    for (path, content) in [
        (&installed.firecracker, "I am firecracker-v1.16.1-x86_64"),
        (&installed.jailer, "I am jailer-v1.16.1-x86_64"),
    ] {
        assert_eq!(fs::read_to_string(path).unwrap(), content);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
    }
    assert_eq!(fs::read_dir(place.folder()).unwrap().count(), 3, "programs, sum, nothing else");
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1, "no temporary folder stays");
    assert_eq!(seen.last(), Some(&(bytes.len() as u64, Some(bytes.len() as u64))));
}

#[test]
fn an_installed_release_is_found_again_without_a_server() {
    let (place, bytes) = (Place::new(), archive(&["firecracker", "jailer"]));
    let installed = place.install(&release(Answer::whole(bytes.clone()), &bytes)).unwrap();
    let silent = serve(HashMap::new());
    assert_eq!(place.install(&silent).unwrap(), installed);
}

#[test]
fn half_an_installation_is_replaced() {
    let (place, bytes) = (Place::new(), archive(&["firecracker", "jailer"]));
    fs::create_dir(place.folder()).unwrap();
    fs::write(place.folder().join("firecracker"), "half").unwrap();
    let installed = place.install(&release(Answer::whole(bytes.clone()), &bytes)).unwrap();
    assert_ne!(fs::read_to_string(installed.firecracker).unwrap(), "half");
}

#[test]
fn a_wrong_sum_is_refused_before_anything_is_unpacked() {
    let (place, bytes) = (Place::new(), archive(&["firecracker", "jailer"]));
    let error = place.refuses(&release(Answer::whole(bytes), b"another archive"));
    assert!(matches!(error, ReleaseError::WrongSum { .. }), "{error}");
}

#[test]
fn a_truncated_archive_is_refused() {
    let (place, bytes) = (Place::new(), archive(&["firecracker", "jailer"]));
    let half = Answer { body: bytes[..bytes.len() / 2].to_vec(), claimed: bytes.len() };
    let error = place.refuses(&release(half, &bytes));
    assert!(matches!(error, ReleaseError::Cut { .. }), "{error}");
}

#[test]
fn an_archive_that_is_none_but_has_its_sum_is_refused() {
    let place = Place::new();
    let error = place.refuses(&release(Answer::whole("no gzip"), b"no gzip"));
    assert!(matches!(error, ReleaseError::Unpack { .. }), "{error}");
}

#[test]
fn a_missing_archive_and_missing_sums_name_what_was_asked_for() {
    let bytes = archive(&["firecracker", "jailer"]);
    let no_archive = serve(HashMap::from([(SUMS, sums(&bytes))]));
    let no_sums = serve(HashMap::from([(ARCHIVE, Answer::whole(bytes))]));
    for (release, path) in [(no_archive, ARCHIVE), (no_sums, SUMS)] {
        let error = Place::new().refuses(&release);
        let ReleaseError::Get { url, source } = error else { panic!("{error}") };
        assert_eq!(url, format!("{}{path}", release.base));
        assert!(matches!(*source, ureq::Error::StatusCode(404)), "{source}");
    }
}

#[test]
fn sums_that_do_not_speak_of_the_archive_are_refused() {
    for text in ["", "<html>", "00  firecracker-v1.16.1-x86_64.tgz", &format!("{:064}  other", 0)] {
        let answers = HashMap::from([(SUMS, Answer::whole(text))]);
        let error = Place::new().refuses(&serve(answers));
        assert!(matches!(error, ReleaseError::NoSum { .. }), "{error}");
    }
}

#[test]
fn endless_sums_are_cut_off() {
    let answers = HashMap::from([(SUMS, Answer::whole(vec![b'x'; 1 << 20]))]);
    let error = Place::new().refuses(&serve(answers));
    assert!(matches!(error, ReleaseError::TooBig { limit: SUMS_LIMIT, .. }), "{error}");
}

#[test]
fn an_archive_without_the_jailer_is_refused() {
    let bytes = archive(&["firecracker"]);
    let error = Place::new().refuses(&release(Answer::whole(bytes.clone()), &bytes));
    assert!(matches!(error, ReleaseError::Missing { program: "jailer", .. }), "{error}");
}

#[test]
fn versions_and_places_that_cannot_be_right_are_refused_without_a_request() {
    let with = |base: &str, version: &str| {
        let release = Release { base: base.to_owned(), version: version.to_owned(), proxy: None };
        Place::new().refuses(&release)
    };
    for version in ["", "1..2", "../1", "v1.16", "1.16 ", "latest"] {
        assert!(matches!(with(PUBLIC, version), ReleaseError::Version(_)), "{version}");
    }
    for base in [
        "http://a.example",
        "http://127.0.0.1.a.example",
        "http://127.0.0.1:1@a.example",
        "file:///tmp",
    ] {
        assert!(matches!(with(base, VERSION), ReleaseError::Insecure(_)), "{base}");
    }
}
