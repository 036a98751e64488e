//! How nodes and handles are counted.

use std::fs::File;
use std::path::Path;

use rustix::fs::fstat;

use super::*;

fn node(path: &Path, zone: Zone) -> (Node, Stat) {
    let file = OwnedFd::from(File::open(path).unwrap());
    let stat = fstat(&file).unwrap();
    (Node::new(file, &stat, zone), stat)
}

/// A root, and that many files in it.
fn nodes(count: usize, most: usize) -> (tempfile::TempDir, Nodes) {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..count {
        File::create(folder.path().join(number.to_string())).unwrap();
    }
    let nodes = Nodes::new(node(folder.path(), Zone::Plain).0, most);
    (folder, nodes)
}

#[test]
fn a_node_is_known_until_every_lookup_is_forgotten() {
    let (folder, nodes) = nodes(1, 10);
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
    let (folder, nodes) = nodes(1, 10);
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
fn there_are_no_more_nodes_than_descriptors() {
    let (folder, nodes) = nodes(5, 4);
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

#[test]
fn there_are_no_more_handles_than_descriptors() {
    let handles = Handles::new(2);
    let add = || handles.add(File::open("/dev/null").unwrap().into());
    let first = add().unwrap();
    add().unwrap();
    assert_eq!(add(), Err(Errno::NFILE));
    handles.release(first);
    assert_eq!(handles.get(first).unwrap_err(), Errno::BADF);
    assert!(add().is_ok());
}

#[test]
fn what_was_read_holds_while_the_version_does() {
    let (folder, _) = nodes(1, 1);
    let (node, stat) = node(&folder.path().join("0"), Zone::Plain);
    let version = Version::of(&stat);
    let other = Version { size: 1, ..version };
    assert!(!node.opened(version, true), "it was never opened");
    assert!(node.opened(version, true));
    assert!(!node.opened(other, false));
    assert!(!node.opened(other, true), "it may have changed without a trace");
    assert!(node.opened(other, true));
}
