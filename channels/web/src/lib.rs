//! The web pages: the timeline of the record, for people.
//!
//! Whoever wants in asks `nachos web login` for a link that works once ([`door`]); what every request must pass stands in one place
//! ([`guard`]). Pages are made here, whole, and work without a script; the script adds the live stream ([`feed`]), local times and keys.
//! Whether a record is what was sealed is computed here from proofs ([`proof`]), about exactly what is shown ([`shown`]). Every text is
//! taken for an attack until it is escaped ([`visible`]).
//!
//! Roads not taken: a single-page application (a second program that could lie about what the first one said, and a door for scripts); one
//! tail per page ([`news`] says why); sessions in a store (whoever restarts the service asks for a new link).

mod assets;
mod config;
mod door;
mod feed;
mod filter;
mod guard;
mod news;
mod page;
mod proof;
mod routes;
mod server;
mod shown;
mod visible;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use bus::{Bus, Call};
use jiff::Timestamp;
use proto::seal::{LoginLink, LoginRequest};
use proto::{Refusal, RefusalCode};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use config::Config;
use config::{Setup, Site};
use door::{Door, LINK_LIFETIME, Session};
use news::News;
use proof::Proofs;

/// What all requests share.
struct App {
    bus: Bus,
    site: Site,
    door: Mutex<Door>,
    proofs: Proofs,
    news: News,
    streams: Arc<Semaphore>,
}

impl App {
    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, cookie: &str) -> Option<Session> {
        self.door().session(cookie, Instant::now())
    }

    /// Makes a link that works once.
    fn invite(&self, user: &str) -> anyhow::Result<LoginLink> {
        let token = self.door().invite(user, Instant::now())?;
        let lifetime = jiff::SignedDuration::try_from(LINK_LIFETIME)?;
        let url = format!("{}/login?token={token}", self.site.origin);
        Ok(LoginLink { url, expires: Timestamp::now().checked_add(lifetime)? })
    }
}

/// Starts to serve.
///
/// # Errors
/// The settings are wrong, or the address cannot be listened on.
pub fn serve(bus: Bus, config: Config) -> bus::Serving {
    Box::pin(start(bus, config))
}

async fn start(bus: Bus, config: Config) -> anyhow::Result<()> {
    let setup = Setup::read(&config)?;
    let app = Arc::new(App {
        bus: bus.clone(),
        site: setup.site,
        door: Mutex::new(Door::new(setup.session)),
        proofs: Proofs::new(setup.key),
        news: News::new(),
        streams: Arc::new(Semaphore::new(feed::MAX_STREAMS)),
    });
    let listener =
        TcpListener::bind(setup.listen).await.with_context(|| format!("cannot listen on {}", setup.listen))?;
    let doors = app.clone();
    bus.serve(move |call: Call<LoginRequest>| {
        let link = doors.invite(&call.body.user);
        async move {
            link.map_err(|error| {
                tracing::error!(error = format!("{error:#}"), "no link could be made");
                Refusal::new(RefusalCode::Internal, "no link could be made; `nachos logs channel-web` says more")
            })
        }
    })
    .await?;
    let news = app.clone();
    bus.spawn(async move { news.news.follow(&news.bus).await });
    bus.spawn(server::run(bus.clone(), listener, routes::all(app)));
    Ok(())
}
