//! A simple index of PyPI's form, as files of a world's web server.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::osvm::Osvm;
use crate::world::World;

pub(crate) struct Index(PathBuf);

/// One version of a package.
pub(crate) struct Wheel<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) files: &'a [(&'a str, &'a str)],
    /// Programs, as entry points name them.
    pub(crate) scripts: &'a [&'a str],
    /// Why it was taken back (PEP 592).
    pub(crate) yanked: Option<&'a str>,
}

pub(crate) const URL: &str = "https://api.example.test/simple";

impl Index {
    pub(crate) fn new(world: &World) -> Self {
        Self(world.www().join("simple"))
    }

    /// A home that installs from the index of its world.
    pub(crate) fn osvm(world: &World) -> Osvm {
        Osvm::for_packages()
            .within(world)
            .env("UV_DEFAULT_INDEX", URL)
            .env("NODE_EXTRA_CA_CERTS", world.authority().to_str().unwrap())
    }

    /// Its SHA-256.
    pub(crate) fn publish(&self, wheel: &Wheel<'_>) -> String {
        let folder = self.0.join(wheel.name);
        fs::create_dir_all(&folder).unwrap();
        let name = format!("{}-{}-py3-none-any.whl", wheel.name, wheel.version);
        wheel.write(File::create(folder.join(&name)).unwrap());
        let mut sum = String::new();
        for byte in Sha256::digest(fs::read(folder.join(&name)).unwrap()) {
            write!(sum, "{byte:02x}").unwrap();
        }
        let yanked = wheel.yanked.map(|why| format!(" data-yanked=\"{why}\"")).unwrap_or_default();
        let page = folder.join("index.html");
        let before = fs::read_to_string(&page).unwrap_or_default();
        let link = format!("<a href=\"{name}#sha256={sum}\"{yanked}>{name}</a>\n");
        fs::write(page, before + &link).unwrap();
        sum
    }
}

impl Wheel<'_> {
    fn write(&self, file: File) {
        let Self { name, version, files, scripts, .. } = self;
        let about = format!("{name}-{version}.dist-info");
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        let wheel = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            .to_owned();
        let mut all: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        all.push((format!("{about}/METADATA"), metadata));
        all.push((format!("{about}/WHEEL"), wheel));
        if !scripts.is_empty() {
            let points = format!("[console_scripts]\n{}\n", scripts.join("\n"));
            all.push((format!("{about}/entry_points.txt"), points));
        }
        let record: String = all.iter().map(|(name, _)| format!("{name},,\n")).collect();
        all.push((format!("{about}/RECORD"), format!("{record}{about}/RECORD,,\n")));
        let mut zip = ZipWriter::new(file);
        for (name, text) in all {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }
}
