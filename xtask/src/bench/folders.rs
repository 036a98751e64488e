//! What a lent folder costs, with nothing of it known to the guest: against the same files on the guest's own disk, and
//! against QEMU's virtio-9p in the same guest. And one request, against the link's bare round trip: what a guest's
//! write to a serial port takes until the host's answer can be read from it.

mod plain;
mod scene;

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::client;
use super::osvm::Osvm;
use super::table::Figure;
use crate::kernel;
use scene::{CLIENT, LENT, OWN, Scene};

/// What is done with a folder.
struct Work {
    name: &'static str,
    /// What the client does, and where in the folder.
    what: &'static str,
    at: &'static str,
    program: &'static [&'static str],
}

const WORKS: [Work; 4] = [
    Work { name: "read 64 MiB", what: "read", at: "large", program: &[] },
    Work { name: "read 10,000 files of 600 B", what: "read", at: "small", program: &[] },
    Work {
        name: "git status, 5,000 files",
        what: "run",
        at: "repository",
        // By time of change and size alone: a disk that was made of the folder has other numbers.
        program: &[
            "git",
            "-c",
            "safe.directory=*",
            "-c",
            "core.checkStat=minimal",
            "-c",
            "core.trustctime=false",
            "--no-optional-locks",
            "status",
            "--short",
        ],
    },
    Work {
        name: "npm ls --all",
        what: "run",
        at: "package",
        program: &["npm", "ls", "--all", "--offline", "--cache=/tmp/npm"],
    },
];

impl Work {
    /// The client's command line.
    fn client(&self, folder: &str, runs: usize) -> Vec<String> {
        let own = [CLIENT, self.what, &format!("{folder}/{}", self.at), &runs.to_string()]
            .map(String::from);
        own.into_iter().chain(self.program.iter().map(|&part| part.into())).collect()
    }
}

pub(super) fn figures(program: &Path, runs: usize) -> Result<Vec<Figure>> {
    let kernel = kernel::with("guest/kernel/virtio-9p.config")?;
    let scene = Scene::new()?;
    scene.add(plain::INIT, &plain::init(&WORKS, runs))?;
    let osvm = Osvm::new(program)?;
    let (image, data) = (scene.image().display().to_string(), scene.data());
    let mount = format!("{}:{LENT}", data.display());
    let server = "/usr/bin/python3 -m mcp_server_git";
    let guest = ["--image", &image, "--kernel", &kernel.display().to_string(), "--memory", "1024"]
        .map(String::from);
    let guest: Vec<&str> = guest.iter().map(String::as_str).collect();
    let launch = ["mcp", "microvm", "launch", "folders", "--user", "root", "--mount", &mount];
    osvm.ok(&[&launch[..], &guest, &["--command", server]].concat())?;

    let there = |client: &[String]| {
        let mut args = vec!["mcp", "microvm", "exec", "folders", "--"];
        args.extend(client.iter().map(String::as_str));
        client::told(&osvm.ok(&args)?)
    };
    let absent =
        [CLIENT, "absent", &format!("{LENT}/absent"), &(runs * 40).to_string()].map(String::from);
    let request = there(&absent)?;
    let lent: Vec<_> =
        WORKS.iter().map(|work| there(&work.client(LENT, runs))).collect::<Result<_>>()?;
    let own: Vec<_> =
        WORKS.iter().map(|work| there(&work.client(OWN, runs))).collect::<Result<_>>()?;
    let (vmm, _) = osvm.vmm("folders")?;
    let plain = plain::measure(vmm, &disk(&osvm)?, &data)?;

    let [echo, take, plain @ ..] = &plain[..] else { bail!("the plain guest has told too little") };
    let mut figures = vec![
        Figure::millis("serial port: 64 MiB from the host", *take),
        Figure::millis("serial port: 64 bytes to the host and back", *echo),
        Figure::millis("request to a lent folder", request).against(*echo, 2.0),
    ];
    for (((work, lent), own), plain) in WORKS.iter().zip(lent).zip(own).zip(plain) {
        figures.extend([
            Figure::millis(&format!("{}: the guest's own disk", work.name), own),
            Figure::millis("the same in a lent folder", lent).beside(own),
            Figure::millis("the same by virtio-9p", *plain),
            Figure::millis("a lent folder against virtio-9p", lent).against(*plain, 1.0),
        ]);
    }
    Ok(figures)
}

/// The only one that osvm has made of a folder.
fn disk(osvm: &Osvm) -> Result<std::path::PathBuf> {
    let folder = osvm.home().join("images/blobs");
    let blobs = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let blobs = blobs.collect::<std::io::Result<Vec<_>>>()?;
    let largest = blobs.iter().max_by_key(|blob| blob.metadata().map_or(0, |stat| stat.len()));
    Ok(largest.context("find the image's disk")?.path())
}
