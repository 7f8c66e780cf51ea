//! Syslog: RFC 5424 messages with octet counting, over TLS (RFC 5425) or plain TCP (RFC 6587).
//!
//! Syslog knows no acknowledgement. A batch counts as taken when it was written and flushed and the collector has not closed the
//! connection; what was on its way when a connection broke may be lost there, so the whole batch is sent again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Config, Format, Syslog};
use crate::send::{Item, Refused};
use crate::tls;

/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a batch may take to be written.
const WRITE: Duration = Duration::from_secs(30);

/// Facility "log audit" (13), times eight.
const FACILITY: u64 = 13 * 8;

/// Severities of RFC 5424.
const WARNING: u64 = 4;
const INFORMATIONAL: u64 = 6;

/// The enterprise number in structured data: 32473 is reserved for documentation (RFC 5612), until there is one of our own.
const ENTERPRISE: u32 = 32473;

/// Anything that bytes travel over.
trait Line: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Line for T {}

/// A collector, and the connection to it while there is one.
pub(crate) struct Collector {
    settings: Syslog,
    format: Format,
    tls: Arc<ClientConfig>,
    line: Option<Box<dyn Line>>,
}

impl Clone for Collector {
    /// With a connection of its own.
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), format: self.format, tls: self.tls.clone(), line: None }
    }
}

impl Collector {
    pub(crate) fn new(settings: &Syslog, config: &Config) -> anyhow::Result<Self> {
        let tls = Arc::new(tls::client(config.ca_bundle.as_deref())?);
        Ok(Self { settings: settings.clone(), format: config.format, tls, line: None })
    }

    pub(crate) fn address(&self) -> &str {
        &self.settings.address
    }

    pub(crate) async fn send(&mut self, items: &[Item]) -> Result<(), Refused> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.connect().await?,
        };
        let mut bytes = Vec::new();
        for item in items {
            frame(&mut bytes, &message(item, self.format, &self.settings.hostname));
        }
        let written = timeout(WRITE, async {
            line.write_all(&bytes).await?;
            line.flush().await
        });
        written.await.map_err(|_| later("it reads too slowly"))?.map_err(|error| later(&error.to_string()))?;
        still_open(&mut line).await?;
        self.line = Some(line);
        Ok(())
    }

    async fn connect(&self) -> Result<Box<dyn Line>, Refused> {
        let address = &self.settings.address;
        let opened = timeout(CONNECT, self.open()).await.map_err(|_| later("it does not answer"))?;
        opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                Refused::Settings(format!("{address}: {error}"))
            }
            _ => later(&error.to_string()),
        })
    }

    async fn open(&self) -> std::io::Result<Box<dyn Line>> {
        let stream = TcpStream::connect(&self.settings.address).await?;
        stream.set_nodelay(true)?;
        if !self.settings.tls {
            return Ok(Box::new(stream));
        }
        let host = self.settings.address.rsplit_once(':').map_or(self.settings.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(host).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(TlsConnector::from(self.tls.clone()).connect(name, stream).await?))
    }
}

/// A collector says nothing; if it closed the connection, what was written may have gone nowhere.
async fn still_open(line: &mut Box<dyn Line>) -> Result<(), Refused> {
    let mut byte = [0];
    match timeout(Duration::from_millis(1), line.read(&mut byte)).await {
        Err(_) => Ok(()),
        Ok(Ok(0)) => Err(later("it closed the connection")),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(later(&error.to_string())),
    }
}

fn later(why: &str) -> Refused {
    Refused::Later(why.to_owned(), None)
}

/// Octet counting (RFC 5425 section 4.3): the length, a blank, the message.
fn frame(to: &mut Vec<u8>, message: &str) {
    to.extend_from_slice(format!("{} ", message.len()).as_bytes());
    to.extend_from_slice(message.as_bytes());
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [SD] MSG` (RFC 5424 section 6).
fn message(item: &Item, format: Format, hostname: &str) -> String {
    let json = item.to_json(format);
    let (app, id, time, data) = match item {
        Item::Checkpoint { at, .. } => ("audit".to_owned(), "checkpoint".to_owned(), *at, "-".to_owned()),
        Item::Record(record) => {
            let body: Value = serde_json::from_slice(record.body.as_bytes()).unwrap_or_default();
            let kind = body.get("type").and_then(Value::as_str).unwrap_or("unreadable");
            let component = record.subject.rsplit('.').next().unwrap_or_default();
            let time = Timestamp::from_nanosecond(i128::from(record.time_ns)).unwrap_or_default();
            let data = format!("[nachos@{ENTERPRISE} seq=\"{}\" type=\"{}\"]", record.seq, escaped(kind));
            (token(component, 48), token(kind, 32), time, data)
        }
    };
    let hostname = token(hostname, 255);
    format!("<{}>1 {} {hostname} {app} - {id} {data} {json}", FACILITY + severity(item), micros(time))
}

/// RFC 5424 allows six digits of a second's fraction.
fn micros(time: Timestamp) -> String {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or_default().to_string()
}

fn severity(item: &Item) -> u64 {
    let Item::Record(record) = item else { return INFORMATIONAL };
    let facts = ledger::facts::Facts::read(record.body.as_bytes());
    let well = facts.outcome.as_deref().is_none_or(|outcome| ["allow", "ok", "answered"].contains(&outcome));
    if well { INFORMATIONAL } else { WARNING }
}

/// Printable ASCII without blanks, as header fields must be; `-` if nothing is left.
fn token(text: &str, most: usize) -> String {
    let clean: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if clean.is_empty() { "-".to_owned() } else { clean }
}

/// A parameter's value: `"`, `\` and `]` are escaped (RFC 5424 section 6.3.3).
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if ['"', '\\', ']'].contains(&c) { vec!['\\', c] } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use proto::seal::{Body, RawRecord};

    use super::*;

    fn record(body: &str) -> Item {
        let body = Body::new(body.as_bytes().to_vec());
        let subject = "nachos.audit.log.policy".to_owned();
        Item::Record(RawRecord { seq: 7, time_ns: 1_700_000_000_123_456_789, subject, body })
    }

    #[test]
    fn a_message_is_what_the_rfc_says() {
        let item = record(r#"{"type":"policy.decided","data":{"outcome":"deny"}}"#);
        let text = message(&item, Format::CloudEvents, "my host");
        let head = "<108>1 2023-11-14T22:13:20.123456Z myhost policy - policy.decided [nachos@32473 seq=\"7\" type=\"policy.decided\"] {";
        assert!(text.starts_with(head), "{text}");
        let mut bytes = Vec::new();
        frame(&mut bytes, &text);
        assert!(bytes.starts_with(format!("{} <108>1 ", text.len()).as_bytes()));
    }

    #[test]
    fn a_hostile_type_stays_inside_its_field() {
        let item = record(r#"{"type":"a\"] [x y=\"1\n<0>1 forged","data":{}}"#);
        let text = message(&item, Format::CloudEvents, "h");
        let header: Vec<&str> = text.splitn(7, ' ').collect();
        assert_eq!(header[5], "a\"][xy=\"1<0>1forged");
        assert!(text.contains(r#"type="a\"\] [x y=\"1"#), "{text}");
    }

    #[test]
    fn a_checkpoint_is_a_message_of_its_own() {
        let item = Item::Checkpoint { note: "n\n".into(), at: Timestamp::UNIX_EPOCH };
        let text = message(&item, Format::Ocsf, "h");
        assert_eq!(text, "<110>1 1970-01-01T00:00:00Z h audit - checkpoint - {\"checkpoint\":\"n\\n\"}");
    }
}
