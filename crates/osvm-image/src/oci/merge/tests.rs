//! Layers over layers, and every way in which one may try to get out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tar::Place;
use super::*;
use crate::disk::tree::{self, Tree};

fn merged() -> Merged {
    let mut merged = Merged::new(Limits::default());
    merged.layer = 1;
    merged
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    let name = name.as_bytes().to_vec();
    Entry { name, kind, mode: 0o700, uid: 0, gid: 0, mtime: 0, xattrs: Vec::new() }
}

fn file(name: &str, size: u64) -> Entry {
    entry(name, EntryKind::File(Place { size, bytes: Bytes::From(0) }))
}

fn folder(name: &str) -> Entry {
    entry(name, EntryKind::Folder)
}

fn symlink(name: &str, target: &str) -> Entry {
    entry(name, EntryKind::Symlink(target.into()))
}

fn link(name: &str, target: &str) -> Entry {
    entry(name, EntryKind::Link(target.into()))
}

fn put(merged: &mut Merged, entries: impl IntoIterator<Item = Entry>) {
    for entry in entries {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        merged.put(entry).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn layers(layers: Vec<Vec<Entry>>) -> Merged {
    let mut merged = Merged::new(Limits::default());
    for entries in layers {
        merged.layer += 1;
        put(&mut merged, entries);
    }
    merged
}

/// Each name with what it is.
fn seen(merged: Merged) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path()).unwrap();
    let rootfs = Rootfs::new(merged, &spool);
    let show = |(at, node): (usize, &tree::Node)| {
        let what = match &node.kind {
            tree::Kind::Folder(_) => "folder".to_owned(),
            tree::Kind::File => node.stat.size.to_string(),
            tree::Kind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
            tree::Kind::Link(first) => format!("= {}", rootfs.path(*first).display()),
        };
        (rootfs.path(at).display().to_string(), what)
    };
    rootfs.nodes().iter().enumerate().skip(1).map(show).collect()
}

#[track_caller]
fn assert_seen(merged: Merged, names: &[(&str, &str)]) {
    let names = names.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned()));
    assert_eq!(seen(merged), names.collect());
}

fn refusal(before: Vec<Entry>, last: Entry) -> NameError {
    let mut merged = merged();
    put(&mut merged, before);
    merged.put(last).unwrap_err()
}

#[test]
fn a_whiteout_hides_a_name_of_lower_layers_only() {
    let lower = vec![file("a/b", 1), file("a/c", 2)];
    let upper = vec![entry("a/.wh.b", EntryKind::File(Place { size: 0, bytes: Bytes::From(0) }))];
    assert_seen(layers(vec![lower, upper]), &[("a", "folder"), ("a/c", "2")]);
    let same = vec![file("a", 1), file(".wh.a", 0)];
    assert_seen(layers(vec![same]), &[("a", "1")]);
}

#[test]
fn a_whiteout_of_nothing_is_nothing() {
    let upper = vec![file(".wh.gone", 0), file("no/such/.wh.x", 0), file("a/.wh.x", 0)];
    assert_seen(layers(vec![vec![file("a", 1)], upper]), &[("a", "1")]);
}

#[test]
fn a_whiteout_leaves_what_its_own_layer_has_below() {
    let lower = vec![file("a/old", 1), file("a/deep/old", 1)];
    for upper in [
        vec![file("a/deep/new", 2), file(".wh.a", 0)],
        vec![file(".wh.a", 0), file("a/deep/new", 2)],
    ] {
        let names = [("a", "folder"), ("a/deep", "folder"), ("a/deep/new", "2")];
        assert_seen(layers(vec![lower_copy(&lower), upper]), &names);
    }
}

fn lower_copy(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().map(|entry| file(&String::from_utf8_lossy(&entry.name), 1)).collect()
}

#[test]
fn an_opaque_folder_hides_all_of_lower_layers_wherever_it_stands() {
    for upper in [
        vec![file("a/.wh..wh..opq", 0), file("a/new", 2)],
        vec![file("a/new", 2), file("a/.wh..wh..opq", 0)],
    ] {
        let lower = vec![file("a/old", 1), file("a/b/old", 1), file("keep", 3)];
        let names = [("a", "folder"), ("a/new", "2"), ("keep", "3")];
        assert_seen(layers(vec![lower, upper]), &names);
    }
}

#[test]
fn a_device_without_numbers_is_a_whiteout() {
    let upper = vec![entry("a", EntryKind::Character(0, 0))];
    assert_seen(layers(vec![vec![file("a/b", 1)], upper]), &[]);
}

