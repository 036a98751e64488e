//! What a server offers, page by page.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::Client;
use crate::connection::Deadline;
use crate::envelope;
use crate::error::{McpError, RpcError};

/// A tool, resource, resource template or prompt.
#[derive(Debug, Clone)]
pub struct Definition {
    pub name: String,
    /// A resource's URI, or a template's pattern of them.
    pub uri: Option<String>,
    pub title: Option<String>,
    pub description: Option<String>,
    /// All of it, as the server spelled it.
    pub raw: Box<RawValue>,
}

impl Client {
    /// All pages of `tools/list`.
    pub async fn list_tools(&self, timeout: Duration) -> Result<Vec<Definition>, McpError> {
        self.list("tools/list", Deadline::after(timeout)).await
    }

    /// All pages of `resources/list`; none if the server declares no resources.
    pub async fn list_resources(&self, timeout: Duration) -> Result<Vec<Definition>, McpError> {
        self.list_declared("resources", "resources/list", timeout).await
    }

    /// All pages of `resources/templates/list`; none if the server declares no resources.
    pub async fn list_resource_templates(
        &self,
        timeout: Duration,
    ) -> Result<Vec<Definition>, McpError> {
        self.list_declared("resources", "resources/templates/list", timeout).await
    }

    /// All pages of `prompts/list`; none if the server declares no prompts.
    pub async fn list_prompts(&self, timeout: Duration) -> Result<Vec<Definition>, McpError> {
        self.list_declared("prompts", "prompts/list", timeout).await
    }

    async fn list_declared(
        &self,
        capability: &str,
        method: &str,
        timeout: Duration,
    ) -> Result<Vec<Definition>, McpError> {
        if !self.server.declares(capability) {
            return Ok(Vec::new());
        }
        self.list(method, Deadline::after(timeout)).await
    }

    /// Empty, if the server knows no such list.
    pub(super) async fn list(
        &self,
        method: &str,
        deadline: Deadline,
    ) -> Result<Vec<Definition>, McpError> {
        let mut list = List::new(self, method);
        let items = match list.fetch(deadline).await {
            Err(McpError::Rpc(error)) if error.code == RpcError::METHOD_NOT_FOUND => Vec::new(),
            fetched => fetched.map(|()| list.items)?,
        };
        if method == "tools/list" {
            self.learn(&items);
        }
        Ok(items)
    }
}

#[derive(Serialize)]
struct Cursor<'a> {
    cursor: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(
        borrow,
        alias = "tools",
        alias = "resources",
        alias = "resourceTemplates",
        alias = "prompts"
    )]
    items: &'a RawValue,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    name: String,
    #[serde(alias = "uriTemplate")]
    uri: Option<String>,
    title: Option<String>,
    description: Option<String>,
}

/// What came so far, held to the limits.
struct List<'a> {
    client: &'a Client,
    method: &'a str,
    items: Vec<Definition>,
    /// For items and pages.
    places_left: usize,
    bytes_left: usize,
}

impl<'a> List<'a> {
    fn new(client: &'a Client, method: &'a str) -> Self {
        let (places_left, bytes_left) = (client.limits.list_items, client.limits.line_bytes);
        Self { client, method, items: Vec::new(), places_left, bytes_left }
    }

    async fn fetch(&mut self, deadline: Deadline) -> Result<(), McpError> {
        let mut cursor: Option<String> = None;
        loop {
            let params = cursor.as_deref().map(|cursor| Cursor { cursor });
            let params = params.map(|params| to_raw_value(&params).expect("a string serializes"));
            let page = self.client.ask(self.method, params.as_deref(), deadline).await?;
            match self.add(&page)? {
                None => return Ok(()),
                next if next == cursor => return Err(self.broken("it repeats a cursor")),
                next => cursor = next,
            }
        }
    }

    /// Takes a page, and returns the cursor of the next.
    fn add(&mut self, page: &RawValue) -> Result<Option<String>, McpError> {
        let bytes = self.bytes_left.checked_sub(page.get().len());
        self.bytes_left = bytes.ok_or_else(|| self.too_long())?;
        let page: Page<'_> =
            serde_json::from_str(page.get()).map_err(|error| self.broken(&error.to_string()))?;
        let mut room = self.take_place();
        let mut add = |item: &RawValue| {
            room &= self.take_place();
            self.items.extend(definition(item));
            room
        };
        let added = envelope::each_element(page.items.get(), &mut add);
        if !room {
            return Err(self.too_long());
        }
        added.map_err(|error| self.broken(&error.to_string()))?;
        Ok(page.next_cursor)
    }

    fn take_place(&mut self) -> bool {
        let room = self.places_left > 0;
        self.places_left = self.places_left.saturating_sub(1);
        room
    }

    fn too_long(&self) -> McpError {
        McpError::Limit {
            what: format!("the answer to {} is too long", self.method),
            received: self.client.received(),
        }
    }

    fn broken(&self, why: &str) -> McpError {
        McpError::Protocol(format!("the result of {}: {why}", self.method))
    }
}

/// One broken definition does not hide the others.
fn definition(item: &RawValue) -> Option<Definition> {
    let head = serde_json::from_str(item.get())
        .inspect_err(|error| tracing::warn!(%error, "a definition is left out"));
    let Head { name, uri, title, description } = head.ok()?;
    Some(Definition { name, uri, title, description, raw: item.to_owned() })
}
