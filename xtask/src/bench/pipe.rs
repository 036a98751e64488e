//! An MCP client of a program's own streams, and what clients say.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

pub(super) struct Pipe {
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    calls: u64,
    /// What the server's `echo` calls the text.
    argument: &'static str,
}

impl Pipe {
    pub(super) fn open(child: &mut Child) -> Result<Self> {
        Self::with(child, "text")
    }

    /// With a server whose `echo` takes its text by that name.
    pub(super) fn with(child: &mut Child, argument: &'static str) -> Result<Self> {
        let stdin = child.stdin.take().context("its input is no pipe")?;
        let stdout = child.stdout.take().context("its output is no pipe")?;
        let lines = BufReader::new(stdout).lines();
        let mut pipe = Self { stdin, lines, calls: 0, argument };
        pipe.say(&initialize())?;
        pipe.hear()?;
        pipe.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(pipe)
    }

    pub(super) fn call(&mut self) -> Result<()> {
        self.calls += 1;
        let text = format!("call {}", self.calls);
        self.say(&call(self.calls, self.argument, &text))?;
        let answer = self.hear()?;
        ensure!(answer.contains(&text), "a call was answered by {answer}");
        Ok(())
    }

    fn say(&mut self, message: &Value) -> Result<()> {
        self.stdin.write_all(format!("{message}\n").as_bytes())?;
        Ok(self.stdin.flush()?)
    }

    /// The next answer. A server may say more than that.
    fn hear(&mut self) -> Result<String> {
        loop {
            let line = self.lines.next().context("the server ended")??;
            if !line.contains("\"method\"") {
                return Ok(line);
            }
        }
    }
}

pub(super) fn initialize() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "bench", "version": "0" },
    } })
}

pub(super) fn call(id: u64, argument: &str, text: &str) -> Value {
    let params = json!({ "name": "echo", "arguments": { argument: text } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}
