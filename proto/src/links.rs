//! Who may say what to whom: the one table. The server's permissions are rendered from it, so what is not a line here does not get
//! through.
//!
//! A subject is a template: `{from}` and `{to}` stand for the component on that end, `{from.channel}`, `{to.channel}` and
//! `{to.family}` for what it speaks for. A caller's own name in the subject is what makes its identity something that the server
//! vouches for.

use std::collections::BTreeSet;

use crate::name::Component::{self, *};
use crate::{audit, channel, object};

/// How messages travel on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Core request; the answer, or a stream of chunks, goes to the caller's inbox. Servers share the work in queue group `q`.
    Request,
    /// Core event, may get lost.
    Event,
    /// Published into a stream. `reader` names the durable consumer of each receiver, made by `provision`.
    Stream {
        /// The stream.
        stream: &'static str,
        /// The reader's durable consumer; none where nobody consumes.
        reader: Option<Reader>,
    },
}

/// How a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// By a durable consumer that has the receiver's name.
    Consumer,
    /// By direct get of one subject (NATS ADR-31).
    DirectGet,
    /// Message by message, by number (`STREAM.MSG.GET`), and the stream's state (`STREAM.INFO`): reading leaves no trace in the stream.
    Lookup,
}

/// One line: from whom to whom, on which subject.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Template of the subject.
    pub subject: &'static str,
    /// Who publishes.
    pub from: &'static [Component],
    /// Who serves, subscribes or reads.
    pub to: &'static [Component],
    /// How.
    pub kind: Kind,
}

/// The queue group of all servers (NATS ADR-32's default).
pub const QUEUE: &str = "q";

const EVERYBODY: &[Component] = &Component::ALL;
const CHANNELS: &[Component] = &[ChannelSlack, Cli];
const RUNNERS: &[Component] = &[ToolsWasm];
const READERS: &[Component] = &[Cli, ChannelWeb];
const VERIFIERS: &[Component] = &[Audit, Cli];

const fn consumed(stream: &'static str) -> Kind {
    Kind::Stream { stream, reader: Some(Reader::Consumer) }
}

const fn looked_up(stream: &'static str) -> Kind {
    Kind::Stream { stream, reader: Some(Reader::Lookup) }
}

