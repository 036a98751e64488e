//! What a container is lent: `-v SOURCE:TARGET[:OPTIONS]` and `--mount type=bind,...`.

use crate::{Access, FolderRule, FolderRuleError};

/// A folder; `None` for what is the container's own and gone with it; or why it is neither.
type Lent = Result<Option<Result<FolderRule, FolderRuleError>>, &'static str>;

const VOLUME: &str = "it is a volume of the container tool's; a folder is lent by its path";
const SOCKET: &str = "the host's containers are not lent";

/// As in docker, a folder may be written to unless the options say otherwise.
pub(super) fn volume(text: &str) -> Lent {
    let Some((paths, options)) = parts(text) else { return Ok(None) };
    let (source, target) = paths;
    match options {
        Some(options) if options.split(',').any(|option| option == "ro") => {
            folder(source, target, Access::Ro)
        }
        _ => folder(source, target, Access::Rw),
    }
}

/// `None` where there is but a target.
fn parts(text: &str) -> Option<((&str, &str), Option<&str>)> {
    let (first, last) = text.rsplit_once(':')?;
    if last.starts_with('/') {
        return Some(((first, last), None));
    }
    first.rsplit_once(':').map(|paths| (paths, Some(last))).or(Some(((first, last), None)))
}

pub(super) fn mount(text: &str) -> Lent {
    let (mut kind, mut source, mut target, mut access) = ("volume", "", "", Access::Rw);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, "true"));
        match key.trim() {
            "type" => kind = value,
            "src" | "source" => source = value,
            "dst" | "target" | "destination" => target = value,
            "ro" | "readonly" if matches!(value, "true" | "1") => access = Access::Ro,
            "ro" | "readonly" if matches!(value, "false" | "0") => access = Access::Rw,
            "consistency" | "bind-propagation" | "relabel" | "tmpfs-size" | "tmpfs-mode" => {}
            _ => return Err("one of its fields is none that osvm knows"),
        }
    }
    match kind {
        "bind" => folder(source, target, access),
        "tmpfs" => Ok(None),
        "volume" if source.is_empty() => Ok(None),
        _ => Err(VOLUME),
    }
}

fn folder(source: &str, target: &str, access: Access) -> Lent {
    if source.ends_with("docker.sock") || source.ends_with("podman.sock") {
        return Err(SOCKET);
    }
    if !source.starts_with(['/', '.', '~', '$']) {
        return Err(VOLUME);
    }
    Ok(Some(format!("{source}:{target}:{access}").parse()))
}
