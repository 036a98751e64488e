//! How source files are named, begin, and where they may be unsafe.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Ident, TokenStream, TokenTree};

use super::workspace::Package;

/// Names that say nothing about what is behind them.
const VAGUE: [&str; 7] = ["common", "util", "utils", "helper", "helpers", "misc", "types"];

/// The crates where `unsafe` may stand, each use with its reason.
const UNSAFE: [&str; 2] = ["osvm-guest", "osvm-vmm"];

/// Words that only one room's names contain; elsewhere they are values and texts for the user.
const VMMS: [&str; 2] = ["firecracker", "qemu"];
const VMM_ROOM: &str = "osvm-vmm";

/// The chores compare osvm with what is under it, and name it.
const CHORES: &str = "xtask";

/// From here on a file is looked at for a room that wants to come out.
const LONG: usize = 500;

/// What was found: faults fail the check, remarks are for the reader.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) faults: Vec<String>,
    pub(crate) remarks: Vec<String>,
}

/// One source file of a crate.
struct Source<'a> {
    package: &'a str,
    /// As shown: relative to the checkout.
    path: &'a Path,
    text: &'a str,
}

pub(crate) fn inspect(checkout: &Path, package: &Package) -> Result<Findings> {
    let mut found = Findings::default();
    if is_vague(package.name.rsplit('-').next().unwrap_or_default()) {
        found.faults.push(format!("{}: the crate's name says nothing", package.name));
    }
    for folder in folders(package) {
        for path in rust_files(folder)? {
            let text = read(&path)?;
            let shown = path.strip_prefix(checkout).unwrap_or(&path);
            Source { package: &package.name, path: shown, text: &text }.inspect(&mut found);
        }
    }
    if !UNSAFE.contains(&package.name.as_str()) {
        for target in package.targets.iter().filter(|target| target.is_shipped()) {
            require_forbid(checkout, &target.src_path, &mut found)?;
        }
    }
    Ok(found)
}

/// The crate's own folder, and those of targets that lie elsewhere.
fn folders(package: &Package) -> Vec<&Path> {
    let own = package.folder();
    let elsewhere = package.targets.iter().filter_map(|target| target.src_path.parent());
    let mut folders: Vec<_> = elsewhere.filter(|folder| !folder.starts_with(own)).collect();
    folders.push(own);
    folders.sort_unstable();
    folders.dedup();
    folders
}

impl Source<'_> {
    fn inspect(&self, found: &mut Findings) {
        if !self.text.starts_with("//!") {
            found.faults.push(self.says("does not begin with //! and what lives in it"));
        }
        if let Some(name) = self.names().find(|name| is_vague(name)) {
            found.faults.push(self.says(&format!("{name} is a name that says nothing")));
        }
        if ![CHORES, VMM_ROOM].contains(&self.package) {
            found.faults.extend(self.vmm_names());
        }
        let lines = lines_without_tests(self.text);
        if lines > LONG && !self.is_test() {
            found.remarks.push(self.says(&format!("{lines} lines without tests")));
        }
    }

    /// The file's folders and stem.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.path.components().filter_map(|part| part.as_os_str().to_str()).map(stem)
    }

    fn is_test(&self) -> bool {
        self.names().any(|name| name == "tests")
    }

    /// Files and definitions that are named after a VMM.
    fn vmm_names(&self) -> Vec<String> {
        let only = format!("only {VMM_ROOM} names things after a VMM");
        let file = self.names().find(|name| has_vmm(name)).map(|_| self.says(&only));
        let tokens = self.text.parse::<TokenStream>();
        let Ok(tokens) = tokens else { return vec![self.says("is not Rust")] };
        let items = definitions(tokens).into_iter().filter(|name| has_vmm(&name.to_string()));
        let told = items
            .map(|name| self.says(&format!("line {}: {name}: {only}", name.span().start().line)));
        file.into_iter().chain(told).collect()
    }

    fn says(&self, what: &str) -> String {
        format!("{}: {what}", self.path.display())
    }
}

fn is_vague(name: &str) -> bool {
    VAGUE.contains(&name)
}

fn has_vmm(name: &str) -> bool {
    VMMS.iter().any(|vmm| name.to_lowercase().contains(vmm))
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".rs").unwrap_or(name)
}

/// Modules, types, functions, constants and variables: the names that follow their keywords.
fn definitions(tokens: TokenStream) -> Vec<Ident> {
    const KEYWORDS: [&str; 10] =
        ["mod", "struct", "enum", "union", "trait", "type", "fn", "const", "static", "let"];
    let mut names = Vec::new();
    let mut after_keyword = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => names.extend(definitions(group.stream())),
            TokenTree::Ident(ident) if ident == "mut" => {}
            TokenTree::Ident(ident) if KEYWORDS.iter().any(|keyword| ident == keyword) => {
                after_keyword = true;
            }
            TokenTree::Ident(ident) if after_keyword => {
                names.push(ident);
                after_keyword = false;
            }
            _ => after_keyword = false,
        }
    }
    names
}