#[test]
fn what_is_no_folder_gives_way_and_a_folder_stays() {
    let lower = vec![file("a/x", 1), file("b", 1), symlink("c", "a"), file("d/x", 1)];
    let upper = vec![file("a", 2), folder("b"), folder("c"), folder("d"), file("c/y", 3)];
    let names =
        [("a", "2"), ("b", "folder"), ("c", "folder"), ("c/y", "3"), ("d", "folder"), ("d/x", "1")];
    assert_seen(layers(vec![lower, upper]), &names);
}

#[test]
fn a_hard_link_means_a_file_of_any_layer_and_keeps_it() {
    let lower = vec![file("a/x", 7)];
    let upper = vec![link("b", "a/x"), file("a/x", 8), link("c", "/b")];
    let names = [("a", "folder"), ("a/x", "8"), ("b", "7"), ("c", "= b")];
    assert_seen(layers(vec![lower, upper]), &names);
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_one() {
    let names = [("a", "-> x"), ("b", "-> x")];
    assert_seen(layers(vec![vec![symlink("a", "x"), link("b", "a")]]), &names);
}

#[test]
fn a_hard_link_out_or_to_nothing_is_refused() {
    assert_eq!(refusal(vec![], link("a", "../../etc/passwd")), NameError::Outside);
    assert_eq!(refusal(vec![], link("a", "/etc/passwd")), NameError::Link("nothing"));
    assert_eq!(refusal(vec![folder("b")], link("a", "b")), NameError::Link("a folder"));
    assert_eq!(refusal(vec![], link("a", ".")), NameError::Link("the root"));
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../a", "/a", "a/../../b", ".wh...", "a/.wh.."] {
        assert_eq!(refusal(vec![], file(name, 1)), NameError::Outside, "{name}");
    }
}

#[test]
fn a_symlinked_parent_is_followed_within_the_image() {
    let lower = vec![folder("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr/lib")];
    let upper = vec![
        file("lib/a", 1),
        file("abs/b", 2),
        symlink("out", "../../../../etc"),
        file("out/passwd", 3),
    ];
    let merged = layers(vec![lower, upper]);
    let names = [
        ("abs", "-> /usr/lib"),
        ("etc", "folder"),
        ("etc/passwd", "3"),
        ("lib", "-> usr/lib"),
        ("out", "-> ../../../../etc"),
        ("usr", "folder"),
        ("usr/lib", "folder"),
        ("usr/lib/a", "1"),
        ("usr/lib/b", "2"),
    ];
    assert_seen(merged, &names);
}

#[test]
fn links_in_a_circle_are_refused() {
    let circle = vec![symlink("a", "b"), symlink("b", "a")];
    assert_eq!(refusal(circle, file("a/x", 1)), NameError::Loop);
    // Each doubles the way.
    let mut bomb = vec![folder("l0")];
    bomb.extend((1..60).map(|i| symlink(&format!("l{i}"), &format!("l{0}/../l{0}", i - 1))));
    assert_eq!(refusal(bomb, file("l59/x", 1)), NameError::Loop);
}

#[test]
fn links_that_no_kernel_reads_are_refused() {
    for target in ["", "a\0b", &"x".repeat(4096)] {
        assert_eq!(refusal(vec![], symlink("a", target)), NameError::Target);
    }
}

#[test]
fn what_lies_below_a_file_is_refused() {
    assert_eq!(refusal(vec![file("a", 1)], file("a/b", 1)), NameError::NotAFolder);
}

#[test]
fn depth_is_bounded_though_links_shorten_names() {
    let mut merged = merged();
    let deep = "d/".repeat(400);
    put(&mut merged, [symlink("s1", &deep), symlink("s2", &format!("s1/{deep}"))]);
    put(&mut merged, [file("s2/x", 1)]);
    let deeper = file(&format!("s2/{deep}x"), 1);
    assert_eq!(merged.put(deeper).unwrap_err(), NameError::Deep);
    merged.layer += 1;
    put(&mut merged, [file(".wh.d", 0)]);
    assert!(!seen(merged).contains_key("d"));
}

#[test]
fn devices_and_pipes_are_refused_by_name_but_left_out_below_dev() {
    let device = || EntryKind::Character(1, 3);
    assert_eq!(refusal(vec![], entry("null", device())), NameError::Special("device"));
    assert_eq!(refusal(vec![], entry("a/b", EntryKind::Block)), NameError::Special("device"));
    assert_eq!(refusal(vec![], entry("p", EntryKind::Pipe)), NameError::Special("named pipe"));
    let merged = layers(vec![vec![entry("dev/null", device()), entry("dev/p", EntryKind::Pipe)]]);
    assert_seen(merged, &[]);
}

#[test]
fn a_root_that_is_no_folder_is_refused() {
    assert_eq!(refusal(vec![], file("./", 1)), NameError::Root);
    let mut merged = merged();
    put(&mut merged, [folder("./")]);
    assert_eq!(merged.inodes[0].stat.mode, 0o700);
}

