//! The permission matrix: every identity against every subject, on a real server. Exactly the lines of the table get through.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerError};
use bus::Bus;
use futures_util::StreamExt as _;
use proto::Component;
use proto::audit::{Fact, Scope};
use proto::links;
use system_tests::Server;
use uuid::Uuid;

/// Tries between two waits: the client's queue of server errors holds 128 and drops what is more.
const BURST: usize = 40;

/// A raw client: what a compromised component can do with its key, without any of our code.
struct Raw {
    component: Component,
    client: Client,
    denied: Arc<Mutex<BTreeSet<String>>>,
}

impl Raw {
    async fn connect(server: &Server, component: Component) -> Self {
        let seed = std::fs::read_to_string(server.keys(component).join("bus.nk")).unwrap();
        let denied = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = Arc::clone(&denied);
        let client = ConnectOptions::with_nkey(seed)
            .custom_inbox_prefix(format!("_INBOX.{component}"))
            .event_callback(move |event| {
                if let Event::ServerError(ServerError::Other(text)) = event {
                    seen.lock().unwrap().insert(text.to_lowercase());
                }
                std::future::ready(())
            })
            .connect(server.url())
            .await
            .unwrap();
        Self { component, client, denied }
    }

    /// After this the server has said all that it had to say.
    async fn settle(&self) {
        for _ in 0..2 {
            let inbox = format!("_INBOX.{}.settle.{}", self.component, Uuid::new_v4().simple());
            let mut own = self.client.subscribe(inbox.clone()).await.unwrap();
            self.client.publish(inbox, "x".into()).await.unwrap();
            tokio::time::timeout(Duration::from_secs(5), own.next()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }

    async fn may_publish(&self, subjects: &[String]) -> BTreeSet<String> {
        self.denied.lock().unwrap().clear();
        for few in subjects.chunks(BURST) {
            for subject in few {
                self.client.publish(subject.clone(), "{}".into()).await.unwrap();
            }
            self.settle().await;
        }
        let denied = self.denied.lock().unwrap();
        let allowed = |subject: &&String| {
            !denied.contains(&format!("permissions violation for publish to \"{subject}\"").to_lowercase())
        };
        subjects.iter().filter(allowed).cloned().collect()
    }

    async fn may_subscribe(&self, subjects: &[String], queue: Option<&str>) -> BTreeSet<String> {
        self.denied.lock().unwrap().clear();
        let mut open = Vec::new();
        for few in subjects.chunks(BURST) {
            for subject in few {
                open.push(match queue {
                    None => self.client.subscribe(subject.clone()).await.unwrap(),
                    Some(queue) => self.client.queue_subscribe(subject.clone(), queue.to_owned()).await.unwrap(),
                });
            }
            self.settle().await;
        }
        let denied = self.denied.lock().unwrap();
        let allowed = |subject: &&String| {
            let start = format!("permissions violation for subscription to \"{subject}\"").to_lowercase();
            !denied.iter().any(|text| text.starts_with(&start))
        };
        subjects.iter().filter(allowed).cloned().collect()
    }
}

/// Whether a NATS pattern covers a subject (or a narrower pattern).
fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn expected(patterns: &BTreeSet<String>, subjects: &[String]) -> BTreeSet<String> {
    subjects.iter().filter(|subject| patterns.iter().any(|pattern| covers(pattern, subject))).cloned().collect()
}

/// Every family of subjects with every name in every place, and what an attacker would try beside it.
fn to_publish() -> Vec<String> {
    let mut subjects = Vec::new();
    for component in Component::ALL {
        for stem in [
            "nachos.policy.check",
            "nachos.policy.permissible",
            "nachos.policy.explain",
            "nachos.policy.resolve",
            "nachos.audit.log",
            "nachos.admin.health",
        ] {
            subjects.push(format!("{stem}.{component}"));
        }
        subjects.push(format!("_INBOX.{component}.stolen.1"));
        subjects.push(format!("nachos.object.{component}.x"));
    }
    for channel in ["slack", "cli", "web", "none"] {
        for tail in ["inbound", "outbound.x", "delta.x", "approval"] {
            subjects.push(format!("nachos.channel.{channel}.{tail}"));
        }
    }
    for family in ["wasm", "code", "none"] {
        subjects.extend([format!("nachos.tool.{family}.request"), format!("nachos.tool.{family}.catalog")]);
    }
    for stream in links::STREAMS {
        for verb in ["CREATE", "UPDATE", "DELETE", "PURGE", "INFO", "MSG.GET", "MSG.DELETE", "SNAPSHOT", "RESTORE"] {
            subjects.push(format!("$JS.API.STREAM.{verb}.{stream}"));
        }
        subjects.push(format!("$JS.API.DIRECT.GET.{stream}"));
        subjects.push(format!("$JS.API.DIRECT.GET.{stream}.nachos.object.tools-wasm.x"));
        for consumer in Component::ALL {
            subjects.extend([
                format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}"),
                format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.nachos.audit.log.x"),
                format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}"),
                format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}"),
                format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
                format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
                format!("$JS.ACK.{stream}.{consumer}.1.1.1.1.1"),
            ]);
        }
    }
    let others = [
        "nachos.llm.request",
        "nachos.audit.query",
        "nachos.audit.tail",
        "nachos.audit.checkpoint",
        "nachos.session.list",
        "nachos.policy.resolved",
        "nachos.new",
        "$SRV.PING",
        "$SRV.INFO",
        "$SRV.STATS",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.USER.INFO",
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.CREATE.EVIL",
        "$KV.x.y",
        "$O.x.C.y",
        "evil",
    ];
    subjects.extend(others.map(str::to_owned));
    subjects
}

