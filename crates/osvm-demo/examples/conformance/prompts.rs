//! The prompts. Their definitions and messages, with `{ARGUMENT}` in them, are in `prompts.json`.

use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, JsonObject, Prompt};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Known {
    definition: Prompt,
    messages: Value,
}

fn all() -> Vec<Known> {
    serde_json::from_str(include_str!("prompts.json")).expect("a test reads the same file")
}

pub(crate) fn list() -> Vec<Prompt> {
    all().into_iter().map(|known| known.definition).collect()
}

pub(crate) fn get(name: &str, arguments: &JsonObject) -> Result<GetPromptResult, ErrorData> {
    let known = all().into_iter().find(|known| known.definition.name == name);
    let Some(Known { definition, mut messages }) = known else {
        return Err(ErrorData::invalid_params(format!("unknown prompt: {name}"), None));
    };
    for argument in definition.arguments.into_iter().flatten() {
        let required = argument.required == Some(true);
        if required && !arguments.contains_key(&argument.name) {
            return Err(ErrorData::invalid_params(format!("{} is missing", argument.name), None));
        }
    }
    fill(&mut messages, arguments);
    serde_json::from_value(json!({ "resultType": "complete", "messages": messages }))
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// Puts the arguments where their names stand in a text.
fn fill(value: &mut Value, arguments: &JsonObject) {
    match value {
        Value::String(text) => {
            for (name, argument) in arguments {
                let argument = argument.as_str().map_or_else(|| argument.to_string(), Into::into);
                *text = text.replace(&format!("{{{name}}}"), &argument);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, arguments)),
        Value::Object(values) => values.values_mut().for_each(|value| fill(value, arguments)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
