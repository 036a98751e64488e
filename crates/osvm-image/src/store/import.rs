//! Brings a source into the store: once, however many ask for it at the same time.

use std::cell::RefCell;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::meta::{Kind, Meta};
use super::source::{Archive, Local, Look, Remote, Stack};
use super::{Digest, Image, Source, Store, StoreError};
use crate::config::{CONFIG_FILE, Config, MAX_BYTES};
use crate::cpio::{self, CpioError};
use crate::disk::{self, DiskError, Folder};
use crate::files;
use crate::oci::{self, Built, Job, Limits, OciError};

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Another import of the same source is running; this one waits for it.
    Waiting,
    /// Layers come from a registry, in bytes.
    Pulling { done: u64, total: u64 },
    /// Layers are decompressed: bytes as they are stored, of how many, if that is known.
    Unpacking { done: u64, total: Option<u64> },
    /// The source is new, or has changed: its disk is written, or the archive read.
    Building,
}

#[derive(Debug, Error)]
pub enum ImportError {
    #[error("use image {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("use image {}: it is neither a folder nor an archive", path.display())]
    Kind { path: PathBuf },
    #[error("use image {}: it is made into one by `osvm image build`", path.display())]
    Made { path: PathBuf },
    #[error("use image {}", path.display())]
    Cpio { path: PathBuf, source: CpioError },
    #[error("use image {}: its {CONFIG_FILE} is no image configuration", path.display())]
    Config { path: PathBuf, source: serde_json::Error },
    #[error("use image {}", path.display())]
    Disk { path: PathBuf, source: DiskError },
    #[error("use image {origin}")]
    Oci { origin: String, source: Box<OciError> },
    #[error("use image {}: it changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("keep image {}", path.display())]
    Keep { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Oci { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Which image a source gave when it last looked like this.
#[derive(Serialize, Deserialize)]
pub(super) struct Known {
    fingerprint: String,
    pub(super) digest: Digest,
}

impl Known {
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }
}

/// After that long a source that has changed just now is looked at again.
const PAUSE: Duration = Duration::from_millis(25);

impl Store {
    /// The image made from `source`; built only when the source has changed since the last time.
    pub fn import(
        &self,
        source: &Source,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Image, ImportError> {
        if let Some(image) = self.known(source, &source.look()?) {
            return Ok(image);
        }
        let _lock = self.lock(source, progress)?;
        // The lock's holder is the only one to use this name, and writes over what a killed one left.
        let part = self.parts().join(source.key());
        let imported = self.import_locked(source, &part, progress);
        if imported.is_err() {
            // The error is worth more than a file that the next import writes over.
            let _ = fs::remove_file(&part);
        }
        imported
    }

    fn import_locked(
        &self,
        source: &Source,
        part: &Path,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Image, ImportError> {
        let (mut blob, mut begun) = create(part)?;
        let mut look = source.look()?;
        if look.is_fresh(&begun) {
            thread::sleep(PAUSE);
            (blob, begun) = create(part)?;
            look = source.look()?;
        }
        // Whoever held the lock before may have built it.
        if let Some(image) = self.known(source, &look) {
            fs::remove_file(part).map_err(keeping(part))?;
            return Ok(image);
        }
        let digest = self.build(source, &look, &mut blob, part, progress)?;
        // What still changes is not known by its looks; it is built again the next time.
        if !look.is_fresh(&begun) {
            self.remember(
                source,
                &Known { fingerprint: look.fingerprint(), digest: digest.clone() },
            )?;
        }
        Ok(self.inspect(&digest)?)
    }

    pub(super) fn known(&self, source: &Source, look: &Look) -> Option<Image> {
        // Whoever brings layers of it wants it made of them.
        if matches!(source, Source::Bundle(bundled) if !bundled.stack.layers.is_empty()) {
            return None;
        }
        let known = Known::read(&self.source_record(source))?;
        let same = known.fingerprint == look.fingerprint();
        same.then(|| self.inspect(&known.digest).ok())?
    }

    fn remember(&self, source: &Source, known: &Known) -> Result<(), ImportError> {
        let path = self.source_record(source);
        let text = serde_json::to_string(known).expect("digests are plain data");
        files::write_whole(&path, |out| out.write_all(text.as_bytes())).map_err(keeping(&path))
    }

    fn lock(
        &self,
        source: &Source,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<File, ImportError> {
        let path = self.root.join("locks").join(source.key());
        files::lock(&path, || progress(Progress::Waiting)).map_err(keeping(&path))
    }

    /// Fills `blob`, the file at `part`, and gives it its place among the images.
    fn build(
        &self,
        source: &Source,
        look: &Look,
        blob: &mut File,
        part: &Path,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Digest, ImportError> {
        let kind = if let Look::Cpio(_) = look { Kind::Cpio } else { Kind::Disk };
        let built = self.fill(source, look, blob, progress)?;
        let hex = files::digest(part).map_err(keeping(part))?;
        let digest = Digest::of_hex(&hex).expect("a hash is a digest");
        let size = blob.metadata().map_err(keeping(part))?.len();
        let target = self.blob(&digest);
        files::finish(blob, part, &target).map_err(keeping(&target))?;
        let meta = self.meta(&digest);
        Meta::new(kind, size, source.origin(), built).save(&meta).map_err(keeping(&meta))?;
        Ok(digest)
    }

    fn fill(
        &self,
        source: &Source,
        look: &Look,
        blob: &mut File,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Built, ImportError> {
        let progress = RefCell::new(progress);
        let tell = |now| (progress.borrow_mut())(now);
        match (source, look) {
            (Source::Folder(path), Look::Folder(folder)) => {
                tell(Progress::Building);
                fill_disk(path, folder, blob).map(Built::from)
            }
            (Source::Layout(local), Look::Layout(_)) => {
                let built = self.job(local, &tell).layout(&local.path, blob);
                built.map_err(not_an_image(source))
            }
            (Source::Tar(local), Look::Tar(archive)) => {
                let built = self.job(local, &tell).archive(&local.path, blob);
                unchanged(archive, built.map_err(not_an_image(source))?)
            }
            (Source::Registry(remote), Look::Registry(digest)) => {
                self.pull(source, remote, digest, &tell, blob)
            }
            (Source::Stack(stack), Look::Stack(_)) => self.stack(source, stack, &tell, blob),
            (Source::Bundle(bundled), Look::Bundle(made)) => {
                // Its layers are of what it was.
                if made.fingerprint != bundled.fingerprint {
                    return Err(ImportError::Changed { path: bundled.path.clone() });
                }
                self.stack(source, &bundled.stack, &tell, blob)
            }
            (_, Look::Cpio(archive)) => {
                tell(Progress::Building);
                fill_cpio(archive, blob).map(Built::from)
            }
            _ => unreachable!("a look is of its source"),
        }
    }

    /// What was pulled stays when the rest fails: the next time goes on with it.
    fn pull(
        &self,
        source: &Source,
        remote: &Remote,
        digest: &Digest,
        tell: &dyn Fn(Progress),
        blob: &mut File,
    ) -> Result<Built, ImportError> {
        let downloads = self.parts().join(format!("{}.pull", source.key()));
        files::make_folder(&downloads).map_err(keeping(&downloads))?;
        let Remote { reference, access, architecture, limits } = remote;
        let folder = &self.root;
        let job = Job { architecture, name: None, limits, folder, tell };
        let built = job.pull((reference, access), digest, &downloads, blob);
        let built = built.map_err(not_an_image(source))?;
        fs::remove_dir_all(&downloads).map_err(keeping(&downloads))?;
        Ok(built)
    }

    fn stack(
        &self,
        source: &Source,
        stack: &Stack,
        tell: &dyn Fn(Progress),
        blob: &mut File,
    ) -> Result<Built, ImportError> {
        let stacked = self.plain_job(tell).stack(&stack.layers, &stack.config, blob);
        stacked.map_err(not_an_image(source))
    }

    fn plain_job<'a>(&'a self, tell: &'a dyn Fn(Progress)) -> Job<'a> {
        let (architecture, limits) = (oci::ARCHITECTURE, &Limits::USUAL);
        Job { architecture, name: None, limits, folder: &self.root, tell }
    }

    fn job<'a>(&'a self, local: &'a Local, tell: &'a dyn Fn(Progress)) -> Job<'a> {
        let Local { name, architecture, limits, .. } = local;
        Job { architecture, name: name.as_deref(), limits, folder: &self.root, tell }
    }
}

/// An empty file, and its looks: by them, what time it is where the store is.
fn create(part: &Path) -> Result<(File, Metadata), ImportError> {
    // A new file: one that is only emptied may keep its times.
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(keeping(part)(error)),
        _ => {}
    }
    let file = File::create_new(part).map_err(keeping(part))?;
    let looks = file.metadata().map_err(keeping(part))?;
    Ok((file, looks))
}

fn fill_disk(folder: &Path, tree: &Folder, blob: &mut File) -> Result<Config, ImportError> {
    disk::write(tree, blob).map_err(not_a_disk(folder))?;
    let mut bytes = Vec::new();
    let path = folder.join(CONFIG_FILE);
    match files::open(&path) {
        Ok(file) => {
            let read = file.take(MAX_BYTES as u64).read_to_end(&mut bytes);
            read.map_err(|source| ImportError::Read { path, source })?;
            parse(folder, &bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
        Err(source) => Err(ImportError::Read { path, source }),
    }
}

/// Kept without compression: guests need not have what it was packed with, software emulation would
/// take longer to unpack it than this host does, and it is unpacked here anyway to be checked.
fn fill_cpio(archive: &Archive, blob: &mut File) -> Result<Config, ImportError> {
    let path = &archive.path;
    let read = |source| ImportError::Read { path: path.clone(), source };
    let from = files::open(path).map_err(read)?;
    let mut out = BufWriter::with_capacity(1 << 20, blob);
    let config = cpio::plain(&from, &mut out, CONFIG_FILE, MAX_BYTES)
        .map_err(|source| ImportError::Cpio { path: path.clone(), source })?;
    out.flush().map_err(keeping(path))?;
    if !files::is_same(&from.metadata().map_err(read)?, &archive.stat) {
        return Err(ImportError::Changed { path: path.clone() });
    }
    config.map_or_else(|| Ok(Config::default()), |bytes| parse(path, &bytes))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Config, ImportError> {
    Config::parse(bytes).map_err(|source| ImportError::Config { path: path.to_owned(), source })
}

fn unchanged(archive: &Archive, built: Built) -> Result<Built, ImportError> {
    let path = archive.path.clone();
    match fs::metadata(&path) {
        Ok(now) if files::is_same(&now, &archive.stat) => Ok(built),
        Ok(_) => Err(ImportError::Changed { path }),
        Err(source) => Err(ImportError::Read { path, source }),
    }
}

pub(super) fn not_an_image(source: &Source) -> impl FnOnce(OciError) -> ImportError {
    let origin = source.origin();
    move |source| ImportError::Oci { origin, source: Box::new(source) }
}

pub(super) fn not_a_disk(folder: &Path) -> impl FnOnce(DiskError) -> ImportError {
    let path = folder.to_owned();
    move |source| ImportError::Disk { path, source }
}

fn keeping(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_owned();
    move |source| ImportError::Keep { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{self, File as BaseFile};
    use crate::decompress::tests::gzip;
    use crate::store::Root;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("images")).unwrap();
        (folder, store)
    }

    fn import(store: &Store, path: &Path) -> (Result<Image, ImportError>, Vec<Progress>) {
        let mut heard = Vec::new();
        let source = Source::at(path).unwrap();
        (store.import(&source, &mut |progress| heard.push(progress)), heard)
    }

    #[test]
    fn an_archive_keeps_its_bytes_and_tells_its_command() {
        let (folder, store) = store();
        let path = folder.path().join("base.cpio");
        base::write(&path, &[BaseFile { path: "/usr/bin/x", mode: 0o755, bytes: b"x" }]).unwrap();
        let image = import(&store, &path).0.unwrap();
        assert_eq!(image.entrypoint, ["/usr/bin/x"]);
        let Root::Cpio(blob) = &image.root else { panic!("{image:?}") };
        assert_eq!(fs::read(blob).unwrap(), fs::read(&path).unwrap());
        store.verify(&image.digest).unwrap();
        assert_eq!(store.list().unwrap(), [image]);
    }

    #[test]
    fn a_folder_is_built_once_and_again_when_it_has_changed() {
        let (folder, store) = store();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "1").unwrap();
        let (first, heard) = import(&store, &root);
        let first = first.unwrap();
        assert_eq!(heard, [Progress::Building]);
        let (again, heard) = import(&store, &root);
        assert_eq!((again.unwrap(), heard), (first.clone(), Vec::new()));
        fs::write(root.join("a"), "2").unwrap();
        assert_ne!(import(&store, &root).0.unwrap().digest, first.digest);
    }

    #[test]
    fn an_image_that_was_removed_is_built_again() {
        let (folder, store) = store();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let image = import(&store, &root).0.unwrap();
        store.remove(&image.digest).unwrap();
        assert!(store.inspect(&image.digest).is_err());
        assert_eq!(import(&store, &root).0.unwrap().digest, image.digest);
    }

    #[test]
    fn what_is_no_archive_leaves_nothing_in_the_store() {
        let (folder, store) = store();
        let path = folder.path().join("text");
        fs::write(&path, "no archive at all, and long enough to be asked for a header".repeat(9))
            .unwrap();
        let refused = import(&store, &path).0.unwrap_err();
        assert!(refused.to_string().contains("text"), "{refused}");
        assert_eq!(fs::read_dir(folder.path().join("images/blobs")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_image_is_found_out() {
        let (folder, store) = store();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let image = import(&store, &root).0.unwrap();
        let Root::Disk(blob) = &image.root else { panic!("{image:?}") };
        let mut bytes = fs::read(blob).unwrap();
        bytes[100] ^= 1;
        fs::remove_file(blob).unwrap();
        fs::write(blob, &bytes).unwrap();
        assert!(store.verify(&image.digest).is_err());
        fs::write(blob, &bytes[1..]).unwrap();
        assert!(matches!(store.inspect(&image.digest), Err(StoreError::Damaged { .. })));
        assert_eq!(import(&store, &root).0.unwrap().digest, image.digest);
        store.verify(&image.digest).unwrap();
    }

    #[test]
    fn compressed_or_not_an_archive_is_one_image() {
        let (folder, store) = store();
        let (plain, packed) = (folder.path().join("a.cpio"), folder.path().join("a.cpio.gz"));
        base::write(&plain, &[]).unwrap();
        fs::write(&packed, gzip(&fs::read(&plain).unwrap())).unwrap();
        let first = import(&store, &plain).0.unwrap();
        assert_eq!(import(&store, &packed).0.unwrap().digest, first.digest);
    }

    #[test]
    fn a_folder_tells_its_command_and_a_wrong_one_is_refused() {
        let (folder, store) = store();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join(CONFIG_FILE), r#"{"Entrypoint":["/bin/a"],"User":"1000"}"#).unwrap();
        let image = import(&store, &root).0.unwrap();
        assert_eq!((image.entrypoint, image.user), (vec!["/bin/a".into()], Some("1000".into())));
        let config = r#"{"Entrypoint":["/bin/a"],"Cmd":["-b","c"]}"#;
        fs::write(root.join(CONFIG_FILE), config).unwrap();
        let image = import(&store, &root).0.unwrap();
        assert_eq!(image.command(&[]), ["/bin/a", "-b", "c"]);
        assert_eq!(image.command(&["-d".to_owned()]), ["/bin/a", "-d"]);
        fs::write(root.join(CONFIG_FILE), "not JSON").unwrap();
        let refused = import(&store, &root).0.unwrap_err().to_string();
        assert!(refused.contains(CONFIG_FILE), "{refused}");
    }

    #[test]
    fn many_imports_of_one_folder_build_it_once() {
        let (folder, store) = store();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), vec![b'a'; 3 << 20]).unwrap();
        let imports: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| import(&store, &root))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let built = imports.iter().flat_map(|(_, heard)| heard);
        assert_eq!(built.filter(|progress| **progress == Progress::Building).count(), 1);
        let digests: Vec<_> = imports.into_iter().map(|(image, _)| image.unwrap().digest).collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(fs::read_dir(folder.path().join("images/parts")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_import_left_is_written_over() {
        let (folder, store) = store();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let key = Source::at(&root).unwrap().key();
        let part = folder.path().join("images/parts").join(key);
        fs::write(&part, vec![1; 100_000]).unwrap();
        let image = import(&store, &root).0.unwrap();
        store.verify(&image.digest).unwrap();
        assert!(image.size < 100_000 && !part.exists());
    }

    #[test]
    fn a_source_that_can_not_be_one_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Source::at(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(missing.contains("absent"), "{missing}");
        let device = Source::at(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(device.contains("neither a folder nor an archive"), "{device}");
    }

    #[test]
    fn a_cut_archive_is_refused() {
        let (folder, store) = store();
        let path = folder.path().join("base.cpio");
        base::write(&path, &[BaseFile { path: "/x", mode: 0o755, bytes: &[b'x'; 5000] }]).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(4000).unwrap();
        let refused = import(&store, &path).0.unwrap_err();
        let source = std::error::Error::source(&refused).unwrap().to_string();
        assert_eq!(source, "it ends in the middle of an entry");
        assert!(store.list().unwrap().is_empty());
    }
}
