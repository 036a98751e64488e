//! From a plan to a machine's files: kernel, image, initramfs. Blocks; an async caller gives it a thread.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use osvm_image::initramfs::{Assembler, InitramfsError};
use osvm_image::kernel::{self, KernelError};
use osvm_image::{Digest, Image, Root, Source, Store, StoreError};
use osvm_vmm::{BootProtocol, Kernel};

use crate::drivers::chain;
use crate::plan::{Plan, Rootfs};
use crate::state::{Cause, CauseKind};

/// Makes machines' files and keeps them for the next one.
#[derive(Clone)]
pub struct Preparer {
    store: Store,
    assembler: Arc<Assembler>,
    importer: Arc<dyn Importer>,
}

/// Makes images of what lies at paths. That takes as much memory as there are names in them.
pub trait Importer: Send + Sync {
    fn import(&self, path: &Path) -> Result<Digest, Cause>;
}

/// In this process.
impl Importer for Store {
    fn import(&self, path: &Path) -> Result<Digest, Cause> {
        let image = Source::at(path).and_then(|source| Self::import(self, &source, &mut |_| {}));
        Ok(image.map_err(|error| hinted(path, &error))?.digest)
    }
}

/// What a machine boots.
pub(crate) struct Prepared {
    pub(crate) kernel: Kernel,
    pub(crate) initramfs: std::path::PathBuf,
    pub(crate) disk: Option<std::path::PathBuf>,
    pub(crate) image: Image,
}

impl Preparer {
    pub fn new(store: Store, assembler: Assembler, importer: impl Importer + 'static) -> Self {
        Self { store, assembler: Arc::new(assembler), importer: Arc::new(importer) }
    }

    pub(crate) fn prepare(&self, plan: &Plan) -> Result<Prepared, Cause> {
        let kernel = kernel::open(&plan.kernel).map_err(|error| no_kernel(plan, &error))?;
        let image = self.image(&plan.rootfs)?;
        let (base, disk) = match &image.root {
            Root::Cpio(path) => (Some(path.as_path()), None),
            Root::Disk(path) => (None, Some(path.clone())),
        };
        let modules = kernel.modules.as_deref();
        let initramfs =
            self.assembler.assemble(base, modules).map_err(|error| no_initramfs(&error))?;
        let boot = BootProtocol { acpi: kernel.acpi };
        let kernel = Kernel { path: kernel.path, boot, args: kernel.args };
        Ok(Prepared { kernel, initramfs, disk, image })
    }

    fn image(&self, rootfs: &Rootfs) -> Result<Image, Cause> {
        let digest = match rootfs {
            Rootfs::Image(digest) => digest.clone(),
            Rootfs::Path(path) => match self.known(path) {
                Some(digest) => digest,
                None => self.importer.import(path)?,
            },
        };
        self.store.inspect(&digest).map_err(|error| lost(&error))
    }

    /// The image of an archive that has not changed, which one look tells.
    fn known(&self, path: &Path) -> Option<Digest> {
        let source = Source::at(path).ok().filter(Source::is_file)?;
        self.store.current(&source)
    }
}

fn no_kernel(plan: &Plan, error: &KernelError) -> Cause {
    hinted(&plan.kernel, error)
}

fn lost(error: &StoreError) -> Cause {
    Cause::new(CauseKind::Machine, format!("failed to {}", chain(error))).hint("osvm image list")
}

fn no_initramfs(error: &InitramfsError) -> Cause {
    Cause::new(CauseKind::Machine, format!("failed to {}", chain(error)))
}

/// Why the file or folder at `path` is of no use, and what to do about it.
fn hinted(path: &Path, error: &(dyn Error + 'static)) -> Cause {
    let cause = Cause::new(CauseKind::Machine, format!("failed to {}", chain(error)));
    if missing(path) {
        cause.hint("osvm setup")
    } else if forbidden(error) {
        cause.hint(format!("namei -l {path:?}   # who may read it; this user has to"))
    } else {
        cause
    }
}

fn forbidden(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        || error.source().is_some_and(forbidden)
}

fn missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