/// The table.
pub const LINKS: &[Link] = &[
    // Messages in and out.
    Link {
        subject: "nachos.channel.{from.channel}.inbound",
        from: CHANNELS,
        to: &[Gateway],
        kind: consumed(channel::STREAM),
    },
    Link {
        subject: "nachos.channel.{to.channel}.outbound.*",
        from: &[Gateway],
        to: CHANNELS,
        kind: consumed(channel::STREAM),
    },
    Link { subject: "nachos.channel.{to.channel}.delta.*", from: &[Gateway], to: CHANNELS, kind: Kind::Event },
    // Decisions. Who holds a resource asks about it: the model is asked for by llm-proxy, not by the gateway.
    Link { subject: "nachos.policy.check.{from}", from: &[Gateway, LlmProxy], to: &[Policy], kind: Kind::Request },
    Link { subject: "nachos.policy.permissible.{from}", from: &[Gateway], to: &[Policy], kind: Kind::Request },
    Link { subject: "nachos.policy.explain.{from}", from: &[Cli], to: &[Policy], kind: Kind::Request },
    // Models and tools.
    Link { subject: "nachos.llm.request", from: &[Gateway], to: &[LlmProxy], kind: Kind::Request },
    Link { subject: "nachos.tool.{to.family}.request", from: &[Gateway], to: RUNNERS, kind: Kind::Request },
    Link { subject: "nachos.tool.{to.family}.catalog", from: &[Gateway, Cli], to: RUNNERS, kind: Kind::Request },
    Link {
        subject: "nachos.object.{from}.*",
        from: RUNNERS,
        to: &[Gateway],
        kind: Kind::Stream { stream: object::STREAM, reader: Some(Reader::DirectGet) },
    },
    // The record.
    Link { subject: "nachos.audit.log.{from}", from: EVERYBODY, to: &[Audit], kind: consumed(audit::STREAM) },
    Link { subject: "nachos.audit.log.{from}", from: EVERYBODY, to: &[Forwarder], kind: consumed(audit::STREAM) },
    // Who verifies reads the stream itself and takes nobody's word for what is in it.
    Link { subject: "nachos.audit.log.{from}", from: EVERYBODY, to: VERIFIERS, kind: looked_up(audit::STREAM) },
    // Texts and salts, into the store where they can be erased.
    Link { subject: "nachos.audit.content.{from}", from: EVERYBODY, to: &[Audit], kind: consumed(audit::CONTENTS) },
    Link { subject: "nachos.audit.checkpoint", from: &[Audit], to: &[Forwarder], kind: consumed(audit::CHECKPOINTS) },
    Link { subject: "nachos.audit.checkpoint", from: &[Audit], to: VERIFIERS, kind: looked_up(audit::CHECKPOINTS) },
    Link { subject: "nachos.audit.query", from: READERS, to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.tail", from: READERS, to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.prove", from: READERS, to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.seal", from: READERS, to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.frontier", from: &[Cli], to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.inspect", from: &[Cli], to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.contents", from: &[Cli], to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.erase", from: &[Cli], to: &[Audit], kind: Kind::Request },
    Link { subject: "nachos.audit.archive", from: &[Cli], to: &[Audit], kind: Kind::Request },
    // The web pages.
    Link { subject: "nachos.web.login", from: &[Cli], to: &[ChannelWeb], kind: Kind::Request },
    // Everybody's health.
    Link { subject: "nachos.admin.health.{to}", from: &[Cli], to: &Component::SERVICES, kind: Kind::Request },
];

/// What a component may publish and subscribe to, in the server's words; allow-lists only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects it may publish on.
    pub publish: BTreeSet<String>,
    /// Subjects it may subscribe to; with ` q` at the end only in that queue group.
    pub subscribe: BTreeSet<String>,
}

/// Renders the permissions of one component from [`LINKS`].
pub fn permissions(component: Component) -> Permissions {
    // The own inbox in both directions: a component is ready when a message to itself came back.
    let inbox = BTreeSet::from([format!("_INBOX.{component}.>")]);
    let mut rights = Permissions { publish: inbox.clone(), subscribe: inbox };
    for link in LINKS {
        for (from, to) in ends(link) {
            let subject = expand(link.subject, Some(from), to);
            if from == component {
                rights.publish.insert(subject.clone());
            }
            if to == Some(component) {
                allow_receiving(&mut rights, link.kind, &subject, component, from);
            }
        }
    }
    allow_discovery(&mut rights, component);
    if component == Provision {
        allow_provisioning(&mut rights);
    }
    rights
}

/// All pairs of a line; a line without a receiver still has its publishers.
fn ends(link: &Link) -> Vec<(Component, Option<Component>)> {
    let receivers: Vec<Option<Component>> =
        if link.to.is_empty() { vec![None] } else { link.to.iter().copied().map(Some).collect() };
    link.from.iter().flat_map(|from| receivers.iter().map(move |to| (*from, *to))).collect()
}

fn expand(template: &str, from: Option<Component>, to: Option<Component>) -> String {
    let channel = |component: Component| component.channel().unwrap_or("none");
    let mut subject = template.to_owned();
    if let Some(from) = from {
        subject = subject.replace("{from}", from.as_str()).replace("{from.channel}", channel(from));
    }
    if let Some(to) = to {
        let family = to.family().map_or("none", crate::Family::as_str);
        subject =
            subject.replace("{to}", to.as_str()).replace("{to.channel}", channel(to)).replace("{to.family}", family);
    }
    subject
}