/// Lines up to the file's own test module.
fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

fn require_forbid(checkout: &Path, root: &Path, found: &mut Findings) -> Result<()> {
    if !read(root)?.lines().any(|line| line == "#![forbid(unsafe_code)]") {
        let shown = root.strip_prefix(checkout).unwrap_or(root).display();
        found.faults.push(format!("{shown}: lacks #![forbid(unsafe_code)]"));
    }
    Ok(())
}

/// The crate's Rust files, in the order of their paths. A folder with a manifest of its own or
/// with build results is not the crate's.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = |e| format!("cannot list {}: {e}", folder.display());
    let entries = fs::read_dir(folder).map_err(|error| anyhow::anyhow!(list(error)))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        } else if is_own_folder(&path) {
            files.extend(rust_files(&path)?);
        }
    }
    Ok(files)
}

fn is_own_folder(path: &Path) -> bool {
    path.is_dir()
        && !path.is_symlink()
        && !path.ends_with("target")
        && !path.join("Cargo.toml").exists()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::workspace::Target;

    fn look(package: &str, path: &str, text: &str) -> Findings {
        let mut found = Findings::default();
        Source { package, path: Path::new(path), text }.inspect(&mut found);
        found
    }

    fn faults(package: &str, path: &str, text: &str) -> String {
        look(package, path, text).faults.join("; ")
    }

    #[test]
    fn a_file_says_first_what_lives_in_it() {
        assert_eq!(look("osvm-spec", "crates/a/src/a.rs", "//! A.\n"), Findings::default());
        assert!(faults("osvm-spec", "a.rs", "use std::fs;\n//! A.\n").contains("begin with //!"));
    }

    #[test]
    fn names_that_say_nothing_are_faults_as_files_and_as_folders() {
        assert!(faults("osvm-spec", "src/utils.rs", "//! A.").contains("utils is a name"));
        assert!(faults("osvm-spec", "src/common/a.rs", "//! A.").contains("common is a name"));
    }

    #[test]
    fn only_the_vmm_room_names_things_after_a_vmm() {
        for code in ["mod qemu;", "fn start_qemu() {}", "fn a() { let mut firecracker = 1; }"] {
            let text = format!("//! A.\n{code}\n");
            assert!(faults("osvm-fleet", "a.rs", &text).contains("line 2: "), "{code}");
            assert_eq!(faults("osvm-vmm", "a.rs", &text), "", "{code}");
        }
        assert!(faults("osvm-fleet", "src/qemu/a.rs", "//! A.").contains("only osvm-vmm"));
    }

    #[test]
    fn comments_texts_and_the_users_choice_may_name_a_vmm() {
        let text = "//! Not for qemu.\n// firecracker\nfn a() { b(\"qemu\", Choice::Qemu) }\n";
        assert_eq!(faults("osvm-fleet", "a.rs", text), "");
    }

    #[test]
    fn a_long_file_is_remarked_on_and_its_tests_do_not_count() {
        let long = format!("//! A.\n{}", "\n".repeat(LONG));
        assert_eq!(look("osvm-spec", "a.rs", &long).remarks, ["a.rs: 501 lines without tests"]);
        let tested = format!("//! A.\n#[cfg(test)]\n{}", "\n".repeat(LONG));
        assert!(look("osvm-spec", "a.rs", &tested).remarks.is_empty());
        assert!(look("osvm-spec", "src/tests.rs", &long).remarks.is_empty());
    }

    #[test]
    fn a_target_outside_its_crates_folder_is_looked_at_too() {
        let folder = tempfile::tempdir().unwrap();
        let (own, outside) = (folder.path().join("own"), folder.path().join("outside"));
        fs::create_dir(&own).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("main.rs"), "fn main() {}\n").unwrap();
        let package = Package {
            name: "osvm".to_owned(),
            manifest_path: own.join("Cargo.toml"),
            dependencies: Vec::new(),
            targets: vec![Target {
                kind: vec!["test".to_owned()],
                src_path: outside.join("main.rs"),
            }],
        };
        let faults = inspect(folder.path(), &package).unwrap().faults;
        assert_eq!(faults, ["outside/main.rs: does not begin with //! and what lives in it"]);
    }

    #[test]
    fn a_crate_without_the_right_to_it_forbids_unsafe_code_in_each_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("lib.rs");
        fs::write(&root, "//! A.\n").unwrap();
        let package = |name: &str| Package {
            name: name.to_owned(),
            manifest_path: folder.path().join("Cargo.toml"),
            dependencies: Vec::new(),
            targets: vec![Target { kind: vec!["lib".to_owned()], src_path: root.clone() }],
        };
        let inspect = |name| inspect(folder.path(), &package(name)).unwrap().faults;
        assert_eq!(inspect("osvm-spec"), ["lib.rs: lacks #![forbid(unsafe_code)]"]);
        assert!(inspect("osvm-vmm").is_empty());
        fs::write(&root, "//! A.\n#![forbid(unsafe_code)]\n").unwrap();
        assert!(inspect("osvm-spec").is_empty());
    }
}
