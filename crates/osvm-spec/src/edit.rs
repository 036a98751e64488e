//! Changes to a configuration file's text that leave everything else in it as the user wrote it.

mod tokens;

use thiserror::Error;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, value};

use crate::config::{Entry, TokenName};
use crate::{Config, ConfigError, ServerName};

pub use tokens::{add_token, remove_token};

/// Why a file was left alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("server {0} exists already")]
    Exists(ServerName),
    #[error("no server is called {name}")]
    NoSuch { name: ServerName, nearest: Option<ServerName> },
    #[error("token {0} exists already")]
    TokenExists(TokenName),
    #[error("no token is called {0}")]
    NoSuchToken(TokenName),
}

/// Text with the server at the end.
pub fn add(text: &str, file: &str, entry: &Entry) -> Result<String, EditError> {
    let config = Config::parse(text, file)?;
    if config.server(&entry.id).is_some() {
        return Err(EditError::Exists(entry.id.clone()));
    }
    let mut document = document(text);
    push(&mut document, table(entry));
    let text = document.to_string();
    Config::parse(&text, file)?;
    Ok(text)
}

/// Text without the server, its sub-tables and the comment block right above it.
pub fn remove(text: &str, file: &str, name: &ServerName) -> Result<String, EditError> {
    let index = position(text, file, name)?;
    let mut document = document(text);
    take(&mut document, &["servers"], index);
    Ok(document.to_string())
}

/// Text in which the server is enabled, or is not.
pub fn set_enabled(
    text: &str,
    file: &str,
    name: &ServerName,
    enabled: bool,
) -> Result<String, EditError> {
    let index = position(text, file, name)?;
    let mut document = document(text);
    let server = document["servers"].get_mut(index).and_then(Item::as_table_like_mut);
    set_flag(server.expect("it was parsed as a table"), "enabled", enabled);
    Ok(document.to_string())
}

/// Removes one of a list of tables, and the comment block right above it.
fn take(document: &mut DocumentMut, list: &[&str], index: usize) {
    let list = list.iter().fold(document.as_item_mut(), |item, key| &mut item[*key]);
    let Item::ArrayOfTables(tables) = list else {
        drop(list.as_array_mut().map(|array| array.remove(index)));
        return;
    };
    let kept = comments_before(&tables.remove(index));
    match tables.get_mut(index) {
        Some(next) => prepend(next, &kept),
        None => append(document, &kept),
    }
}

fn document(text: &str) -> DocumentMut {
    text.parse().expect("it was parsed before")
}

fn position(text: &str, file: &str, name: &ServerName) -> Result<usize, EditError> {
    let config = Config::parse(text, file)?;
    let unknown =
        || EditError::NoSuch { name: name.clone(), nearest: config.nearest(name).cloned() };
    config.servers.iter().position(|entry| entry.id == *name).ok_or_else(unknown)
}

fn push(document: &mut DocumentMut, mut server: Table) {
    let before = document.trailing().as_str().unwrap_or_default().to_owned();
    let first = document.is_empty() && before.is_empty();
    let servers = document.entry("servers").or_insert(ArrayOfTables::new().into());
    match servers {
        Item::ArrayOfTables(tables) => {
            server.decor_mut().set_prefix(before + if first { "" } else { "\n" });
            // Last in the file, wherever the other servers are.
            server.set_position(Some(isize::MAX));
            tables.push(server);
            document.set_trailing("");
        }
        inline => drop(inline.as_array_mut().map(|array| array.push(server.into_inline_table()))),
    }
}

fn table(entry: &Entry) -> Table {
    let document = toml_edit::ser::to_document(entry).expect("an entry is plain text and numbers");
    document.as_table().clone()
}

fn set_flag(table: &mut dyn TableLike, key: &str, flag: bool) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = flag.into();
            *old.decor_mut() = decor;
        }
        None if flag => {}
        None => drop(table.insert(key, value(flag))),
    }
}

/// What stands above a table, but for the block that touches it, which is its own.
fn comments_before(table: &Table) -> String {
    let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    prefix.rfind("\n\n").map_or_else(String::new, |end| prefix[..=end].to_owned())
}

