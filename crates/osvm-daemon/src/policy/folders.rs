//! From paths that a server tried to the fewest folders.
//!
//! A path counts when its folder is missing in the guest: what is looked for in folders that are there is how
//! programs search. One whose folder is there counts when the command names it, or when the host has such a folder.
//! Nothing counts below the system's own folders, or where interpreters look for modules, nor what programs look for in
//! hidden folders (`~/.config`) when the host has no such thing.
//!
//! A missing file is covered by its folder, or by itself where its folder is there; a missing folder by itself. A
//! folder inside another is covered by that. More than [`FEW`] with the same missing ancestor are covered by the folder
//! that they have in common, which is at most that ancestor.

use std::collections::BTreeMap;
use std::path::Path;

use osvm_egress::hosts::account::Entry;
use osvm_spec::{Access, Folder, FolderRule};
use osvm_wire::grant::{SYSTEM_FOLDERS, TriedPath};

use super::{FolderNeed, OnHost, Policy};

/// Folders of one missing ancestor that are listed one by one.
const FEW: usize = 4;

/// Most folders: what a server tries is its own choice.
const MOST: usize = 64;

/// Most paths that are looked at.
const MOST_TRIED: usize = 4096;

/// The guest's own scratch: it has that in any case.
const SCRATCH: [&str; 2] = ["tmp", ".osvm"];

/// Where interpreters look for modules, all the way up.
const LOOKUPS: [&str; 6] =
    ["node_modules", "__pycache__", "site-packages", "dist-packages", "glibc-hwcaps", ".git"];

/// What is known of one folder that is needed.
struct Need {
    written: bool,
    /// The path that tells best why.
    example: String,
    named: bool,
    count: usize,
}

/// By the folder's parts.
type Needs = BTreeMap<Vec<String>, Need>;

pub(super) fn add(
    policy: &mut Policy,
    lent: &[Folder],
    entries: impl Iterator<Item = Entry>,
    on_host: impl Fn(&Path) -> OnHost,
) {
    let tried = entries.filter_map(|entry| match entry {
        Entry::Path(tried) => Some(tried),
        _ => None,
    });
    let mut used = BTreeMap::new();
    let mut missing: BTreeMap<Vec<String>, Needs> = BTreeMap::new();
    for tried in tried.take(MOST_TRIED) {
        let Some(parts) = parts(&tried.path) else { continue };
        if let Some(number) =
            lent.iter().position(|folder| Path::new(&tried.path).starts_with(&folder.guest))
        {
            used.entry(number).or_insert_with(|| Need::new(&tried)).add(&tried);
            continue;
        }
        match folder(&parts, &tried, &on_host) {
            Place::Folder(length) => {
                let ancestor = parts[..usize::from(tried.found) + 1].to_vec();
                let needs = missing.entry(ancestor).or_default();
                let folder = parts[..length].to_vec();
                needs.entry(folder).or_insert_with(|| Need::new(&tried)).add(&tried);
            }
            Place::Beyond => {
                policy.beyond.push(format!("{} is neither a folder nor a file", tried.path));
            }
            Place::Nowhere => {}
        }
    }
    let kept = used.into_iter().map(|(number, need)| again(&lent[number], &need));
    let mut all: Vec<_> = missing.into_values().flat_map(few).collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let all = all.into_iter().fold(Needs::new(), merge);
    let new = all.iter().filter_map(|(parts, need)| proposal(parts, need, &on_host));
    policy.folders = kept.chain(new).take(MOST).collect();
    policy.beyond.truncate(MOST);
}

enum Place {
    /// So many of the path's parts are the folder to lend.
    Folder(usize),
    Beyond,
    Nowhere,
}

fn folder(parts: &[String], tried: &TriedPath, on_host: impl Fn(&Path) -> OnHost) -> Place {
    let (all, found) = (parts.len(), usize::from(tried.found));
    if found >= all || is_lookup(parts, tried.named) {
        return Place::Nowhere;
    }
    let is_alone = found + 1 == all;
    let is_hidden = parts[found].starts_with('.') && !tried.named;
    match on_host(Path::new(&tried.path)) {
        OnHost::Folder => Place::Folder(all),
        // Lending what is around it would hide what the image has there.
        OnHost::File if is_alone && tried.named => Place::Folder(all),
        OnHost::Nothing if is_hidden => Place::Nowhere,
        OnHost::Other if is_alone && tried.named => Place::Beyond,
        OnHost::Nothing if is_alone && tried.named => Place::Folder(all),
        _ if is_alone => Place::Nowhere,
        OnHost::File | OnHost::Other | OnHost::Nothing => Place::Folder(all - 1),
    }
}

