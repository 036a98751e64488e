//! `POST /v1/vms/{name}/exec`: a command beside the server, its streams framed.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use osvm_fleet::agent::{Exited, Output, Session, Stdin};
use osvm_spec::ServerName;
use osvm_wire::message::{Exit, Outcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Shared;
use super::answer::no_vm;
use super::upgrade::{Stream, accept};
use crate::api::{ApiError, ExecRequest};
use crate::stream::{ExecExit, ExecFrame, MAX_PAYLOAD};

pub(super) async fn start(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    request: Request,
) -> Result<Response, ApiError> {
    let vm = daemon.fleet.get(&name).ok_or_else(|| no_vm(&name))?;
    let (upgrade, request) = accept::<ExecRequest>(request).await?;
    vm.set_used();
    let visit = vm.visit();
    let session = vm.exec(request.argv, request.user).await?;
    Ok(upgrade.then(move |stream| async move {
        let id = session.id();
        converse(stream, session).await;
        vm.close(id).await;
        drop(visit);
    }))
}

/// Carries frames until the command has ended or the client has gone.
pub(super) async fn converse(stream: Stream, session: Session) {
    let (from_client, to_client) = tokio::io::split(stream);
    let (stdin, stdout, stderr, exited) = session.into_parts();
    tokio::select! {
        () = output(to_client, stdout, stderr, exited) => {}
        () = input(from_client, stdin) => {}
    }
}

/// Ends only when the client has gone: a client that has no more input still wants the output.
async fn input(mut client: impl AsyncRead + Unpin, mut stdin: Stdin) {
    while let Ok(Some(frame)) = ExecFrame::read(&mut client).await {
        match frame {
            ExecFrame::Stdin(bytes) if bytes.is_empty() => {
                let _ = stdin.shutdown().await;
            }
            // A command that no longer reads is no reason to stop showing what it writes.
            ExecFrame::Stdin(bytes) => drop(stdin.write_all(&bytes).await),
            _ => return,
        }
    }
}

/// Everything the command writes, then how it ended.
async fn output(
    mut client: impl AsyncWrite + Unpin,
    stdout: Output,
    stderr: Output,
    exited: Exited,
) {
    let (frames, mut queue) = mpsc::channel(4);
    let all = async move {
        tokio::join!(
            forward(stdout, ExecFrame::Stdout, frames.clone()),
            forward(stderr, ExecFrame::Stderr, frames.clone()),
        );
        if let Ok(exit) = exited.await {
            let _ = frames.send(ExecFrame::Exit(exit_frame(exit))).await;
        }
    };
    let send = async {
        while let Some(frame) = queue.recv().await {
            if frame.write(&mut client).await.is_err() {
                return;
            }
        }
        let _ = client.shutdown().await;
    };
    tokio::join!(all, send);
}

async fn forward(
    mut output: Output,
    frame: fn(Vec<u8>) -> ExecFrame,
    frames: mpsc::Sender<ExecFrame>,
) {
    let mut buffer = vec![0; MAX_PAYLOAD];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        if frames.send(frame(buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

fn exit_frame(exit: Exit) -> ExecExit {
    let (code, signal) = match exit.outcome {
        Outcome::Code(code) => (Some(code), None),
        Outcome::Signal(signal) => (None, Some(signal)),
    };
    ExecExit { code, signal, oom_killed: exit.oom_killed }
}
