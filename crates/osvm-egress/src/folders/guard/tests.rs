//! The guard, held against a small file system in memory: whatever is done that it does not refuse, what was
//! protected is where and what it was.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Names that matter in one zone or another, and some that never do.
const NAMES: [&[u8]; 14] = [
    b".git",
    b"HEAD",
    b"a.git",
    b"hooks",
    b"config",
    b"modules",
    b"worktrees",
    b"commondir",
    b".vscode",
    b".envrc",
    b"a",
    b"b",
    b"objects",
    b"CONFIG",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    kind: FileType,
    content: u32,
}

/// Files by number, and names by folder. The root is file 0.
#[derive(Debug, Clone)]
struct Model {
    files: Vec<File>,
    names: BTreeMap<(usize, &'static [u8]), usize>,
}

#[derive(Debug, Clone)]
enum Act {
    Make(Path, FileType),
    Write(Path),
    Remove(Path),
    Link(Path, Path),
    Move(Path, Path, bool),
}

type Path = Vec<&'static [u8]>;

/// A name, as what is asked for has it: a folder, and the name in it.
#[derive(Debug, Clone, Copy)]
struct Found {
    folder: usize,
    zone: Zone,
    name: &'static [u8],
    file: Option<usize>,
}

impl Found {
    fn place(&self) -> Place<'static> {
        Place { parent: self.zone, name: self.name }
    }
}

impl Model {
    /// As the host has made it: two repositories, one in the other's modules, and what editors have.
    fn of_host() -> Self {
        let root = File { kind: FileType::Directory, content: 0 };
        let mut model = Self { files: vec![root], names: BTreeMap::new() };
        let folders: [&[&[u8]]; 8] = [
            &[b".git"],
            &[b".git", b"hooks"],
            &[b".git", b"modules"],
            &[b".git", b"modules", b"a"],
            &[b".git", b"objects"],
            &[b"a"],
            &[b"a", b".git"],
            &[b"a", b".vscode"],
        ];
        let files: [&[&[u8]]; 6] = [
            &[b".git", b"config"],
            &[b".git", b"hooks", b"a"],
            &[b".git", b"modules", b"a", b"config"],
            &[b"a", b".git", b"commondir"],
            &[b"a", b".vscode", b"b"],
            &[b".envrc"],
        ];
        for (paths, kind) in
            [(&folders[..], FileType::Directory), (&files[..], FileType::RegularFile)]
        {
            for path in paths {
                let found = model.find(path).unwrap();
                model.make(&found, kind);
            }
        }
        model
    }

    fn make(&mut self, at: &Found, kind: FileType) {
        self.files.push(File { kind, content: 1 });
        self.names.insert((at.folder, at.name), self.files.len() - 1);
    }

