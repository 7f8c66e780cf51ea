//! Who may come in: one-time links, the sessions that they open, and how much failed attempts may cost. No IO and no clock: times
//! come in as arguments.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};

/// How long a link works: from the terminal into the browser, not over night.
pub(crate) const LINK_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// How long a link that works no more is remembered, so that the record can say whose it was.
const LINK_MEMORY: Duration = Duration::from_secs(60 * 60);

/// Most links that are remembered; beyond it the oldest goes.
const MAX_LINKS: usize = 64;

/// Most sessions at once; beyond it the one that ends first goes.
const MAX_SESSIONS: usize = 64;

/// Refused logins in one [`FAILURE_WINDOW`] that are answered in full, which means recorded. Nobody guesses 256 bits: this keeps a
/// stranger from filling the record.
const MAX_FAILURES: u32 = 20;

/// See [`MAX_FAILURES`].
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Longest name of a person, in characters.
const MAX_USER: usize = 100;

/// SHA-256 of a secret; the secret itself is not kept, so that a look into our memory opens nothing.
type Hashed = [u8; 32];

/// Somebody who came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// For whom the link was made.
    pub(crate) user: String,
    /// Until when.
    pub(crate) ends: Instant,
}

/// Why a link opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody made it, or too long ago to remember.
    Unknown,
    /// It was used before.
    Used(String),
    /// It was not used in time.
    Expired(String),
    /// There were too many attempts; this one is not even recorded.
    TooMany,
}

struct Link {
    user: String,
    made: Instant,
    used: bool,
}

/// Links and sessions.
pub(crate) struct Door {
    links: HashMap<Hashed, Link>,
    sessions: HashMap<Hashed, Session>,
    lifetime: Duration,
    failures: (Option<Instant>, u32),
}

impl Door {
    /// Nobody is in; sessions will last `lifetime`.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { links: HashMap::new(), sessions: HashMap::new(), lifetime, failures: (None, 0) }
    }

    /// A token for a link, good once.
    pub(crate) fn invite(&mut self, user: &str, now: Instant) -> anyhow::Result<String> {
        self.links.retain(|_, link| now.saturating_duration_since(link.made) < LINK_MEMORY);
        if self.links.len() >= MAX_LINKS
            && let Some(oldest) = self.links.iter().min_by_key(|(_, link)| link.made).map(|(token, _)| *token)
        {
            self.links.remove(&oldest);
        }
        let token = secret()?;
        let user = user.chars().take(MAX_USER).collect();
        self.links.insert(hash(&token), Link { user, made: now, used: false });
        Ok(token)
    }

    /// Uses a link up; for whom it was made.
    pub(crate) fn redeem(&mut self, token: &str, now: Instant) -> Result<String, Refused> {
        let outcome = match self.links.get_mut(&hash(token)) {
            None => Err(Refused::Unknown),
            Some(link) if link.used => Err(Refused::Used(link.user.clone())),
            Some(link) if now.saturating_duration_since(link.made) >= LINK_LIFETIME => {
                Err(Refused::Expired(link.user.clone()))
            }
            Some(link) => {
                link.used = true;
                Ok(link.user.clone())
            }
        };
        outcome.map_err(|refused| if self.may_fail(now) { refused } else { Refused::TooMany })
    }

    /// Counts a failure; whether it is still one of those that are answered in full.
    fn may_fail(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.failures;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= FAILURE_WINDOW) {
            (*since, *count) = (Some(now), 0);
        }
        *count = count.saturating_add(1);
        *count <= MAX_FAILURES
    }

    /// Opens a session; what the browser has to show for it.
    pub(crate) fn admit(&mut self, user: &str, now: Instant) -> anyhow::Result<String> {
        self.sessions.retain(|_, session| session.ends > now);
        if self.sessions.len() >= MAX_SESSIONS
            && let Some(first) = self.sessions.iter().min_by_key(|(_, session)| session.ends).map(|(token, _)| *token)
        {
            self.sessions.remove(&first);
        }
        let token = secret()?;
        self.sessions.insert(hash(&token), Session { user: user.to_owned(), ends: now + self.lifetime });
        Ok(token)
    }

    /// The session of a cookie.
    pub(crate) fn session(&self, token: &str, now: Instant) -> Option<Session> {
        self.sessions.get(&hash(token)).filter(|session| session.ends > now).cloned()
    }

    /// Ends a session.
    pub(crate) fn dismiss(&mut self, token: &str) {
        self.sessions.remove(&hash(token));
    }

    /// How long a session lasts.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

