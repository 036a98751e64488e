//! Who a server process runs as: names looked up in the image's own files.

use std::fs;
use std::path::Path;

use osvm_wire::message::Refusal;

/// The ids a process gets, and its home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// Whose files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// Whoever `user` runs as, found as for a process; the agent's own user where there are no names.
    pub(crate) fn find(user: Option<&str>, etc: Option<&Path>) -> Result<Self, Refusal> {
        use rustix::process::{getgid, getuid};
        let Some(etc) = etc else {
            return Ok(Self { uid: getuid().as_raw(), gid: getgid().as_raw() });
        };
        let account =
            user.map_or_else(|| Account::unprivileged(etc), |user| Account::find(user, etc));
        account.map(|account| Self { uid: account.uid, gid: account.gid })
    }
}

/// The home of a user who has none: somewhere it can write.
const NO_HOME: &str = "/tmp";

impl Account {
    /// Who runs when nobody is named.
    const UNPRIVILEGED: u32 = 1000;

    /// Looks up `user`, `user:group`, `uid` or `uid:gid` below `etc` (the image's `/etc`).
    pub(super) fn find(user: &str, etc: &Path) -> Result<Self, Refusal> {
        let (user, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        let entry = passwd(etc).into_iter().find(|entry| entry.is(user));
        let numeric = user.parse().ok();
        let uid = entry.as_ref().map(|entry| entry.uid).or(numeric);
        let uid = uid.ok_or_else(|| Refusal::NoSuchUser { user: user.to_owned() })?;
        let gid = match group {
            Some(group) => find_group(group, etc)?,
            None => entry.as_ref().map_or(uid, |entry| entry.gid),
        };
        let home = entry.map(|entry| entry.home).filter(|home| Path::new(home).is_dir());
        Ok(Self { uid, gid, home: home.unwrap_or_else(|| NO_HOME.to_owned()) })
    }

    /// The account of a process whose request names no user.
    pub(super) fn unprivileged(etc: &Path) -> Result<Self, Refusal> {
        Self::find(&Self::UNPRIVILEGED.to_string(), etc)
    }

    /// The ids of the groups whose members include this account's user.
    pub(super) fn groups(&self, etc: &Path) -> Vec<u32> {
        let name = passwd(etc).into_iter().find(|entry| entry.uid == self.uid).map(|e| e.name);
        let Some(name) = name else { return Vec::new() };
        let text = fs::read_to_string(etc.join("group")).unwrap_or_default();
        let is_member = |members: &str| members.split(',').any(|member| member == name);
        text.lines()
            .filter_map(|line| {
                let fields: Vec<_> = line.split(':').collect();
                let member = is_member(fields.get(3)?);
                member.then(|| fields[2].parse().ok())?
            })
            .collect()
    }
}

/// Gives the unprivileged user a name if the image knows none: programs that ask who they are fail without.
pub(crate) fn name_unprivileged(etc: &Path) -> std::io::Result<()> {
    let id = Account::UNPRIVILEGED;
    if passwd(etc).iter().any(|entry| entry.uid == id) {
        return Ok(());
    }
    fs::create_dir_all(etc)?;
    append(&etc.join("passwd"), &format!("mcp:x:{id}:{id}:mcp:{NO_HOME}:/bin/sh\n"))?;
    append(&etc.join("group"), &format!("mcp:x:{id}:\n"))
}

fn append(file: &Path, line: &str) -> std::io::Result<()> {
    let mut text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    fs::write(file, text + line)
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Entry {
    /// A number names the user with that id, even if somebody's name looks like it.
    fn is(&self, user: &str) -> bool {
        user.parse().map_or(self.name == user, |uid: u32| self.uid == uid)
    }
}

fn passwd(etc: &Path) -> Vec<Entry> {
    let text = fs::read_to_string(etc.join("passwd")).unwrap_or_default();
    text.lines().filter_map(parse_entry).collect()
}

fn parse_entry(line: &str) -> Option<Entry> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?.to_owned();
    Some(Entry { name, uid, gid, home })
}

fn find_group(group: &str, etc: &Path) -> Result<u32, Refusal> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let text = fs::read_to_string(etc.join("group")).unwrap_or_default();
    let gid = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(group);
        found.then(|| fields.nth(1)?.parse().ok())?
    });
    gid.ok_or_else(|| Refusal::NoSuchGroup { group: group.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let passwd = "root:x:0:0:root:/:/bin/sh\nbroken line\nnode:x:1001:1002::/gone:/bin/sh";
        fs::write(dir.path().join("passwd"), passwd).unwrap();
        let group = "root:x:0:\nnode:x:1002:\naudio:x:29:other,node\nvideo:x:44:nodes\n";
        fs::write(dir.path().join("group"), group).unwrap();
        dir
    }

    fn account(uid: u32, gid: u32, home: &str) -> Result<Account, Refusal> {
        Ok(Account { uid, gid, home: home.into() })
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let etc = etc();
        assert_eq!(Account::find("root", etc.path()), account(0, 0, "/"));
        assert_eq!(Account::find("node", etc.path()), account(1001, 1002, "/tmp"));
        assert_eq!(Account::find("1001", etc.path()), account(1001, 1002, "/tmp"));
        assert_eq!(Account::find("7", etc.path()), account(7, 7, "/tmp"));
        assert_eq!(Account::find("7:8", etc.path()), account(7, 8, "/tmp"));
        assert_eq!(Account::find("node:audio", etc.path()), account(1001, 29, "/tmp"));
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        let etc = etc();
        let user = Account::find("nobody", etc.path()).unwrap_err();
        assert_eq!(user, Refusal::NoSuchUser { user: "nobody".into() });
        let group = Account::find("node:wheel", etc.path()).unwrap_err();
        assert_eq!(group, Refusal::NoSuchGroup { group: "wheel".into() });
    }

    #[test]
    fn an_image_without_users_still_has_the_unprivileged_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Account::unprivileged(dir.path()), account(1000, 1000, "/tmp"));
    }

    #[test]
    fn files_belong_to_whom_a_process_would_run_as() {
        let etc = etc();
        let owner = |user| Owner::find(user, Some(etc.path()));
        assert_eq!(owner(None), Ok(Owner { uid: 1000, gid: 1000 }));
        assert_eq!(owner(Some("node")), Ok(Owner { uid: 1001, gid: 1002 }));
        assert!(owner(Some("nobody")).is_err() && Owner::find(Some("node"), None).is_ok());
    }

    #[test]
    fn supplementary_groups_are_those_that_list_the_user() {
        let etc = etc();
        let node = Account::find("node", etc.path()).unwrap();
        assert_eq!(node.groups(etc.path()), [29]);
    }

    #[test]
    fn the_unprivileged_user_is_named_once() {
        let etc = etc();
        name_unprivileged(etc.path()).unwrap();
        name_unprivileged(etc.path()).unwrap();
        let passwd = fs::read_to_string(etc.path().join("passwd")).unwrap();
        assert_eq!(passwd.matches("\nmcp:x:1000:1000:").count(), 1, "{passwd}");
    }
}
