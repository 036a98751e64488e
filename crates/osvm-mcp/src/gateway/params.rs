//! Arguments that are said in headers, too, where a tool's schema asks for that (`x-mcp-header`).

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName};
use serde_json::Value;
use serde_json::value::RawValue;

use super::access::one;
use super::headers::decoded;
use crate::envelope::{each_element, field, fields};

/// With which the names of such headers begin.
const PREFIX: &str = "mcp-param-";
const ASKS: &str = "x-mcp-header";

/// Longest schema that is looked at, in bytes, and places in it; tools of one server that are remembered.
const LONGEST: usize = 64 << 10;
const MOST_PLACES: usize = 64;
const MOST_TOOLS: usize = 1_000;

/// Which arguments of which tools. Others have none.
#[derive(Debug, Default)]
pub(super) struct Params(BTreeMap<String, Vec<Place>>);

#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Names from the arguments on down.
    path: Vec<String>,
    header: HeaderName,
}

impl Params {
    /// Notes the tools of a list.
    pub(super) fn learn(&mut self, result: &RawValue) {
        if !result.get().contains(ASKS) {
            return;
        }
        let tools = field(Some(result), "tools").map_or("[]", RawValue::get);
        let _ = each_element(tools, &mut |tool| {
            if let Some((name, places)) = places_of(tool) {
                self.0.insert(name, places);
            }
            self.0.len() < MOST_TOOLS
        });
    }

    pub(super) fn of(&self, tool: &str) -> Vec<Place> {
        self.0.get(tool).cloned().unwrap_or_default()
    }
}

fn places_of(tool: &RawValue) -> Option<(String, Vec<Place>)> {
    let [name, schema] = fields(tool.get(), ["name", "inputSchema"]).ok()?;
    let schema = schema.filter(|schema| schema.get().len() <= LONGEST)?;
    let schema: Value = serde_json::from_str(schema.get()).ok()?;
    let mut places = Vec::new();
    find(&schema, &mut Vec::new(), &mut places);
    let name = serde_json::from_str(name?.get()).ok()?;
    (!places.is_empty()).then_some((name, places))
}

fn find(schema: &Value, path: &mut Vec<String>, places: &mut Vec<Place>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, property) in properties {
        path.push(name.clone());
        let header = property[ASKS].as_str().filter(|header| !header.is_empty());
        let header = header.and_then(|header| format!("{PREFIX}{header}").parse().ok());
        if let Some(header) = header.filter(|_| places.len() < MOST_PLACES) {
            places.push(Place { path: path.clone(), header });
        }
        find(property, path, places);
        path.pop();
    }
}

/// Whether any argument is said in a header.
pub(super) fn has_any(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PREFIX))
}

/// What of the headers differs from the arguments.
pub(super) fn misfit(
    headers: &HeaderMap,
    arguments: Option<&RawValue>,
    places: &[Place],
) -> Option<String> {
    places.iter().find_map(|Place { path, header }| {
        let mut value = arguments.map(RawValue::get);
        for name in path {
            value = value.and_then(|object| {
                let object: &RawValue = serde_json::from_str(object).ok()?;
                within(object, name)
            });
        }
        let expected = value.and_then(spelled);
        let is_there = headers.contains_key(header);
        let said = one(headers, header.as_str()).and_then(decoded);
        let fits = is_there == expected.is_some() && said == expected;
        (!fits).then(|| format!("header {header} says {said:?}, the arguments {expected:?}"))
    })
}

fn within<'a>(object: &'a RawValue, name: &str) -> Option<&'a str> {
    let values: BTreeMap<String, &RawValue> = serde_json::from_str(object.get()).ok()?;
    values.get(name).map(|value| value.get())
}

/// As a header has it: texts, numbers and truths.
fn spelled(value: &str) -> Option<String> {
    match serde_json::from_str(value).ok()? {
        Value::String(text) => Some(text),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn check(pairs: &[(&str, &str)], arguments: &Value) -> bool {
        let header = |name: &str| json!({ "type": "string", "x-mcp-header": name });
        let schema = json!({ "properties": {
            "region": header("Region"),
            "inner": { "properties": { "count": header("Count") } },
            "bad": header("no header"),
        } });
        let tools = json!({ "tools": [{ "name": "t", "inputSchema": schema }, { "name": "u" }] });
        let mut params = Params::default();
        params.learn(&to_raw_value(&tools).unwrap());
        assert!(params.of("u").is_empty());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        misfit(&headers, Some(&to_raw_value(arguments).unwrap()), &params.of("t")).is_none()
    }

    #[test]
    fn headers_say_what_the_arguments_say() {
        let both = json!({ "region": "us", "inner": { "count": 3 }, "bad": "x" });
        assert!(check(&[("mcp-param-region", "us"), ("mcp-param-count", "3")], &both));
        assert!(check(&[("Mcp-Param-Region", "=?base64?dXM=?=")], &json!({ "region": "us" })));
        assert!(check(&[], &json!({ "region": null })));
        assert!(!check(&[("mcp-param-region", "eu")], &json!({ "region": "us" })));
        assert!(!check(&[], &json!({ "region": "us" })));
        assert!(!check(&[("mcp-param-region", "us")], &json!({})));
        assert!(!check(&[("mcp-param-region", "=?base64?!?=")], &json!({ "region": "us" })));
        let twice = [("mcp-param-region", "us"), ("mcp-param-region", "us")];
        assert!(!check(&twice, &json!({ "region": "us" })));
    }
}