/// 256 random bits.
fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).context("the system gives no random bytes")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Looking a hash up leaks nothing about the secret by its timing.
fn hash(token: &str) -> Hashed {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> (Door, Instant) {
        (Door::new(Duration::from_secs(3600)), Instant::now())
    }

    #[test]
    fn a_link_works_once_and_for_five_minutes() {
        let (mut door, now) = door();
        let token = door.invite("ann", now).unwrap();
        assert_eq!(token.len(), 43, "256 bits in base64url");
        assert_eq!(door.redeem(&token, now), Ok("ann".to_owned()));
        assert_eq!(door.redeem(&token, now), Err(Refused::Used("ann".to_owned())));
        let late = door.invite("bob", now).unwrap();
        assert_eq!(door.redeem(&late, now + LINK_LIFETIME), Err(Refused::Expired("bob".to_owned())));
        assert_eq!(door.redeem("guess", now), Err(Refused::Unknown));
    }

    #[test]
    fn failures_are_answered_in_full_so_many_times_a_minute_and_a_good_link_always_works() {
        let (mut door, now) = door();
        let token = door.invite("ann", now).unwrap();
        for _ in 0..MAX_FAILURES {
            assert_eq!(door.redeem("guess", now), Err(Refused::Unknown));
        }
        assert_eq!(door.redeem("guess", now), Err(Refused::TooMany));
        assert_eq!(door.redeem(&token, now), Ok("ann".to_owned()));
        assert_eq!(door.redeem("guess", now + FAILURE_WINDOW), Err(Refused::Unknown));
    }

    #[test]
    fn a_session_ends_by_time_and_by_logout() {
        let (mut door, now) = door();
        let cookie = door.admit("ann", now).unwrap();
        assert_eq!(door.session(&cookie, now).unwrap().user, "ann");
        assert_eq!(door.session(&cookie, now + Duration::from_secs(3600)), None);
        assert_eq!(door.session("other", now), None);
        door.dismiss(&cookie);
        assert_eq!(door.session(&cookie, now), None);
    }

    #[test]
    fn links_and_sessions_are_bounded_and_the_oldest_goes() {
        let (mut door, now) = door();
        let at = |n: usize| now + Duration::from_millis(n as u64);
        let links: Vec<_> = (0..=MAX_LINKS).map(|n| door.invite("ann", at(n)).unwrap()).collect();
        assert_eq!(door.links.len(), MAX_LINKS);
        assert_eq!(door.redeem(&links[0], at(99)), Err(Refused::Unknown));
        assert!(door.redeem(&links[1], at(99)).is_ok());
        let cookies: Vec<_> = (0..=MAX_SESSIONS).map(|n| door.admit("ann", at(n)).unwrap()).collect();
        assert_eq!(door.sessions.len(), MAX_SESSIONS);
        assert!(door.session(&cookies[0], now).is_none() && door.session(&cookies[1], now).is_some());
    }

    #[test]
    fn secrets_are_kept_as_hashes_only() {
        let (mut door, now) = door();
        let token = door.invite("ann", now).unwrap();
        assert!(door.links.contains_key(&hash(&token)));
        assert_ne!(hash(&token).to_vec(), URL_SAFE_NO_PAD.decode(&token).unwrap());
    }
}