fn is_lookup(parts: &[String], named: bool) -> bool {
    let first = parts[0].as_str();
    let is_own = SYSTEM_FOLDERS.contains(&first) || (SCRATCH.contains(&first) && !named);
    is_own || parts.iter().any(|part| LOOKUPS.contains(&part.as_str()))
}

/// The parts of an absolute path; none of one that is not plain.
fn parts(path: &str) -> Option<Vec<String>> {
    let rest = path.strip_prefix('/')?.trim_end_matches('/');
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_plain = !path.chars().any(char::is_control) && rest.split('/').all(is_part);
    is_plain.then(|| rest.split('/').map(str::to_owned).collect())
}

/// The folders of one missing ancestor, or what they have in common.
fn few(needs: Needs) -> Needs {
    let merged = needs.into_iter().fold(Needs::new(), merge);
    if merged.len() <= FEW {
        return merged;
    }
    let common = merged
        .keys()
        .cloned()
        .reduce(|a, b| a.into_iter().zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a).collect());
    let need = merged.into_values().reduce(Need::and);
    common.zip(need).into_iter().collect()
}

/// One more folder, unless it lies in one that is there. Those come first: parts are in order.
fn merge(mut needs: Needs, (parts, need): (Vec<String>, Need)) -> Needs {
    let around = (1..=parts.len()).find(|length| needs.contains_key(&parts[..*length]));
    let key = around.map_or(parts.clone(), |length| parts[..length].to_vec());
    let need = match needs.remove(&key) {
        Some(other) => other.and(need),
        None => need,
    };
    needs.insert(key, need);
    needs
}

impl Need {
    fn new(tried: &TriedPath) -> Self {
        Self { written: false, example: tried.path.clone(), named: false, count: 0 }
    }

    fn add(&mut self, tried: &TriedPath) {
        if tried.written && !self.written {
            self.example.clone_from(&tried.path);
        }
        self.written |= tried.written;
        self.named |= tried.named;
        self.count += 1;
    }

    fn and(self, other: Self) -> Self {
        let example = if other.written && !self.written { other.example } else { self.example };
        Self {
            written: self.written || other.written,
            example,
            named: self.named || other.named,
            count: self.count + other.count,
        }
    }

    fn access(&self) -> Access {
        if self.written { Access::Rw } else { Access::Ro }
    }

    fn reason(&self) -> String {
        let how = match (self.written, self.named) {
            (true, _) => "wanted to write",
            (false, true) => "was told by its command of",
            (false, false) => "wanted to read",
        };
        match self.count {
            1 => format!("{how} {}", self.example),
            count => format!("{how} {}, and {} more", self.example, count - 1),
        }
    }
}

/// What is lent already, with the access that was used.
fn again(lent: &Folder, need: &Need) -> FolderNeed {
    let access =
        if need.written && lent.access == Access::RwAll { Access::RwAll } else { need.access() };
    let host = lent.host.display().to_string();
    FolderNeed {
        rule: FolderRule { host, guest: lent.guest.clone(), access },
        exists: true,
        reason: if need.written { "used, and written to" } else { "used, and read only" }
            .to_owned(),
    }
}

