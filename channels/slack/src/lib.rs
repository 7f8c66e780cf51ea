//! The Slack channel: Socket Mode and the Web API on one side, the bus on the other.
//!
//! What it promises: a message is stored before Slack is told that it arrived ([`inbound`]); a reply leaves the stream after Slack said ok
//! and is posted once ([`outbound`]); a connection that went deaf is noticed by its missing pongs ([`link`]); and what a person has to mend
//! is said in words that name the token or scope ([`trouble`]), without hammering at Slack.
//!
//! Roads not taken: a full client library (its reader waits for handlers, closes before it opens on a refresh and knows no fatal codes; see
//! `docs/adr/0006-own-socket-mode-client.md`), and streaming edits (Slack's streams live five minutes and need a recipient).

mod config;
mod event;
mod frame;
mod inbound;
mod lanes;
mod link;
mod markdown;
mod outbound;
mod people;
mod place;
mod recent;
mod socket;
mod text;
mod tls;
mod trouble;
mod web;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bus::Bus;
use proto::admin::Condition;
use proto::keys::SigningKey;
use proto::{Component, Name};
use tokio::time::sleep;

pub use config::{Config, Timing};
use event::Identity;
use inbound::Inbox;
use link::Status;
use outbound::Outbox;
use people::People;
use socket::Dialer;
use trouble::Trouble;
use web::{Introduction, Web};

/// The app manifest: what an app at api.slack.com needs, and nothing else.
const MANIFEST: &str = include_str!("../manifest.json");

/// The condition of the connections.
const SOCKET: &str = "slack socket";

/// The condition of the bot token.
const TOKEN: &str = "slack token";

/// Longest wait between two attempts to learn who we are.
const INTRODUCE_MAX: Duration = Duration::from_secs(30);

/// The app manifest as JSON.
pub fn manifest() -> serde_json::Value {
    serde_json::from_str(MANIFEST).unwrap_or_default()
}

/// Serves the channel. Returns when the configuration is sound; Slack is reached in the background, because an unreachable Slack is no
/// reason not to run, and what is wrong is told by the conditions.
///
/// # Errors
/// Everything that is wrong with configuration, tokens and keys.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    let setup = config::Setup::read(&config)?;
    let tls = tls::client_config(config.extra_ca.as_deref())?;
    let tokens = (setup.app_token, setup.bot_token);
    let plain = setup.api_url.scheme() == "http";
    let web = Web::new(setup.api_url, tls.clone(), config.timing.call(), tokens).context("the Web API client")?;
    let web = Arc::new(web);
    let name = Component::ChannelSlack.channel().unwrap_or_default();
    let dialer = Dialer { web: web.clone(), tls: Arc::new(tls), plain, patience: config.timing.open() };
    let service = Service { bus: bus.clone(), web, key: setup.origin_key, channel: name.parse()?, config };
    bus.report_vital(condition(SOCKET, false, "not connected yet".to_owned()));
    // Not `Bus::spawn`, which would cut the close frames off; it ends by `Bus::stopping`.
    tokio::spawn(service.run(dialer));
    Ok(())
}

struct Service {
    bus: Bus,
    web: Arc<Web>,
    key: SigningKey,
    channel: Name,
    config: Config,
}

impl Service {
    async fn run(self, dialer: Dialer) {
        let me = tokio::select! {
            me = self.introduce() => me,
            () = self.bus.stopping() => None,
        };
        let Some(me) = me else { return };
        let people = Arc::new(People::new(self.web.clone(), me.clone()));
        let inbox = Inbox::new(self.bus.clone(), self.key.clone(), self.channel.clone(), (me, people.clone()));
        let inbox = Arc::new(inbox);
        let outbox = Outbox::new(self.bus.clone(), self.web, people, (self.key, self.channel));
        self.bus.spawn(Arc::new(outbox).run());
        let bus = self.bus.clone();
        socket::run(
            dialer,
            (self.config.connections, self.config.timing.pace()),
            move |envelope| inbox.handle(envelope),
            move |status, strangers| bus.report_vital(health(status, strangers)),
            self.bus.stopping(),
        )
        .await;
    }

    /// Learns who we are, however long Slack takes; not against a token that Slack refuses.
    async fn introduce(&self) -> Option<Identity> {
        let mut wait = Duration::from_millis(self.config.timing.backoff_ms);
        loop {
            let error = match self.web.introduce().await {
                Ok(introduction) => return Some(self.welcome(introduction)),
                Err(error) => error,
            };
            if let Some(trouble) = error.trouble() {
                self.bus.report_vital(trouble.condition(TOKEN));
                self.bus.report_vital(trouble.condition(SOCKET));
                return None;
            }
            self.bus.report_vital(condition(TOKEN, false, error.to_string()));
            sleep(error.retry_after().unwrap_or(wait)).await;
            wait = (wait * 2).min(INTRODUCE_MAX);
        }
    }

    fn welcome(&self, introduction: Introduction) -> Identity {
        let Introduction { me, team, missing } = introduction;
        tracing::info!(team, user = me.user, "Slack knows us");
        // Not vital: without a scope some things do not work, the others do.
        let told = match missing.as_slice() {
            [] => condition(TOKEN, true, format!("{} in {team}", me.user)),
            missing => Trouble::scopes(missing).condition(TOKEN),
        };
        self.bus.report_vital(condition(TOKEN, true, String::new()));
        self.bus.report(told);
        me
    }
}

fn condition(name: &str, ok: bool, detail: String) -> Condition {
    Condition { name: name.to_owned(), ok, detail, hint: None }
}

/// The connections in words.
fn health(status: &Status, strangers: u64) -> Condition {
    if let Some(trouble) = &status.trouble {
        return trouble.condition(SOCKET);
    }
    let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs();
    let detail = match status.live {
        0 => format!("not connected, next attempt in {} s", seconds(status.waiting)),
        live => format!("{live} connections, last sign of life {} s ago", seconds(status.pulse)),
    };
    let hint = (strangers > 0).then(|| {
        format!("At the last hello Slack counted {strangers} more: if another program uses this app token, it takes some of the messages.")
    });
    Condition { hint, ..condition(SOCKET, status.live > 0, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_says_what_to_do() {
        let mut status = Status { live: 2, pulse: Some(Duration::from_secs(3)), waiting: None, trouble: None };
        assert_eq!(health(&status, 0), condition(SOCKET, true, "2 connections, last sign of life 3 s ago".to_owned()));
        assert!(health(&status, 1).hint.is_some_and(|hint| hint.contains("another program")));
        status = Status { live: 0, pulse: None, waiting: Some(Duration::from_secs(8)), trouble: None };
        assert!(!health(&status, 0).ok);
        status.trouble = Some(Trouble::link_disabled());
        assert!(health(&status, 0).hint.is_some_and(|hint| hint.contains("Socket Mode")));
    }
}