fn prepend(table: &mut Table, text: &str) {
    let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let joined = text.to_owned() + prefix;
    table.decor_mut().set_prefix(joined);
}

fn append(document: &mut DocumentMut, text: &str) {
    let joined = text.to_owned() + document.trailing().as_str().unwrap_or_default();
    document.set_trailing(joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"# mine
[microvm] # the VMs
default_memory_mb = 512   # enough

# keep me

# about a
[[servers]]
id = "a"
enabled = false # for now
[servers.env]
K = "v"

# about b
[[servers]]
id = "b"

# the end
"#;

    fn name(text: &str) -> ServerName {
        text.parse().unwrap()
    }

    #[test]
    fn an_added_server_comes_last_and_nothing_else_moves() {
        let text = add(FILE, "f", &Entry::new(name("c"))).unwrap();
        let added = "\n[[servers]]\nid = \"c\"\nurl = \"stdio\"\nisolation_mode = \"microvm\"\n";
        assert_eq!(text, FILE.to_owned() + added);
    }

    #[test]
    fn the_first_server_makes_the_file() {
        let text = add("", "f", &Entry::new(name("c"))).unwrap();
        assert!(text.starts_with("[[servers]]\nid = \"c\"\n"), "{text}");
    }

    #[test]
    fn a_removed_server_takes_its_own_comment_and_tables_along() {
        let text = remove(FILE, "f", &name("a")).unwrap();
        let (start, end) = (FILE.find("\n# about a").unwrap(), FILE.find("\n# about b").unwrap());
        assert_eq!(text, FILE[..start].to_owned() + &FILE[end..]);
    }

    #[test]
    fn comments_around_the_last_server_survive_it() {
        let text = remove(FILE, "f", &name("b")).unwrap();
        assert!(text.ends_with("K = \"v\"\n\n# the end\n"), "{text}");
        let text = remove(&text, "f", &name("a")).unwrap();
        assert!(text.contains("# keep me") && text.contains("# the end"), "{text}");
    }

    #[test]
    fn disabling_and_enabling_touch_one_value() {
        let on = set_enabled(FILE, "f", &name("a"), true).unwrap();
        assert_eq!(on, FILE.replace("enabled = false # for", "enabled = true # for"));
        assert_eq!(set_enabled(&on, "f", &name("a"), false).unwrap(), FILE);
        let off = set_enabled(FILE, "f", &name("b"), false).unwrap();
        assert_eq!(off, FILE.replace("id = \"b\"\n", "id = \"b\"\nenabled = false\n"));
    }

    #[test]
    fn inline_servers_are_edited_too() {
        let file = "servers = [ { id = \"a\" } ] # mine\n";
        let text = add(file, "f", &Entry::new(name("b"))).unwrap();
        let off = set_enabled(&text, "f", &name("b"), false).unwrap();
        assert!(!Config::parse(&off, "f").unwrap().servers[1].enabled);
        let text = remove(&off, "f", &name("b")).unwrap();
        assert_eq!(Config::parse(&text, "f"), Config::parse(file, "f"));
        assert!(text.contains("# mine"));
    }

    #[test]
    fn a_server_is_added_below_tables_that_follow_the_others() {
        let file = "[[servers]]\nid = \"a\"\n[microvm]\nenabled = true\n# end\n";
        let text = add(file, "f", &Entry::new(name("b"))).unwrap();
        assert!(text.starts_with(file), "{text}");
    }

    #[test]
    fn what_is_there_is_not_added_and_what_is_not_is_not_removed() {
        assert_eq!(add(FILE, "f", &Entry::new(name("a"))), Err(EditError::Exists(name("a"))));
        let file = FILE.replace("\"b\"", "\"weather\"");
        let error = remove(&file, "f", &name("wether")).unwrap_err();
        let nearest = Some(name("weather"));
        assert_eq!(error, EditError::NoSuch { name: name("wether"), nearest });
    }

    #[test]
    fn a_broken_file_is_left_alone() {
        assert!(matches!(add("[[", "f", &Entry::new(name("c"))), Err(EditError::Config(_))));
    }
}
