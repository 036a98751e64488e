//! What images of packages are made on, as the configuration says, and what this host has.

use std::ffi::OsStr;

use osvm_daemon::builder::{Base, BaseImage};
use osvm_spec::ImageRef;
use osvm_spec::config::Builds;

use super::{expand, registries, variable};
use crate::error::CliError;

/// The configured image, or the host's own apt, or, where there is none, the usual image.
pub(crate) fn of_builds(builds: &Builds) -> Result<Base, CliError> {
    let image = match &builds.base_image {
        Some(ImageRef::Path(path)) => ImageRef::at(&expand(path)?),
        Some(image) => image.clone(),
        None if has("apt-get", &variable("PATH").unwrap_or(PATH.into())) => return Ok(Base::Host),
        None => BaseImage::USUAL.parse().expect("it is a reference"),
    };
    let usual = || BaseImage::HOSTS.map(|host| host.parse().expect("it is a host")).to_vec();
    let hosts = builds.base_hosts.clone().unwrap_or_else(usual);
    let access = registries::of_images();
    Ok(Base::Image(Box::new(BaseImage { image, hosts, access })))
}

/// Where programs are looked for without a `PATH`.
const PATH: &str = "/bin:/usr/bin";

fn has(program: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_image_is_taken_where_it_is_configured() {
        let base_image = Some("debian:12-slim".parse().unwrap());
        let base_hosts = Some(vec!["mirror.lan".parse().unwrap()]);
        let Base::Image(own) = of_builds(&Builds { base_image, base_hosts }).unwrap() else {
            panic!("it is configured")
        };
        assert_eq!(own.image.to_string(), "docker.io/library/debian:12-slim");
        assert_eq!(own.hosts.len(), 1);
    }

    #[test]
    fn a_program_is_looked_for_in_all_folders() {
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::join_paths(["/no/such".as_ref(), folder.path()]).unwrap();
        assert!(!has("apt-get", &path));
        std::fs::write(folder.path().join("apt-get"), "").unwrap();
        assert!(has("apt-get", &path));
    }
}
