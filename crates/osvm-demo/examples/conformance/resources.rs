//! The resources. Their definitions and contents are in `resources.json`.

use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceTemplate};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The one that changes.
pub(crate) const WATCHED: &str = "test://watched-resource";

#[derive(Deserialize)]
struct Known {
    definition: Resource,
    content: Map<String, Value>,
}

fn all() -> Vec<Known> {
    serde_json::from_str(include_str!("resources.json")).expect("a test reads the same file")
}

pub(crate) fn list() -> Vec<Resource> {
    all().into_iter().map(|known| known.definition).collect()
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let template = json!([{
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "Data of an id.",
        "mimeType": "application/json",
    }]);
    serde_json::from_value(template).expect("a template")
}

pub(crate) fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let known = all().into_iter().find(|known| known.definition.uri == uri);
    let (kind, content) = match known {
        Some(known) => (known.definition.mime_type, known.content),
        None => (Some("application/json".to_owned()), of_template(uri)?),
    };
    let mut content = content;
    content.insert("uri".to_owned(), uri.into());
    content.insert("mimeType".to_owned(), kind.into());
    serde_json::from_value(json!({ "resultType": "complete", "contents": [content] }))
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn of_template(uri: &str) -> Result<Map<String, Value>, ErrorData> {
    let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
    let id = id.filter(|id| !id.is_empty() && !id.contains('/'));
    let id = id.ok_or_else(|| {
        ErrorData::resource_not_found("resource not found", Some(json!({ "uri": uri })))
    })?;
    let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
    Ok(Map::from_iter([("text".to_owned(), data.to_string().into())]))
}
