//! What a person or a pipe says.

use std::io::{self, BufRead as _, Read as _};

use anyhow::Context as _;
use proto::channel::MAX_TEXT;
use tokio::sync::mpsc;

use crate::failure::Failure;

/// All of standard input; one byte more than fits tells that it is too much.
pub(super) async fn everything() -> Result<String, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        io::stdin().take(MAX_TEXT as u64 + 1).read_to_string(&mut text).map(|_| text)
    });
    let text = read.await.context("reading standard input broke off")?;
    Ok(text.context("standard input is no text")?)
}

/// Lines as they are typed; ends with the input. A thread, for a terminal cannot be read without waiting.
pub(super) fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (typed, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if typed.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