fn to_subscribe() -> Vec<String> {
    let mut subjects: Vec<String> =
        to_publish().into_iter().filter(|subject| !subject.starts_with("$JS.API")).collect();
    for component in Component::ALL {
        subjects.push(format!("_INBOX.{component}.>"));
        subjects.extend(["PING", "INFO", "STATS"].map(|verb| format!("$SRV.{verb}.{component}")));
    }
    let wide = [
        ">",
        "nachos.>",
        "nachos.*.*.*",
        "_INBOX.>",
        "_INBOX.*.>",
        "nachos.policy.check.*",
        "nachos.policy.permissible.*",
        "nachos.policy.explain.*",
        "nachos.audit.log.*",
        "nachos.audit.>",
        "nachos.channel.*.inbound",
        "nachos.channel.>",
        "nachos.tool.*.request",
        "nachos.admin.health.*",
        "$JS.>",
        "$JS.API.>",
        "$JS.ACK.>",
        "$SYS.>",
        "$SRV.>",
    ];
    subjects.extend(wide.map(str::to_owned));
    subjects
}

#[tokio::test]
async fn exactly_the_lines_of_the_table_get_through() {
    let server = Server::start().await;
    let (publish, subscribe) = (to_publish(), to_subscribe());
    let (mut checks, mut allowed) = (0, 0);
    for component in Component::ALL {
        let raw = Raw::connect(&server, component).await;
        let rights = links::permissions(component);
        let got = raw.may_publish(&publish).await;
        assert_eq!(got, expected(&rights.publish, &publish), "{component} publishes");
        allowed += got.len();
        for queue in [None, Some("q"), Some("evil")] {
            let fits = |right: &&String| match (right.strip_suffix(" q"), queue) {
                (Some(_), queue) => queue == Some("q"),
                (None, _) => true,
            };
            let patterns: BTreeSet<String> =
                rights.subscribe.iter().filter(fits).map(|right| right.trim_end_matches(" q").to_owned()).collect();
            let raw = Raw::connect(&server, component).await;
            let got = raw.may_subscribe(&subscribe, queue).await;
            assert_eq!(got, expected(&patterns, &subscribe), "{component} subscribes in {queue:?}");
            allowed += got.len();
        }
        checks += publish.len() + 3 * subscribe.len();
    }
    println!("permission matrix: {checks} checks, {} denied, {allowed} allowed", checks - allowed);
    assert!(allowed * 5 < checks, "nearly everything must be denied");
}

#[tokio::test]
async fn nobody_gets_in_without_a_key() {
    let server = Server::start().await;
    assert!(async_nats::connect(server.url()).await.is_err());
    assert!(ConnectOptions::with_user_and_password("gateway".into(), "x".into()).connect(server.url()).await.is_err());
    let stranger = nkeys::KeyPair::new_user().seed().unwrap();
    assert!(ConnectOptions::with_nkey(stranger).connect(server.url()).await.is_err());
    let known = std::fs::read_to_string(server.keys(Component::Gateway).join("bus.nk")).unwrap();
    assert!(ConnectOptions::with_nkey(known).connect(server.url()).await.is_ok(), "the control");
}

