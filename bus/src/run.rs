//! The part that every `main` shares: read the configuration, connect, serve, drain, exit code.

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Context as _;
use jiff::Timestamp;
use proto::Component;
use proto::audit::{Fact, Scope};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{self, CommonConfig, ConfigError, LogConfig};
use crate::connection::Bus;
use crate::health;

/// Every component has the workspace's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `EX_CONFIG` of sysexits.h: the configuration is wrong, restarting does not help.
const EXIT_CONFIG: u8 = 78;

/// What the command line says.
struct Arguments {
    health: bool,
    version: bool,
    config: PathBuf,
}

/// A service that starts. Boxed, so that its code is compiled once, in its own crate, and not again in every binary and test that
/// runs it: an `async fn` is compiled where it is awaited.
pub type Serving = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Runs a component until it is told to stop. `serve` registers what the component answers and returns when it is ready.
pub fn run<C: DeserializeOwned>(component: Component, serve: fn(Bus, C) -> Serving) -> ExitCode {
    let arguments = match arguments(component, std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => return fail(component, &anyhow::anyhow!(error), EXIT_CONFIG),
    };
    if arguments.version {
        return say(&format!("{component} {VERSION}"));
    }
    match config::read::<C>(&arguments.config) {
        Err(error) => fail(component, &config_error(error), EXIT_CONFIG),
        Ok((common, _)) if arguments.health => match health::check(&common.health.file, Timestamp::now()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => fail(component, &anyhow::anyhow!(why), 1),
        },
        Ok((common, own)) => match start(component, &common, |bus| serve(bus, own)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(component, &error, 1),
        },
    }
}

fn start(component: Component, common: &CommonConfig, serve: impl FnOnce(Bus) -> Serving) -> anyhow::Result<()> {
    log_to_stderr(&common.log).context("cannot read the log filter")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let started = Timestamp::now();
        let bus = Bus::connect(component, &common.bus, common.audit).await?;
        bus.announce();
        serve(bus.clone()).await.with_context(|| format!("{component} cannot start"))?;
        bus.serve_discovery(VERSION, started).await?;
        bus.serve_health(VERSION, started, common.health.file.clone()).await?;
        tracing::info!(%component, version = VERSION, "ready");
        until_told_to_stop().await?;
        tracing::info!("stopping");
        bus.drain().await;
        Ok(())
    })
}

impl Bus {
    /// Records that the component came up; in the background, for a component must come up to say what is wrong.
    fn announce(&self) {
        let bus = self.clone();
        self.spawn(async move {
            let fact = Fact::ComponentStarted { version: VERSION.to_owned() };
            let recorded = bus.record(None, Scope::default(), fact).await;
            bus.report_recording(recorded.as_ref().map(|_| ()));
        });
    }
}

async fn until_told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn log_to_stderr(log: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if log.json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}

fn arguments(component: Component, mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut found = Arguments { health: false, version: false, config: format!("/etc/nachos/{component}.toml").into() };
    while let Some(word) = words.next() {
        match word.as_str() {
            "health" => found.health = true,
            "--version" => found.version = true,
            "--config" => found.config = words.next().ok_or("--config needs a file")?.into(),
            other => {
                return Err(format!(
                    "unknown argument `{other}`; usage: {component} [health] [--config FILE] [--version]"
                ));
            }
        }
    }
    Ok(found)
}

fn config_error(error: ConfigError) -> anyhow::Error {
    anyhow::Error::new(error).context("the configuration is not usable")
}

/// The one place where a service prints an error chain.
fn fail(component: Component, error: &anyhow::Error, code: u8) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{component}: {error:#}");
    ExitCode::from(code)
}

fn say(text: &str) -> ExitCode {
    use std::io::Write as _;
    let written = writeln!(std::io::stdout(), "{text}");
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_nobody_knows_are_refused() {
        let parse = |words: &[&str]| arguments(Component::Gateway, words.iter().map(|word| (*word).to_owned()));
        assert!(parse(&["health"]).unwrap().health);
        assert_eq!(parse(&[]).unwrap().config, PathBuf::from("/etc/nachos/gateway.toml"));
        assert_eq!(parse(&["--config", "x.toml"]).unwrap().config, PathBuf::from("x.toml"));
        assert!(parse(&["--confg", "x"]).is_err() && parse(&["--config"]).is_err());
    }
}
