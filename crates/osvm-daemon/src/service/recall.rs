//! `POST /v1/recall`: what many servers answer without being there, and without a session with any of them.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use futures::stream::{self, StreamExt, TryStreamExt};
use osvm_mcp::{Guard, OnBehalf};
use osvm_spec::ServerName;
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;

use super::answer::{self, Answer};
use super::between::Between;
use super::glance::Glance;
use super::{Daemon, Shared};
use crate::api::{ApiError, RecallAnswer, RecallRequest, Recalled, RunRequest};
use crate::audit::Way;

/// Servers that are looked at one after the other, beside others. What it takes is reading files.
const TOGETHER: usize = 16;

pub(super) async fn recall(
    State(daemon): Shared,
    Json(request): Json<RecallRequest>,
) -> Answer<RecallAnswer> {
    let RecallRequest { lines, servers } = request;
    let question = Arc::new(Question { glance: daemon.glance()?, lines });
    let some = |servers: Vec<Recalled>| {
        let (daemon, question) = (Arc::clone(&daemon), Arc::clone(&question));
        spawn_blocking(move || daemon.recalled_of(servers, &question))
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let recalled = stream::iter(servers).chunks(TOGETHER).map(some).buffer_unordered(processors);
    let recalled: Vec<_> =
        recalled.try_collect().await.map_err(|error| ApiError::failed(&error))?;
    answer::json(RecallAnswer { answers: recalled.into_iter().flatten().collect() })
}

/// What is asked of each server.
struct Question {
    glance: Glance,
    lines: Vec<Box<RawValue>>,
}

impl Daemon {
    fn recalled_of(
        &self,
        servers: Vec<Recalled>,
        question: &Question,
    ) -> Vec<(ServerName, Box<RawValue>)> {
        let recalled = |server: Recalled| {
            let answer = self.recalled(&server, question)?;
            Some((server.name, answer))
        };
        servers.into_iter().filter_map(recalled).collect()
    }

    /// The answer to the last of the lines, as a session with the server would have it; none where the server would have
    /// to be started for one of them, or where a session would say why there is none. Reads files.
    fn recalled(&self, server: &Recalled, question: &Question) -> Option<Box<RawValue>> {
        let (Recalled { name, request }, Question { glance, lines }) = (server, question);
        let manifest = self.manifest(glance, name, request).ok()??.read();
        if manifest.is_empty() {
            return None;
        }
        let RunRequest { overrides, secrets, .. } = request;
        let watch = self.watch(&glance.config, name, overrides, secrets, Way::Run).ok()?;
        let whom = request.on_behalf.as_ref();
        let mut guard = watch.for_whom(whom).guard();
        let mut between = Between::new(manifest);
        let token = whom.map(OnBehalf::holder).unwrap_or_default();
        let mut said = Vec::new();
        for line in lines {
            said = told(&mut guard, &mut between, line.get(), token)?;
        }
        serde_json::from_slice(&said).ok()
    }
}

/// What the client is told at last for a line of its.
fn told(guard: &mut Guard, between: &mut Between, line: &str, token: &str) -> Option<Vec<u8>> {
    let line = [line.as_bytes(), b"\n"].concat();
    let passage = guard.of_client(&line, Instant::now());
    if !passage.to_client.is_empty() {
        return None;
    }
    let mut answers = between.recalled(passage.to_server.trim_ascii_end(), token)?;
    if guard.passes_answers() {
        // To learn from lists takes reading them, and no tool is called here.
        return Some(answers.pop().unwrap_or_default());
    }
    let answers = answers.iter().map(|answer| guard.of_server(answer, Instant::now()).to_client);
    Some(answers.last().unwrap_or_default().into_owned())
}
