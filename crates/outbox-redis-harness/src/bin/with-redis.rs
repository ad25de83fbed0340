//! Runs a command with a Redis server beside it that its tests share, and ends as the command does.
#![allow(clippy::print_stderr, reason = "it says where its server comes from")]

use std::process::ExitCode;

use outbox_redis_harness::{BoxError, Shared, URL_VARIABLE};
use tokio::process::Command;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("with-redis: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode, BoxError> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or("say which command to run")?;
    let shared = Shared::start().await?;
    eprintln!("with-redis: tests share {}", shared.source());
    let mut command = Command::new(program);
    command.args(words).env(URL_VARIABLE, shared.url());
    let status = tokio::select! {
        status = command.status() => status?,
        // The command has the signal, too; the server still has to go.
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::FAILURE),
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
