//! What images are made from that are not on this host as they are, as the store knows them.

use osvm_image::oci::Access;
use osvm_image::{Bundled, Config, Source, Stack};
use osvm_spec::ImageRef;
use osvm_spec::packages::Install;

/// Origins of the images in which packages are made into others.
pub(crate) const WORKSHOPS: [&str; 2] = [TOOLS_HERE, INSTALLS_HERE];
pub(crate) const TOOLS_HERE: &str = "osvm: tools are brought here";
pub(crate) const INSTALLS_HERE: &str = "osvm: packages are installed here";

/// How names of layers begin that are made once, for all packages.
pub(crate) const BASE: &str = "base-";

/// Nothing for a path, and for an image that is in the store by its digest.
pub(crate) fn source(image: &ImageRef) -> Option<Source> {
    match image {
        ImageRef::Registry(reference) => {
            Some(Source::registry(reference.clone(), Access::default()))
        }
        ImageRef::Package(install) => Some(Source::Stack(package(install))),
        ImageRef::Path(_) | ImageRef::Digest(_) => None,
    }
}

/// A bundle, a program or a project as it is now, with no layer in it yet.
pub(crate) fn bundle(image: &ImageRef) -> Option<Bundled> {
    match image {
        ImageRef::Path(path) if Bundled::is_at(path.as_ref()) => Bundled::at(path.as_ref()).ok(),
        _ => None,
    }
}

/// A package, with no layer in it yet.
pub(crate) fn package(install: &Install) -> Stack {
    stack(&install.to_string())
}

/// The same for any origin.
pub(crate) fn stack(origin: &str) -> Stack {
    Stack { origin: origin.to_owned(), layers: Vec::new(), config: Config::default() }
}
