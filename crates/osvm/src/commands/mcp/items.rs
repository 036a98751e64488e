//! What a server lists: asked for, and shown as a table or as the server wrote it.

use osvm_daemon::api::{ListRequest, Listing};
use osvm_daemon::client::Client;
use osvm_spec::ServerName;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::CliError;
use crate::table::{Side::Left, Table};
use crate::{daemon, environment, images, output, secrets};

/// The whole of a command that lists one kind of thing.
pub(super) fn show(
    name: &ServerName,
    what: Listing,
    heading: &str,
    json: bool,
) -> Result<(), CliError> {
    images::ensure(name, &environment::overrides()?)?;
    let items = daemon::with(async |client| ask(&client, name, what).await)?;
    match json {
        true => output::json(&items),
        false => output::text(&table(heading, &items)?.to_string()),
    }
}

/// Everything of one kind, starting the server's VM when none runs.
pub(super) async fn ask(
    client: &Client,
    name: &ServerName,
    what: Listing,
) -> Result<Vec<Box<RawValue>>, CliError> {
    let secrets = secrets::of(name, &[])?;
    let request = ListRequest { what, overrides: environment::overrides()?, secrets };
    Ok(client.list(name, &request).await?.items)
}

/// The part of a tool, a resource or a prompt that a table shows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(default)]
    name: String,
    #[serde(alias = "uriTemplate")]
    uri: Option<String>,
    #[serde(default)]
    description: Option<String>,
}

/// Two columns: what an item is called by, and the first line of what it says about itself.
pub(super) fn table(heading: &str, items: &[Box<RawValue>]) -> Result<Table, CliError> {
    let mut table = Table::new(&[(heading, Left), ("DESCRIPTION", Left)]);
    for item in items {
        let item: Item = serde_json::from_str(item.get()).map_err(|error| {
            CliError::failed(format!("the server's list can't be read: {error}"))
        })?;
        table.row(row(item));
    }
    Ok(table)
}

fn row(item: Item) -> Vec<String> {
    let description = item.description.unwrap_or_default();
    let line = description.trim().lines().next().unwrap_or_default();
    vec![item.uri.unwrap_or(item.name), shortened(line)]
}

const WIDTH: usize = 100;

fn shortened(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn tools_and_resources_show_what_they_are_called_by() {
        let long = "x".repeat(200);
        let items = [
            raw(r#"{"name":"add","description":"Adds.\nTwo numbers.","inputSchema":{}}"#),
            raw(r#"{"name":"n","uri":"file:///a"}"#),
            raw(r#"{"name":"n","uriTemplate":"file:///{x}","description":null}"#),
            raw(&format!(r#"{{"name":"long","description":"{long}"}}"#)),
        ];
        let shown = table("NAME", &items).unwrap().to_string();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[1], "add          Adds.");
        assert_eq!(lines[2..4], ["file:///a", "file:///{x}"]);
        assert_eq!(lines[4].chars().count(), "file:///{x}  ".len() + WIDTH + 1);
    }

    #[test]
    fn an_item_that_is_no_object_is_an_error() {
        assert!(table("NAME", &[raw("3")]).is_err());
    }
}
