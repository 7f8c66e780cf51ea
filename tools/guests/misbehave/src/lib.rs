//! A tool for tests that does what no tool should. Each mode is one way to harm a host; the host must end it within
//! its limits, say clearly what happened, and go on.

use std::hint::black_box;

use serde::{Deserialize, Serialize};
use tool::Error;

/// Which harm to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    mode: Mode,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// None: the control beside the attacks.
    Behave,
    /// Never return.
    Loop,
    /// Take memory until there is none.
    Memory,
    /// Call without end.
    Stack,
    /// Answer more than the manifest's bound, but less than what the host reads at all.
    Output,
    /// Answer more than the host reads at all.
    HugeOutput,
    /// Fail with more words than the host should repeat.
    HugeError,
    /// Panic with a message.
    Panic,
    /// Execute an instruction that traps, without a word.
    Trap,
    /// Write to the log without end.
    Log,
    /// Write one log line of many megabytes.
    HugeLog,
    /// Remember a call; a second call in the same instance would see it.
    Remember,
}

/// What is left to say after a mode that returns.
#[derive(Debug, Serialize)]
pub struct Output {
    done: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    calls: u32,
}

static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn run(arguments: Arguments) -> Result<Output, Error> {
    let text = match arguments.mode {
        Mode::Behave => String::new(),
        Mode::Loop => forever(),
        Mode::Memory => everything(),
        Mode::Stack => deeper(0).to_string(),
        Mode::Output => "x".repeat(5_000),
        Mode::HugeOutput => "x".repeat(1 << 20),
        Mode::HugeError => return Err(Error::failed("x".repeat(6 << 10))),
        Mode::Panic => panics(),
        Mode::Trap => std::process::abort(),
        Mode::Log => (0..100_000).map(|_| tool::log("noise")).map(|()| "").collect(),
        Mode::HugeLog => {
            tool::log(&"x".repeat(6 << 20));
            String::new()
        }
        Mode::Remember => String::new(),
    };
    let calls = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
    Ok(Output {
        done: true,
        text,
        calls,
    })
}

fn forever() -> String {
    let mut turns = 0u64;
    while black_box(true) {
        turns = black_box(turns.wrapping_add(1));
    }
    turns.to_string()
}

fn everything() -> String {
    let mut hoard = Vec::new();
    while black_box(true) {
        hoard.push(vec![black_box(1u8); 1 << 20]);
    }
    hoard.len().to_string()
}

#[allow(unconditional_recursion, reason = "that is the attack")]
fn deeper(depth: u64) -> u64 {
    let depth = black_box(depth);
    deeper(depth + 1).wrapping_add(depth)
}

#[allow(clippy::panic, reason = "that is the attack")]
fn panics() -> String {
    panic!("misbehave was asked to panic")
}

tool::export!(run);
