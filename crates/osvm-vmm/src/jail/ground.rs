//! What this host gives a jail: found out once, by trying.

use std::fs;
use std::path::Path;

use super::root::Root;
use super::{
    Calls, Jail, JailError, Layer, LayerState, Limits, Plan, Shares, Standing, Task, User, limits,
    seen, spaces, user,
};
use crate::process::Spawn;

/// What a shim takes that becomes nothing.
const TRIAL: Shares = Shares { memory_bytes: 64 << 20, processors: 1 };

/// Layers that need privileges, or a host that lends them to everybody.
const SPACES: [Layer; 5] = [
    Layer::MountNamespace,
    Layer::PidNamespace,
    Layer::NetworkNamespace,
    Layer::IpcNamespace,
    Layer::UtsNamespace,
];

/// Tries everything at once, then without what was refused, until something works.
pub(super) async fn survey(jail: &Jail, is_root: bool) -> Vec<Standing> {
    let mut refused: Vec<(Layer, String)> = Vec::new();
    let mut hoped = hope(is_root);
    hoped.extend(jail.groups.as_ref().map(|_| Layer::ControlGroup));
    // Each round gives up at least one layer.
    while let Err(error) = attempt(jail, &hoped, is_root).await {
        let (blamed, why) = blame(&jail.proc, &error, is_root);
        let falls = |layer: &Layer| blamed.is_none_or(|blamed| falls_with(*layer, blamed));
        let (lost, left): (Vec<_>, Vec<_>) = hoped.into_iter().partition(falls);
        if lost.is_empty() {
            break;
        }
        refused.extend(lost.into_iter().map(|layer| (layer, why.clone())));
        hoped = left;
    }
    let state = |layer| match refused.iter().find(|(lost, _)| *lost == layer) {
        Some((_, why)) => LayerState::impossible(why),
        None => unrefused(jail, layer, is_root),
    };
    Layer::ALL.iter().map(|&layer| Standing { layer, state: state(layer) }).collect()
}

fn hope(is_root: bool) -> Vec<Layer> {
    let first = if is_root { Layer::OwnUser } else { Layer::UserNamespace };
    [first, Layer::Landlock].into_iter().chain(SPACES).collect()
}

fn unrefused(jail: &Jail, layer: Layer, is_root: bool) -> LayerState {
    match layer {
        Layer::Seccomp => seen::has_seccomp(&jail.proc),
        Layer::ControlGroup => match &jail.groups {
            Ok(_) => LayerState::On,
            Err(why) => LayerState::impossible(why),
        },
        Layer::OwnUser if !is_root => LayerState::impossible("only root can give it away"),
        Layer::UserNamespace if is_root => LayerState::off("root has the others without it"),
        _ => LayerState::On,
    }
}

/// Without a user namespace an ordinary user has none of the others. A PID namespace needs a procfs
/// of its own, and a user of its own needs files laid out for it: both need a root of their own.
fn falls_with(layer: Layer, lost: Layer) -> bool {
    let needs_root = [Layer::PidNamespace, Layer::OwnUser].contains(&layer);
    match lost {
        Layer::UserNamespace => SPACES.contains(&layer) || layer == lost,
        Layer::MountNamespace => needs_root || layer == lost,
        lost => layer == lost,
    }
}

/// The layer that failed, if one did, and why in words: by the host's own switch, where one
/// explains it.
fn blame(proc: &Path, error: &JailError, is_root: bool) -> (Option<Layer>, String) {
    let layer = match error {
        JailError::Failed { layer, .. } => *layer,
        _ => None,
    };
    let is_set = |(name, value): &&(&str, &str)| {
        fs::read_to_string(proc.join("sys").join(name)).is_ok_and(|text| text.trim() == *value)
    };
    match SWITCHES.iter().find(|switch| !is_root && is_set(switch)) {
        Some((name, value)) if !matches!(layer, Some(Layer::Landlock | Layer::ControlGroup)) => {
            let name = name.replace('/', ".");
            let why = format!("this host forbids it to ordinary users ({name} = {value})");
            (Some(Layer::UserNamespace), why)
        }
        _ => (layer, error.to_string()),
    }
}

/// Below `/proc/sys`, and what forbids user namespaces to ordinary users, or their use: Ubuntu's,
/// Debian's and the kernel's own.
const SWITCHES: [(&str, &str); 3] = [
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("user/max_user_namespaces", "0"),
];

async fn attempt(jail: &Jail, layers: &[Layer], is_root: bool) -> Result<(), JailError> {
    let has = |layer| layers.contains(&layer);
    let user = (is_root && has(Layer::OwnUser)).then(|| user::of_vm("trial"));
    let spaces = layers.iter().copied().filter(|layer| spaces::name(*layer).is_some());
    let root =
        Root { places: Vec::new(), folder: None, devices: vec!["null".to_owned()], owner: user };
    let plan = Plan {
        task: Task::Nothing,
        keep: Vec::new(),
        limits: Limits { file_size: None, threads: None, descriptors: limits::DESCRIPTORS },
        calls: Calls::Qemu,
        spaces: spaces.collect(),
        root: has(Layer::MountNamespace).then_some(root),
        user: user.map(User::alone),
        lent: has(Layer::Landlock).then(Vec::new),
    };
    let shares = has(Layer::ControlGroup).then_some(TRIAL);
    Spawn::try_out(jail, plan, shares).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_lost_layer_is_lost_with_it() {
        let left = |is_root: bool, lost| {
            let mut layers = hope(is_root);
            layers.retain(|layer| !falls_with(*layer, lost));
            layers
        };
        assert_eq!(left(false, Layer::UserNamespace), [Layer::Landlock]);
        let rest =
            [Layer::Landlock, Layer::NetworkNamespace, Layer::IpcNamespace, Layer::UtsNamespace];
        assert_eq!(left(true, Layer::MountNamespace), rest);
        assert_eq!(left(true, Layer::Landlock).len(), hope(true).len() - 1);
    }

    #[test]
    fn a_hosts_own_switch_is_named_to_ordinary_users() {
        let proc = tempfile::tempdir().unwrap();
        let error = JailError::Failed {
            act: "change the root".to_owned(),
            why: "Permission denied".to_owned(),
            layer: Some(Layer::MountNamespace),
        };
        let plain = (Some(Layer::MountNamespace), "change the root: Permission denied".to_owned());
        assert_eq!(blame(proc.path(), &error, false), plain);
        fs::create_dir_all(proc.path().join("sys/kernel")).unwrap();
        let switch = proc.path().join("sys/kernel/apparmor_restrict_unprivileged_userns");
        fs::write(switch, "1\n").unwrap();
        let told = "this host forbids it to ordinary users \
                    (kernel.apparmor_restrict_unprivileged_userns = 1)";
        let switched = (Some(Layer::UserNamespace), told.to_owned());
        assert_eq!(blame(proc.path(), &error, false), switched);
        assert_eq!(blame(proc.path(), &error, true), plain);
    }
}
