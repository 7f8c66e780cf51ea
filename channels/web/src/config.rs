//! Settings of the web pages, read and checked once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use proto::keys::PublicKey;
use serde::Deserialize;
use url::Url;

/// Longest session: a week. Whoever reviews longer asks for a new link.
const MAX_SESSION_HOURS: u64 = 7 * 24;

/// Settings of the web pages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Under which address people open the pages. Requests for any other host are refused.
    pub public_url: String,
    /// File with the public key that signs checkpoints. It comes from provisioning and not from the audit service.
    pub checkpoint_key: PathBuf,
    /// How long a login lasts.
    pub session_hours: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 8080).into(),
            public_url: "http://127.0.0.1:8320".to_owned(),
            checkpoint_key: "/keys/checkpoint.pub".into(),
            session_hours: 12,
        }
    }
}

/// What the settings mean.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) listen: SocketAddr,
    pub(crate) site: Site,
    pub(crate) key: PublicKey,
    pub(crate) session: Duration,
}

impl Setup {
    /// Reads the key and checks everything.
    pub(crate) fn read(config: &Config) -> anyhow::Result<Self> {
        let hours = config.session_hours;
        ensure!((1..=MAX_SESSION_HOURS).contains(&hours), "session_hours must be 1 to {MAX_SESSION_HOURS}");
        let file = &config.checkpoint_key;
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let key = PublicKey::try_from(text).with_context(|| format!("{} is no public key", file.display()))?;
        let site = Site::parse(&config.public_url)?;
        Ok(Self { listen: config.listen, site, key, session: Duration::from_secs(hours * 3600) })
    }
}

/// The address under which people know the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// What browsers send as `Origin`.
    pub(crate) origin: String,
    /// What browsers send as `Host`.
    pub(crate) host: String,
    /// Whether a proxy in front speaks TLS with them.
    pub(crate) secure: bool,
}

impl Site {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let url = Url::parse(text).with_context(|| format!("public_url `{text}` is no URL"))?;
        let whole = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty();
        let (true, Some(name)) = (whole, url.host_str()) else {
            bail!("public_url must be scheme, host and port only, such as https://nachos.example.com");
        };
        let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        Ok(Self { origin: format!("{}://{host}", url.scheme()), host, secure: url.scheme() == "https" })
    }

    /// The name of the session cookie. `__Host-` makes browsers insist on TLS and on no other host having set it.
    pub(crate) fn cookie(&self) -> &'static str {
        if self.secure { "__Host-nachos" } else { "nachos" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_scheme_host_and_port() {
        let site = |text| Site::parse(text).map(|site| (site.origin, site.host, site.secure)).ok();
        let expect = |origin: &str, host: &str, secure| Some((origin.to_owned(), host.to_owned(), secure));
        assert_eq!(site("http://127.0.0.1:8320"), expect("http://127.0.0.1:8320", "127.0.0.1:8320", false));
        assert_eq!(site("https://Nachos.Example/"), expect("https://nachos.example", "nachos.example", true));
        assert_eq!(site("https://x:443"), expect("https://x", "x", true));
        for bad in ["ftp://x", "http://x/path", "http://u@x", "http://x/?q", "x"] {
            assert_eq!(site(bad), None, "{bad}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let settings = Config { session_hours: 0, ..Config::default() };
        assert!(Setup::read(&settings).unwrap_err().to_string().contains("session_hours"));
        let settings = Config { checkpoint_key: "/nowhere/at/all".into(), ..Config::default() };
        assert!(Setup::read(&settings).unwrap_err().to_string().contains("/nowhere/at/all"));
    }
}