fn proposal(
    parts: &[String],
    need: &Need,
    on_host: impl Fn(&Path) -> OnHost,
) -> Option<FolderNeed> {
    let path = format!("/{}", parts.join("/"));
    let rule: FolderRule = format!("{path}:{path}:{}", need.access()).parse().ok()?;
    let exists = matches!(on_host(Path::new(&path)), OnHost::Folder | OnHost::File);
    Some(FolderNeed { rule, exists, reason: need.reason() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, found: u16) -> TriedPath {
        TriedPath { path: path.to_owned(), found, written: false, named: false }
    }

    fn on_host(path: &Path) -> OnHost {
        match path.to_str().unwrap() {
            "/home/me/project" | "/home/me" | "/data" | "/srv/in" => OnHost::Folder,
            "/home/me/project/a.txt" | "/data/file" => OnHost::File,
            "/data/pipe" => OnHost::Other,
            _ => OnHost::Nothing,
        }
    }

    fn least(lent: &[Folder], tried: Vec<TriedPath>) -> Policy {
        let mut policy = Policy::default();
        add(&mut policy, lent, tried.into_iter().map(Entry::Path), on_host);
        policy
    }

    fn shown(policy: &Policy) -> Vec<String> {
        policy.folders.iter().map(|need| need.rule.to_string()).collect()
    }

    #[test]
    fn a_missing_file_is_covered_by_its_folder() {
        let policy =
            least(&[], vec![path("/home/me/project/a.txt", 1), path("/home/me/project/b/c", 1)]);
        assert_eq!(shown(&policy), ["/home/me/project:/home/me/project:ro"]);
        assert!(policy.folders[0].exists);
        assert_eq!(policy.folders[0].reason, "wanted to read /home/me/project/a.txt, and 1 more");
    }

    #[test]
    fn a_try_to_write_asks_for_more() {
        let written = TriedPath { written: true, ..path("/srv/out/file", 0) };
        let policy = least(&[], vec![path("/srv/out/x", 0), written]);
        assert_eq!(shown(&policy), ["/srv/out:/srv/out:rw"]);
        assert!(!policy.folders[0].exists);
        assert_eq!(policy.folders[0].reason, "wanted to write /srv/out/file, and 1 more");
    }

    #[test]
    fn how_programs_search_is_no_need() {
        let searches = vec![
            path("/etc/app/app.conf", 1),
            path("/usr/lib/x/y", 2),
            path("/lib64/glibc-hwcaps/x86-64-v3/libc.so.6", 1),
            path("/app/dist/node_modules/x/package.json", 2),
            path("/node_modules/x", 0),
            path("/tmp/.X11-unix/X0", 1),
            path("/app/.env", 1),
            path("/work/.config/curlrc", 1),
            path("/nothing", 0),
            path("relative", 0),
            path("/a/../b/c", 0),
            path("/a\n/b/c", 0),
            path("/exists/here", 2),
        ];
        let policy = least(&[], searches);
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn what_the_command_names_counts_wherever_it_lies() {
        let named = |text: &str, found| TriedPath { named: true, ..path(text, found) };
        let policy = least(&[], vec![named("/work", 0), named("/data", 0), named("/tmp/a", 1)]);
        assert_eq!(shown(&policy), ["/data:/data:ro", "/tmp/a:/tmp/a:ro", "/work:/work:ro"]);
        let policy = least(&[], vec![named("/data/pipe", 1)]);
        assert_eq!((policy.folders.len(), policy.beyond.len()), (0, 1));
    }

    #[test]
    fn a_file_that_the_command_names_is_lent_alone_where_its_folder_is_there() {
        let named = TriedPath { named: true, ..path("/data/file", 1) };
        let policy = least(&[], vec![named]);
        assert_eq!(shown(&policy), ["/data/file:/data/file:ro"]);
        assert!(policy.folders[0].exists && policy.beyond.is_empty());
    }

    #[test]
    fn a_folder_that_the_host_has_counts_by_itself() {
        assert_eq!(shown(&least(&[], vec![path("/data", 0)])), ["/data:/data:ro"]);
    }

    #[test]
    fn many_folders_become_the_one_around_them_and_never_more() {
        let few: Vec<_> = (0..4).map(|n| path(&format!("/home/you/d{n}/f"), 1)).collect();
        assert_eq!(least(&[], few).folders.len(), 4);
        let many: Vec<_> = (0..9).map(|n| path(&format!("/home/you/d{n}/f"), 1)).collect();
        assert_eq!(shown(&least(&[], many)), ["/home/you:/home/you:ro"]);
    }

    #[test]
    fn a_lent_folder_stays_with_the_access_that_was_used() {
        let lend = |guest: &str, access| Folder { host: "/x".into(), guest: guest.into(), access };
        let lent = [lend("/a", Access::Rw), lend("/b", Access::Ro), lend("/c", Access::Rw)];
        let written = TriedPath { written: true, ..path("/b", 1) };
        let policy = least(&lent, vec![path("/a", 1), written]);
        assert_eq!(shown(&policy), ["/x:/a:ro", "/x:/b:rw"]);
    }

    #[test]
    fn a_flood_of_paths_stays_small() {
        let flood = (0..100_000).map(|n| path(&format!("/a{n}/b/c"), 0)).collect();
        assert_eq!(least(&[], flood).folders.len(), MOST);
    }
}