/// The template with every end that is still open as `*`.
fn open_ends(template: &str) -> String {
    template
        .split('.')
        .fold((String::new(), false), |(mut out, inside), token| {
            // `{from.channel}` spans two of the pieces between dots.
            if !inside {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(if token.starts_with('{') { "*" } else { token });
            }
            (out, (inside || token.starts_with('{')) && !token.ends_with('}'))
        })
        .0
}

/// The subject with every caller's token as `*`: what a server of several callers subscribes to.
fn received(link_subject: &str, from: Component) -> String {
    let token = format!(".{from}");
    link_subject.strip_suffix(&token).map_or_else(|| link_subject.to_owned(), |stem| format!("{stem}.*"))
}

fn allow_receiving(rights: &mut Permissions, kind: Kind, subject: &str, component: Component, from: Component) {
    match kind {
        Kind::Request => {
            let served =
                if subject.starts_with("nachos.policy.") { received(subject, from) } else { subject.to_owned() };
            rights.subscribe.insert(format!("{served} {QUEUE}"));
            // Answers go to the callers' inboxes and nowhere else. `allow_responses` would let a caller choose where.
            rights.publish.insert(format!("_INBOX.{from}.>"));
        }
        Kind::Event => {
            rights.subscribe.insert(subject.to_owned());
        }
        Kind::Stream { stream, reader: Some(Reader::Consumer) } => {
            rights.publish.insert(format!("$JS.API.CONSUMER.INFO.{stream}.{component}"));
            rights.publish.insert(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{component}"));
            rights.publish.insert(format!("$JS.ACK.{stream}.{component}.>"));
            // The acknowledgement subject of servers that speak version 2 of it.
            rights.publish.insert(format!("$JS.ACK.*.*.{stream}.{component}.>"));
        }
        Kind::Stream { stream, reader: Some(Reader::DirectGet) } => {
            rights.publish.insert(format!("$JS.API.DIRECT.GET.{stream}.{subject}"));
        }
        Kind::Stream { stream, reader: Some(Reader::Lookup) } => {
            rights.publish.insert(format!("$JS.API.STREAM.MSG.GET.{stream}"));
            rights.publish.insert(format!("$JS.API.STREAM.INFO.{stream}"));
        }
        Kind::Stream { reader: None, .. } => {}
    }
}

/// `$SRV` (NATS ADR-32): services answer, the user's tool asks. For display only: anybody could answer.
fn allow_discovery(rights: &mut Permissions, component: Component) {
    if Component::SERVICES.contains(&component) {
        for verb in ["PING", "INFO", "STATS"] {
            rights.subscribe.insert(format!("$SRV.{verb}"));
            rights.subscribe.insert(format!("$SRV.{verb}.{component}"));
            rights.subscribe.insert(format!("$SRV.{verb}.{component}.*"));
        }
    }
    if component == Cli {
        for verb in ["PING", "INFO", "STATS"] {
            rights.publish.insert(format!("$SRV.{verb}"));
        }
    }
}

/// The streams of the platform.
pub const STREAMS: [&str; 5] = [channel::STREAM, audit::STREAM, audit::CONTENTS, audit::CHECKPOINTS, object::STREAM];

/// The durable consumers as (stream, consumer, the subject it reads).
pub fn consumers() -> Vec<(&'static str, Component, String)> {
    let mut found = Vec::new();
    for link in LINKS {
        let Kind::Stream { stream, reader: Some(Reader::Consumer) } = link.kind else {
            continue;
        };
        found.extend(link.to.iter().map(|to| (stream, *to, open_ends(&expand(link.subject, None, Some(*to))))));
    }
    found
}

/// The streams of the proof, which the one-shot provisioner may back up, restore where there is none, and shorten at the old end.
const PROOF: [&str; 2] = [audit::STREAM, audit::CHECKPOINTS];

/// The one-shot provisioner makes streams and consumers. It holds no right to change or delete any; of the record it may drop the old
/// end, which it does only after it has verified the archive of it itself. It runs for seconds and takes no message from anybody.
fn allow_provisioning(rights: &mut Permissions) {
    rights.publish.insert("$JS.API.INFO".to_owned());
    for stream in STREAMS {
        rights.publish.insert(format!("$JS.API.STREAM.CREATE.{stream}"));
        rights.publish.insert(format!("$JS.API.STREAM.INFO.{stream}"));
    }
    for stream in PROOF {
        rights.publish.insert(format!("$JS.API.STREAM.PURGE.{stream}"));
        rights.publish.insert(format!("$JS.API.STREAM.MSG.GET.{stream}"));
        rights.publish.insert(format!("$JS.API.STREAM.SNAPSHOT.{stream}"));
        rights.publish.insert(format!("$JS.API.STREAM.RESTORE.{stream}"));
    }
    // Chunks of a backup are acknowledged, those of a restore sent, on subjects that the server makes up.
    rights.publish.insert("$JS.SNAPSHOT.ACK.>".to_owned());
    rights.publish.insert("$JS.SNAPSHOT.RESTORE.>".to_owned());
    for (stream, consumer, _) in consumers() {
        rights.publish.insert(format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"));
        rights.publish.insert(format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}"));
        rights.publish.insert(format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.>"));
    }
}

/// The subjects that a stream takes: any sender's and any receiver's, so that a new component needs no change of the stream, which
/// nobody has the right to make.
pub fn subjects_of(stream: &str) -> BTreeSet<String> {
    let takes = |link: &&Link| matches!(link.kind, Kind::Stream { stream: s, .. } if s == stream);
    LINKS.iter().filter(takes).map(|link| open_ends(link.subject)).collect()
}

/// One user block of the server's configuration per component, with public keys only: `keys` maps each component to its nkey.
pub fn render(keys: &dyn Fn(Component) -> String) -> String {
    let mut out = String::new();
    for component in Component::ALL {
        let rights = permissions(component);
        let list = |subjects: &BTreeSet<String>| {
            subjects.iter().map(|subject| format!("          {subject:?}")).collect::<Vec<_>>().join("\n")
        };
        out.push_str(&format!(
            "      # {component}\n      {{ nkey: {}, permissions: {{\n        publish: {{ allow: [\n{}\n        ] }}\n        subscribe: {{ allow: [\n{}\n        ] }}\n      }} }}\n",
            keys(component),
            list(&rights.publish),
            list(&rights.subscribe),
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_rendered_permissions_are_the_reviewed_ones() {
        expect_file!["../golden/permissions.conf"].assert_eq(&render(&|component| format!("U_{component}")));
    }

    #[test]
    fn no_running_service_may_touch_streams_or_consumers() {
        for component in Component::ALL.into_iter().filter(|component| *component != Provision) {
            let rights = permissions(component);
            for verb in [
                "STREAM.CREATE",
                "STREAM.UPDATE",
                "STREAM.DELETE",
                "STREAM.PURGE",
                "STREAM.MSG.DELETE",
                "STREAM.SNAPSHOT",
                "STREAM.RESTORE",
                "CONSUMER.CREATE",
                "CONSUMER.DELETE",
            ] {
                assert!(!rights.publish.iter().any(|subject| subject.contains(verb)), "{component} may {verb}");
            }
            assert!(
                !rights
                    .publish
                    .iter()
                    .chain(&rights.subscribe)
                    .any(|subject| subject == ">" || subject.starts_with("$SYS"))
            );
        }
    }

    #[test]
    fn streams_take_every_end_of_a_line() {
        assert_eq!(subjects_of(audit::STREAM), BTreeSet::from(["nachos.audit.log.*".to_owned()]));
        let channels =
            BTreeSet::from(["nachos.channel.*.inbound".to_owned(), "nachos.channel.*.outbound.*".to_owned()]);
        assert_eq!(subjects_of(channel::STREAM), channels);
        let gateway =
            consumers().into_iter().find(|(_, consumer, _)| *consumer == Gateway).map(|(_, _, filter)| filter);
        assert_eq!(gateway.as_deref(), Some("nachos.channel.*.inbound"));
    }
}
