//! Whose packages are the distribution's: this host's, or those of an image in which apt is run.

use std::fs::File;
use std::path::Path;

use osvm_image::Source;
use osvm_image::debian::{self, Downloaded};
use osvm_image::oci::Access;
use osvm_spec::{Digest, HostRule, ImageRef};

use super::registries::granted;
use super::{Builder, Work};
use crate::api::{ApiError, ErrorKind};
use crate::images::{Images, ImagesError, sources};

/// Where the distribution's packages come from.
#[derive(Debug, Clone)]
pub enum Base {
    /// This host's apt, with its sources and keys.
    Host,
    Image(Box<BaseImage>),
}

/// An image whose apt brings its own packages.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// Paths are absolute.
    pub image: ImageRef,
    /// Where its packages are.
    pub hosts: Vec<HostRule>,
    pub access: Access,
}

impl BaseImage {
    /// Where there is no apt, and nothing else is configured.
    pub const USUAL: &str = "docker.io/library/debian:13-slim";
    /// Where that has its packages.
    pub const HOSTS: [&str; 2] = ["deb.debian.org", "security.debian.org"];
}

/// What a base image has downloaded, in the folder of a layer's downloads.
const BROUGHT: &str = "brought.tar";
/// Of the hash that tells bases apart.
const DIGITS: usize = 12;

impl Base {
    /// Of a layer that is another one on another base.
    pub(super) fn name(&self, name: &str) -> String {
        match self {
            Self::Host => name.to_owned(),
            Self::Image(base) => {
                let key = Source::Stack(sources::stack(&base.image.to_string())).key();
                format!("{name}-{}", &key[..DIGITS])
            }
        }
    }

    /// Packages that are in the folder `work`; the host's apt brings them there.
    pub(super) fn downloaded(
        &self,
        packages: &[&str],
        work: &Path,
        say: &mut dyn FnMut(&str),
    ) -> Result<Downloaded, ApiError> {
        let failed = |error| ApiError::failed(&error);
        match self {
            Self::Host => Downloaded::by_apt(packages, work, say).map_err(failed),
            Self::Image(base) => Downloaded::received(&work.join(BROUGHT), work)
                .map_err(|error| in_base(base, failed(error))),
        }
    }
}

impl Builder {
    /// Has a base image bring packages, and all that they need, into the folder `work`.
    pub(super) async fn download_in(
        &self,
        base: &BaseImage,
        packages: &[&str],
        work: &Path,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), ApiError> {
        let image = self.base_image(base, tell).await?;
        let argv = ["sh", "-c", debian::DOWNLOAD, "sh"].into_iter().chain(debian::asked(packages));
        let argv = argv.map(str::to_owned).collect();
        let path = work.join(BROUGHT);
        let mut file = File::create(&path).map_err(|error| unwritable(&path, &error))?;
        let certificates = self.registries.ca().unwrap_or_default();
        let work = Work { image, argv, hosts: granted(base.hosts.clone()) };
        let brought = work.fill(&self.client, certificates.as_bytes(), &mut file, &self.say).await;
        brought.map_err(|error| in_base(base, error))
    }

    /// One of a registry that is here already will do: what is new is among its packages.
    async fn base_image(
        &self,
        base: &BaseImage,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Digest, ApiError> {
        let source = match &base.image {
            ImageRef::Digest(digest) => return Ok(digest.clone()),
            ImageRef::Path(path) => Source::at(path.as_ref()).map_err(ImagesError::Import)?,
            ImageRef::Registry(reference) => {
                if let Some(digest) = Images::in_store(self.store.clone()).of(&base.image) {
                    return Ok(digest);
                }
                tell(&format!("pulling {reference}"));
                Source::registry(reference.clone(), base.access.clone())
            }
            ImageRef::Package(_) => {
                let message = format!("{} is a package, and no image with apt", base.image);
                return Err(ApiError::new(ErrorKind::Usage, message));
            }
        };
        self.import(source).await
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> ApiError {
    ApiError::new(ErrorKind::Failed, format!("failed to write {}: {error}", path.display()))
}

/// The same error, told of the image.
fn in_base(base: &BaseImage, error: ApiError) -> ApiError {
    if error.kind != ErrorKind::Failed {
        return error;
    }
    let message = format!("base image {}: {}", base.image, error.message);
    let hint = "base_image and base_hosts of [builds] in isolation_config.toml say which image, and where its packages are";
    ApiError { message, ..error }.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_one_base_are_no_others() {
        let image = |text: &str| {
            let (image, access) = (text.parse().unwrap(), Access::default());
            Base::Image(Box::new(BaseImage { image, hosts: Vec::new(), access }))
                .name("debian-runtime-1")
        };
        assert_eq!(Base::Host.name("debian-runtime-1"), "debian-runtime-1");
        let names = [BaseImage::USUAL, "debian:12", "/a/b", "/a/c"].map(image);
        for (at, name) in names.iter().enumerate() {
            assert!(name.starts_with("debian-runtime-1-"), "{name}");
            assert!(!names[..at].contains(name), "{name}");
        }
    }

    #[test]
    fn the_usual_base_and_its_hosts_are_understood() {
        assert!(matches!(BaseImage::USUAL.parse(), Ok(ImageRef::Registry(_))));
        for host in BaseImage::HOSTS {
            host.parse::<HostRule>().unwrap();
        }
    }
}
