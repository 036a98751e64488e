//! What configuration and images are at one moment, for many questions about them: each image of a path is looked for
//! once, whatever number of servers have it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use osvm_spec::{Config, Digest};

use super::Daemon;
use crate::api::ApiError;
use crate::images::Images;

#[derive(Default)]
pub(super) struct Glance {
    pub(super) config: Arc<Config>,
    images: Mutex<HashMap<PathBuf, Arc<Looked>>>,
}

type Looked = OnceLock<Option<Digest>>;

impl Daemon {
    pub(super) fn glance(&self) -> Result<Glance, ApiError> {
        Ok(Glance { config: self.config()?, images: Mutex::default() })
    }
}

impl Glance {
    /// The image of what is at `path`, if it has not changed since that was made.
    pub(super) fn current(&self, images: &Images, path: &Path) -> Option<Digest> {
        let looked = {
            let mut all = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(path.to_owned()).or_default())
        };
        // Others wait for those alone who look at the same.
        looked.get_or_init(|| images.current(path)).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Home;

    #[test]
    fn an_image_is_looked_for_once_and_anew_by_the_next_glance() {
        let folder = tempfile::tempdir().unwrap();
        let images =
            Images::open(&Home::new(folder.path().into(), folder.path().join("vms"))).unwrap();
        let [made, other] = ["made", "other"].map(|name| folder.path().join(name));
        for path in [&made, &other] {
            fs::create_dir(path).unwrap();
        }
        let digest = images.build(&made, |_| {}).unwrap();
        let glance = Glance::default();
        assert_eq!(glance.current(&images, &made), Some(digest.clone()));
        assert_eq!(glance.current(&images, &other), None, "it was never made");
        fs::remove_dir(&made).unwrap();
        assert_eq!(glance.current(&images, &made), Some(digest));
        assert_eq!(Glance::default().current(&images, &made), None);
    }
}