#[test]
fn names_and_holes_without_end_are_refused() {
    let limits = Limits { entries: 3, memory: 100, bytes: 1 << 40, ..Limits::default() };
    let mut merged = Merged::new(limits);
    for _ in 0..3 {
        merged.count(&file("a", 1)).unwrap();
    }
    assert!(matches!(merged.count(&file("a", 1)), Err(OciError::Limit { what: "names", .. })));
    let mut merged = Merged::new(limits);
    assert!(merged.count(&symlink("a", &"x".repeat(100))).is_err());
    let hole = EntryKind::File(Place { size: u64::MAX, bytes: Bytes::Parts(Box::default()) });
    assert!(Merged::new(limits).count(&entry("a", hole)).is_err());
}

/// One step of a layer.
#[derive(Debug, Clone)]
enum Step {
    File(Vec<u8>),
    Folder(Vec<u8>),
    Whiteout(Vec<u8>),
    Opaque(Vec<u8>),
}

fn text(path: &[u8]) -> String {
    path.iter().map(|part| format!("{part}")).collect::<Vec<_>>().join("/")
}

/// Paths and whether each is a folder.
type Model = BTreeMap<Vec<u8>, bool>;

/// A layer over a model, slowly: whiteouts first, for they are of lower layers.
fn apply(below: &Model, layer: &[Step]) -> Model {
    let mut model = below.clone();
    for step in layer {
        match step {
            Step::Whiteout(path) => model.retain(|name, _| !name.starts_with(path)),
            Step::Opaque(path) => {
                model.retain(|name, _| !name.starts_with(path) || name.len() <= path.len());
            }
            _ => {}
        }
    }
    for step in layer {
        let (path, is_folder) = match step {
            Step::File(path) => (path, false),
            Step::Folder(path) => (path, true),
            _ => continue,
        };
        if !is_folder {
            model.retain(|name, _| !name.starts_with(path));
        }
        for length in 1..path.len() {
            model.insert(path[..length].to_vec(), true);
        }
        model.insert(path.clone(), is_folder);
    }
    model
}

impl Step {
    fn path(&self) -> &Vec<u8> {
        let (Self::File(path) | Self::Folder(path) | Self::Whiteout(path) | Self::Opaque(path)) =
            self;
        path
    }
}

/// Nobody writes names below files, which are refused, or a name twice, where the model is too naive.
fn is_sound(below: &Model, layer: &[Step]) -> bool {
    let is_name = |step: &&Step| matches!(step, Step::File(_) | Step::Folder(_));
    let mut names: Vec<_> = layer.iter().filter(is_name).map(Step::path).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    let lower = below.iter().filter(|(_, is_folder)| !**is_folder).map(|(path, _)| path);
    let own = layer.iter().filter(|step| matches!(step, Step::File(_))).map(Step::path);
    let files: Vec<_> = lower.chain(own).collect();
    let is_below =
        |path: &Vec<u8>| files.iter().any(|file| path.len() > file.len() && path.starts_with(file));
    names.len() == count && !layer.iter().any(|step| is_below(step.path()))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = || proptest::collection::vec(0..3_u8, 1..4);
    let step = prop_oneof![
        3 => path().prop_map(Step::File),
        2 => path().prop_map(Step::Folder),
        1 => path().prop_map(Step::Whiteout),
        1 => path().prop_map(Step::Opaque),
    ];
    proptest::collection::vec(step, 0..8)
}

fn entry_of(step: &Step) -> Entry {
    match step {
        Step::File(path) => file(&text(path), 1),
        Step::Folder(path) => folder(&text(path)),
        Step::Whiteout(path) => {
            let (last, above) = path.split_last().unwrap();
            file(format!("{}/.wh.{last}", text(above)).trim_start_matches('/'), 0)
        }
        Step::Opaque(path) => file(&format!("{}/.wh..wh..opq", text(path)), 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 100_000, ..Default::default() })]
    #[test]
    fn layers_merge_as_a_naive_model_has_it(all in proptest::collection::vec(steps(), 1..4)) {
        let (mut model, mut sound) = (Model::new(), Vec::new());
        for layer in all {
            if is_sound(&model, &layer) {
                model = apply(&model, &layer);
                sound.push(layer);
            }
        }
        prop_assume!(!sound.is_empty());
        let merged = layers(sound.iter().map(|layer| layer.iter().map(entry_of).collect()).collect());
        let want = model.iter().map(|(path, is_folder)| {
            (text(path), if *is_folder { "folder".to_owned() } else { "1".to_owned() })
        });
        prop_assert_eq!(seen(merged), want.collect::<BTreeMap<_, _>>());
    }
}