    /// Where a path leads, through folders only.
    fn find(&self, path: &[&'static [u8]]) -> Option<Found> {
        let (&name, above) = path.split_last()?;
        let mut folder = 0;
        let mut zone = Zone::Plain;
        for &name in above {
            folder = *self.names.get(&(folder, name))?;
            zone = zone.below(name);
            if self.files[folder].kind != FileType::Directory {
                return None;
            }
        }
        Some(Found { folder, zone, name, file: self.names.get(&(folder, name)).copied() })
    }

    fn is_empty(&self, folder: usize) -> bool {
        self.names.keys().all(|&(parent, _)| parent != folder)
    }

    fn is_within(&self, file: usize, folder: usize) -> bool {
        let parent = |of| self.names.iter().find(|entry| *entry.1 == of).map(|entry| entry.0.0);
        std::iter::successors(Some(file), |&of| parent(of)).any(|of| of == folder)
    }

    /// What the guard says, and then what a file system does.
    fn act(&mut self, guard: Guard, act: &Act) -> Option<()> {
        match act {
            Act::Make(path, kind) => {
                let at = self.find(path).filter(|at| at.file.is_none())?;
                guard.may_make(at.place(), *kind).ok()?;
                self.make(&at, *kind);
            }
            Act::Write(path) => {
                let (at, thing) = self.thing(path)?;
                guard.may_write(thing.zone).ok()?;
                self.files[at.file?].content += 1;
            }
            Act::Remove(path) => {
                let at = self.find(path)?;
                guard.may_remove(at.place()).ok()?;
                self.is_empty(at.file?).then(|| self.names.remove(&(at.folder, at.name)))?;
            }
            Act::Link(from, to) => {
                let ((at, thing), to) = (self.thing(from)?, self.find(to)?);
                let is_free = to.file.is_none() && thing.kind != FileType::Directory;
                guard.may_link(thing, to.place()).ok().filter(|()| is_free)?;
                self.names.insert((to.folder, to.name), at.file?);
            }
            Act::Move(from, to, exchange) => self.rename(guard, from, to, *exchange)?,
        }
        Some(())
    }

    fn thing(&self, path: &[&'static [u8]]) -> Option<(Found, Thing)> {
        let at = self.find(path)?;
        let kind = self.files[at.file?].kind;
        Some((at, Thing { kind, zone: at.zone.below(at.name).for_kind(kind) }))
    }

    fn rename(&mut self, guard: Guard, from: &Path, to: &Path, exchange: bool) -> Option<()> {
        let ((from, thing), to_path) = (self.thing(from)?, to);
        let to = self.find(to_path)?;
        guard.may_move(thing, from.place(), to.place()).ok()?;
        let moved = from.file?;
        if self.is_within(to.folder, moved) {
            return None;
        }
        if exchange {
            let (to, thing) = self.thing(to_path)?;
            guard.may_move(thing, to.place(), from.place()).ok()?;
            let other = to.file?;
            if self.is_within(from.folder, other) {
                return None;
            }
            self.names.insert((from.folder, from.name), other);
        } else {
            let is_replaced = to.file.is_none_or(|old| {
                old != moved && self.files[old].kind == thing.kind && self.is_empty(old)
            });
            is_replaced.then(|| self.names.remove(&(from.folder, from.name)))?;
        }
        self.names.insert((to.folder, to.name), moved);
        Some(())
    }

    /// Told from whole paths, without zones: each name that is protected or leads out of a repository, what
    /// bears it, and what that says.
    fn protected(&self) -> Vec<(usize, &'static [u8], usize, File)> {
        let mut found = Vec::new();
        self.walk(0, &mut Vec::new(), &mut found);
        found.sort_by_key(|&(folder, name, file, _)| (folder, name, file));
        found
    }

    fn walk(
        &self,
        folder: usize,
        path: &mut Path,
        found: &mut Vec<(usize, &'static [u8], usize, File)>,
    ) {
        for (&(parent, name), &file) in &self.names {
            if parent != folder {
                continue;
            }
            path.push(name);
            let kind = self.files[file].kind;
            if is_protected(path)
                || kind == FileType::Symlink && path.iter().any(|name| name.ends_with(b".git"))
            {
                found.push((folder, name, file, self.files[file]));
            }
            if self.files[file].kind == FileType::Directory {
                self.walk(file, path, found);
            }
            path.pop();
        }
    }
}

fn is_protected(path: &[&[u8]]) -> bool {
    let path: Vec<String> =
        path.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    let is_fatal = |name: &String| {
        ["hooks", "config", "config.worktree", "commondir"].contains(&name.as_str())
    };
    let is_anywhere =
        path.iter().any(|name| [".vscode", ".idea", ".envrc"].contains(&name.as_str()));
    let is_repository = |name: &String| name.ends_with(".git");
    let ends_in_git = path.last().is_some_and(is_repository);
    let makes_one = path.iter().take_while(|name| !is_repository(name)).any(|name| name == "head");
    let in_git = (0..path.len()).filter(|&at| is_repository(&path[at])).any(|at| {
        let below = &path[at + 1..];
        let is_nested = below.first().is_some_and(|name| name == "modules" || name == "worktrees");
        below.first().is_some_and(is_fatal) || is_nested && below.iter().any(is_fatal)
    });
    is_anywhere || ends_in_git || in_git || makes_one
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(select(&NAMES[..]), 1..5)
}

fn act() -> impl Strategy<Value = Act> {
    let kind = select(vec![FileType::Directory, FileType::RegularFile, FileType::Symlink]);
    prop_oneof![
        3 => (path(), kind).prop_map(|(path, kind)| Act::Make(path, kind)),
        1 => path().prop_map(Act::Write),
        1 => path().prop_map(Act::Remove),
        1 => (path(), path()).prop_map(|(from, to)| Act::Link(from, to)),
        4 => (path(), path(), any::<bool>()).prop_map(|(from, to, both)| Act::Move(from, to, both)),
    ]
}

/// A file called `.git` is content too; a folder of that name is there or not, whatever is in it.
fn without_folders_content(
    of: Vec<(usize, &[u8], usize, File)>,
) -> Vec<(usize, Vec<u8>, usize, u32)> {
    let content = |file: File| if file.kind == FileType::Directory { 0 } else { file.content };
    of.into_iter()
        .map(|(folder, name, file, is)| (folder, name.to_vec(), file, content(is)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_protected_stays_where_and_what_it_was(acts in prop::collection::vec(act(), 200)) {
        let guard = Guard::new(Access::Rw);
        let mut model = Model::of_host();
        let before = without_folders_content(model.protected());
        for act in &acts {
            model.act(guard, act);
            let now = without_folders_content(model.protected());
            prop_assert_eq!(&now, &before, "after {:?}", act);
        }
    }

    #[test]
    fn nothing_is_changed_that_is_lent_for_reading(acts in prop::collection::vec(act(), 50)) {
        let mut model = Model::of_host();
        for act in &acts {
            prop_assert!(model.act(Guard::new(Access::Ro), act).is_none());
        }
    }
}

#[test]
fn the_acts_that_are_tried_reach_something() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut model = Model::of_host();
    let acts = prop::collection::vec(act(), 2000).new_tree(&mut runner).unwrap().current();
    let done = acts.iter().filter(|act| model.act(Guard::new(Access::Rw), act).is_some());
    assert!(done.count() > 100);
}
