//! How nodes and handles are counted.

use std::fs::File;
use std::path::Path;

use rustix::fs::fstat;

use super::*;

fn file(path: &Path) -> (OwnedFd, Stat) {
    let file = OwnedFd::from(File::open(path).unwrap());
    let stat = fstat(&file).unwrap();
    (file, stat)
}

/// In the root.
fn node(path: &Path, zone: Zone) -> (Node, Stat) {
    let (file, stat) = file(path);
    let name = path.file_name().unwrap().as_encoded_bytes().into();
    (Node::new(file, &stat, zone, Way { parent: ROOT, name }), stat)
}

/// A root, and that many files in it.
fn nodes(count: usize, known: usize, held: usize) -> (tempfile::TempDir, Nodes) {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..count {
        File::create(folder.path().join(number.to_string())).unwrap();
    }
    let (root, stat) = file(folder.path());
    let nodes = Nodes::new(root, &stat, Most { known, held });
    (folder, nodes)
}

#[test]
fn a_node_is_known_until_every_lookup_is_forgotten() {
    let (folder, nodes) = nodes(1, 10, 10);
    let enter = || nodes.enter(node(&folder.path().join("0"), Zone::Plain).0).unwrap();
    let number = enter();
    assert_eq!(enter(), number);
    nodes.forget(number, 1);
    assert!(nodes.get(number).is_ok());
    nodes.forget(number, 1);
    assert_eq!(nodes.get(number).unwrap_err(), Errno::STALE);
    assert_ne!(enter(), number, "a number is not used again");
    nodes.forget(number, u64::MAX);
    nodes.forget(ROOT, u64::MAX);
    assert!(nodes.get(ROOT).is_ok());
}

#[test]
fn the_strictest_zone_wins_while_a_node_is_known() {
    let (folder, nodes) = nodes(1, 10, 10);
    let path = folder.path().join("0");
    let enter = |zone| nodes.enter(node(&path, zone).0).unwrap();
    let number = enter(Zone::Plain);
    enter(Zone::Protected);
    enter(Zone::Store);
    assert_eq!(nodes.get(number).unwrap().zone(), Zone::Protected);
    assert_eq!(nodes.zone_of(&node(&path, Zone::Plain).1), Some(Zone::Protected));
    nodes.forget(number, 3);
    assert_eq!(nodes.zone_of(&node(&path, Zone::Plain).1), None);
}

#[test]
fn there_are_no_more_nodes_than_memory() {
    let (folder, nodes) = nodes(5, 4, 10);
    let enter =
        |number: u64| nodes.enter(node(&folder.path().join(number.to_string()), Zone::Plain).0);
    let entered: Vec<_> = (0..5).map(enter).collect();
    assert_eq!(entered[4], Err(Errno::NFILE));
    assert!(nodes.are_scarce());
    assert_eq!(enter(0), entered[0], "what is known is known");
    nodes.forget(entered[1].unwrap(), 1);
    assert!(enter(4).is_ok());
    nodes.clear();
    assert!(!nodes.are_scarce());
}

fn entered(folder: &Path, nodes: &Nodes, names: std::ops::Range<usize>) -> Vec<u64> {
    let enter = |name: usize| nodes.enter(node(&folder.join(name.to_string()), Zone::Store).0);
    names.map(|name| enter(name).unwrap()).collect()
}

#[test]
fn more_nodes_than_descriptors_are_found_again_by_name() {
    let (folder, nodes) = nodes(100, 1000, 4);
    let entered = entered(folder.path(), &nodes, 0..100);
    for number in entered.iter().chain(&entered) {
        let held = nodes.get(*number).unwrap();
        assert_eq!(Identity::of(&fstat(&held).unwrap()), held.identity);
        assert_eq!(held.zone(), Zone::Store);
    }
    assert!(locked(&nodes.known).held() <= 4);
}

#[test]
fn what_bears_the_name_of_a_node_by_now_is_not_taken_for_it() {
    let (folder, nodes) = nodes(100, 1000, 4);
    let entered = entered(folder.path(), &nodes, 0..100);
    let path = |name: &str| folder.path().join(name);
    std::fs::rename(path("0"), path("moved")).unwrap();
    std::fs::rename(path("1"), path("0")).unwrap();
    std::os::unix::fs::symlink("2", path("1")).unwrap();
    assert_eq!(nodes.get(entered[0]).unwrap_err(), Errno::STALE);
    assert_eq!(nodes.get(entered[1]).unwrap_err(), Errno::STALE);
    let (_, stat) = node(&path("moved"), Zone::Plain);
    nodes.moved(&stat, Way { parent: ROOT, name: b"moved"[..].into() });
    assert!(nodes.get(entered[0]).is_ok(), "its way was told");
}

#[test]
fn what_is_in_use_or_has_no_name_keeps_its_descriptor() {
    let (folder, nodes) = nodes(100, 1000, 4);
    let first = entered(folder.path(), &nodes, 0..2);
    let held = nodes.get(first[0]).unwrap();
    std::fs::remove_file(folder.path().join("1")).unwrap();
    entered(folder.path(), &nodes, 2..100);
    assert_eq!(fstat(nodes.get(first[1]).unwrap()).unwrap().st_nlink, 0);
    assert!(Arc::ptr_eq(&held.file, &nodes.get(first[0]).unwrap().file));
}

#[test]
fn folders_that_seem_to_lie_in_one_another_are_not_walked_for_ever() {
    let (folder, nodes) = nodes(100, 1000, 4);
    let entered = entered(folder.path(), &nodes, 0..100);
    for (number, parent) in [(0, 1), (1, 0)] {
        let (_, stat) = node(&folder.path().join(number.to_string()), Zone::Plain);
        nodes.moved(&stat, Way { parent: entered[parent], name: b"x"[..].into() });
    }
    assert_eq!(nodes.get(entered[0]).unwrap_err(), Errno::STALE);
}

#[test]
fn there_are_no_more_handles_than_descriptors() {
    let (_folder, nodes) = nodes(0, 1, 1);
    let handles = Handles::new(2);
    let add = || handles.add(File::open("/dev/null").unwrap().into(), nodes.get(ROOT).unwrap());
    let first = add().unwrap();
    add().unwrap();
    assert_eq!(add(), Err(Errno::NFILE));
    handles.release(first);
    assert_eq!(handles.get(first).unwrap_err(), Errno::BADF);
    assert!(add().is_ok());
}

#[test]
fn what_was_read_holds_while_the_version_does() {
    let (folder, _) = nodes(1, 1, 1);
    let (node, stat) = node(&folder.path().join("0"), Zone::Plain);
    let version = Version::of(&stat);
    let other = Version { size: 1, ..version };
    assert!(!node.opened(version, true), "it was never opened");
    assert!(node.opened(version, true));
    assert!(!node.opened(other, false));
    assert!(!node.opened(other, true), "it may have changed without a trace");
    assert!(node.opened(other, true));
}
