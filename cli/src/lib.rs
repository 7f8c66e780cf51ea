//! The user's tool, `nachos`: talk to the platform, see what it did and why, and how it is.
//!
//! It speaks to the bus as the component `cli` and holds no more rights than that: it reads no store and no volume of a service, all
//! that it shows is an answer of the component concerned. For chat it is also the channel `cli`, which signs what its user writes.
//!
//! What comes from models, tools and other people is cleaned before it reaches a terminal ([`clean`]); what is decided about colours
//! and width is decided in [`out`]; a command that fails says what to do next ([`failure`]).

mod args;
mod audit;
mod chat;
mod clean;
mod clock;
mod failure;
mod health;
mod out;
mod policy;
mod session;
mod slack;
mod tools;
mod web;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Arguments, Command, PolicyCommand, SlackCommand};
use crate::failure::{Ending, Failure, INTERRUPTED};
use crate::out::Out;
use crate::session::Session;

/// Runs the command that the command line says; its exit code is the process's.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(until_interrupted(arguments));
            // A thread may still wait for a line of standard input; nobody waits for it.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Some(Err(error.into())),
    };
    match ended {
        None => ExitCode::from(INTERRUPTED),
        Some(Ok(ending)) => ending.into(),
        Some(Err(failure)) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Some(Err(failure)) => {
            // Nobody is left to tell if standard error is gone too.
            let _ = failure.print(&mut Out::stderr());
            ExitCode::FAILURE
        }
    }
}

/// In a container this is process 1, which no signal ends unless it listens. `None` if one came.
async fn until_interrupted(arguments: Arguments) -> Option<Result<Ending, Failure>> {
    tokio::select! {
        ended = carry_out(arguments) => Some(ended),
        stopped = interrupted() => stopped.err().map(|error| Err(error.into())),
    }
}

async fn interrupted() -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn carry_out(arguments: Arguments) -> Result<Ending, Failure> {
    let out = Out::stdout();
    let session = Session::new(arguments.config);
    match arguments.command {
        Command::Chat(args) => chat::run(session, out, args).await,
        Command::Audit(command) => audit::run(session, out, command).await,
        Command::Status(args) => health::status(session, out, args).await,
        Command::Doctor => health::doctor(session, out).await,
        Command::Tools(args) => tools::run(session, out, args).await,
        Command::Policy(PolicyCommand::Check(args)) => policy::run(session, out, args).await,
        Command::Web(command) => web::run(session, out, command).await,
        Command::Slack(SlackCommand::Manifest) => slack::manifest(out),
        Command::Version => say(out, &format!("nachos {}", env!("CARGO_PKG_VERSION"))),
        Command::Provision(what) => say(out, what.run().await?.trim_end()),
    }
}

fn say(mut out: Out, text: &str) -> Result<Ending, Failure> {
    if !text.is_empty() {
        out.line(text)?;
    }
    Ok(Ending::Done)
}