/// The gateway asks `tools-wasm` for something and names a place as reply where only the runner may speak.
#[tokio::test]
async fn a_server_is_no_deputy_for_its_callers() {
    let server = Server::start().await;
    let runner = server.connect(Component::ToolsWasm).await;
    runner
        .serve(|_: bus::Call<proto::tool::CatalogRequest>| async {
            Ok(proto::tool::Catalog { v: 1, tools: vec![], refused: vec![] })
        })
        .await
        .unwrap();
    let gateway = Raw::connect(&server, Component::Gateway).await;
    let question = r#"{"v":1,"family":"wasm"}"#;
    let ask = async |reply: &str| {
        gateway.client.publish_with_reply("nachos.tool.wasm.catalog", reply.to_owned(), question.into()).await.unwrap();
        gateway.settle().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // The control: an answer in the own inbox arrives.
    let mut inbox = gateway.client.subscribe("_INBOX.gateway.mine").await.unwrap();
    ask("_INBOX.gateway.mine").await;
    assert!(tokio::time::timeout(Duration::from_secs(2), inbox.next()).await.is_ok());

    ask("nachos.audit.log.tools-wasm").await;
    ask("nachos.object.tools-wasm.x").await;
    let policy = Raw::connect(&server, Component::Policy).await;
    let mut stolen = policy.client.subscribe("_INBOX.policy.x").await.unwrap();
    ask("_INBOX.policy.x").await;
    assert!(tokio::time::timeout(Duration::from_millis(500), stolen.next()).await.is_err());

    let mut records = server.connect(Component::Audit).await.records().await.unwrap();
    let mut refused = BTreeSet::new();
    while let Ok(Some(record)) = tokio::time::timeout(Duration::from_secs(1), records.next()).await {
        let body = record.body.unwrap_or_else(|error| panic!("somebody spoke as {:?}: {error}", record.component));
        assert_eq!(body["type"], "component.denied");
        refused.insert(body["data"]["subject"].as_str().unwrap().to_owned());
    }
    let tried = ["nachos.audit.log.tools-wasm", "nachos.object.tools-wasm.x", "_INBOX.policy.x"];
    assert!(tried.iter().all(|subject| refused.contains(*subject)), "{refused:?}");
}

#[tokio::test]
async fn a_record_cannot_be_forged_under_another_name() {
    let server = Server::start().await;
    let gateway = Raw::connect(&server, Component::Gateway).await;
    let forged = r#"{"specversion":"1.0","source":"/nachos/policy","type":"policy.decided","data":{}}"#;
    gateway.client.publish("nachos.audit.log.policy", forged.into()).await.unwrap();
    // What it may say, it says under its own name, whatever the body claims.
    gateway.client.publish("nachos.audit.log.gateway", forged.into()).await.unwrap();
    gateway.settle().await;
    let mut records = server.connect(Component::Audit).await.records().await.unwrap();
    let only = tokio::time::timeout(Duration::from_secs(5), records.next()).await.unwrap().unwrap();
    assert_eq!(only.component, Some(Component::Gateway));
    assert!(tokio::time::timeout(Duration::from_secs(1), records.next()).await.is_err());
}

/// Message ids are one space for a whole stream: whoever knows an id beforehand can make the stream refuse it.
#[tokio::test]
async fn a_message_id_cannot_be_used_up_beforehand() {
    let server = Server::start().await;
    let gateway = Raw::connect(&server, Component::Gateway).await;
    let tools = server.connect(Component::ToolsWasm).await;
    let burn = async |id: &str| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        gateway.client.publish_with_headers("nachos.audit.log.gateway", headers, "{}".into()).await.unwrap();
        gateway.settle().await;
    };
    let fact = || Fact::ComponentStarted { version: "x".into() };
    // The control: with the id known, it works, and the runner fails closed.
    let known = Uuid::new_v4();
    burn(&known.to_string()).await;
    assert_eq!(tools.record_once(known, None, Scope::default(), fact()).await.unwrap(), bus::Once::AlreadyUsed);
    // Ids are random, and a channel's are made with its secret key: other parts of the same event do not give them.
    let slack = system_tests::platform::signing_key(&server.keys(Component::ChannelSlack).join("origin.key"));
    let cli = system_tests::platform::signing_key(&server.keys(Component::Cli).join("origin.key"));
    assert_ne!(slack.private_token(&["T1", "C1", "1.2"]), cli.private_token(&["T1", "C1", "1.2"]));
    assert_eq!(slack.private_token(&["T1", "C1", "1.2"]), slack.private_token(&["T1", "C1", "1.2"]));
    assert_eq!(tools.record_once(Uuid::new_v4(), None, Scope::default(), fact()).await.unwrap(), bus::Once::First);
}

#[tokio::test]
async fn answers_to_others_cannot_be_overheard() {
    let server = Server::start().await;
    let spy = Raw::connect(&server, Component::ChannelSlack).await;
    for subject in ["_INBOX.gateway.>", "_INBOX.>", "_INBOX.*.>", "_INBOX.gateway.*.*"] {
        assert!(spy.may_subscribe(&[subject.to_owned()], None).await.is_empty(), "{subject}");
    }
    assert_eq!(spy.may_subscribe(&["_INBOX.channel-slack.>".to_owned()], None).await.len(), 1, "the control");
}

#[tokio::test]
async fn provisioning_twice_changes_nothing_and_a_lost_stream_is_never_made_anew() {
    let mut server = Server::start().await;
    let sizes = bus::StreamSizes::default();
    let gateway: Bus = server.connect(Component::Gateway).await;
    gateway.record(None, Scope::default(), Fact::ComponentStarted { version: "1".into() }).await.unwrap();
    assert_eq!(server.provision(&sizes).await.unwrap(), "all streams are there already");
    // Somebody wipes the store behind everybody's back.
    server.kill();
    let store = server.dir().join("bus-data");
    std::fs::remove_dir_all(&store).unwrap();
    server.start_again();
    let refused = server.provision(&sizes).await.unwrap_err().to_string();
    assert!(refused.contains("was made before and is gone"), "{refused}");
}
