//! The platform in this process: the real services on a real server, and a person who writes on the channel `cli`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::config::AuditConfig;
use bus::{Bus, Deliveries, StreamSizes};
use jiff::Timestamp;
use proto::canonical::digest;
use proto::channel::{Inbound, Origin, Outbound, SignedOrigin};
use proto::keys::SigningKey;
use proto::{Component, Name};
use serde_json::Value;
use uuid::Uuid;

use crate::Server;

/// How long a turn may take in a test, on a busy machine.
const TURN: Duration = Duration::from_secs(60);

/// Services in this process.
pub struct Platform {
    /// The bus they meet on.
    pub server: Server,
    running: BTreeMap<Component, Vec<Bus>>,
}

impl Platform {
    /// A server with policy, tools, models (offline), gateway and audit.
    pub async fn start() -> Self {
        let all = [Component::Policy, Component::ToolsWasm, Component::LlmProxy, Component::Audit, Component::Gateway];
        Self::start_only(&all, &StreamSizes::default()).await
    }

    /// A server with some of them.
    pub async fn start_only(components: &[Component], sizes: &StreamSizes) -> Self {
        let mut platform = Self { server: Server::start_with(sizes).await, running: BTreeMap::new() };
        for component in components {
            platform.run(*component, "").await;
        }
        platform
    }

    /// Starts a service, or one more replica of it, with more settings than the paths.
    pub async fn run(&mut self, component: Component, settings: &str) {
        let text = format!("{}\n{settings}", self.paths(component));
        let bus = Bus::connect(component, &self.server.config(component), AuditConfig::default()).await.unwrap();
        match component {
            Component::Policy => policy::serve(bus.clone(), parse(&text)).await,
            Component::ToolsWasm => tools_wasm::serve(bus.clone(), parse(&text)).await,
            Component::LlmProxy => llm_proxy::serve(bus.clone(), parse(&text)).await,
            Component::Audit => audit::serve(bus.clone(), parse(&text)).await,
            Component::Gateway => gateway::serve(bus.clone(), parse(&text)).await,
            Component::ChannelSlack => channel_slack::serve(bus.clone(), parse(&text)).await,
            Component::Forwarder => forwarder::serve(bus.clone(), parse(&text)).await,
            Component::ChannelWeb => channel_web::serve(bus.clone(), parse(&text)).await,
            Component::Cli | Component::Provision => panic!("{component} is no service"),
        }
        .unwrap_or_else(|error| panic!("{component} does not start: {error:#}"));
        self.running.entry(component).or_default().push(bus);
    }

    /// Stops all replicas of a service.
    pub async fn stop(&mut self, component: Component) {
        for bus in self.running.remove(&component).unwrap_or_default() {
            bus.drain().await;
        }
    }

    /// The settings that differ from an installation: where things are.
    fn paths(&self, component: Component) -> String {
        let keys = self.server.keys(component);
        let keys = keys.display();
        let data = self.server.dir().join(format!("{component}-data"));
        std::fs::create_dir_all(&data).unwrap();
        let (data, tools) = (data.display(), tools_dir());
        let (tools, policies) = (tools.display(), repository().join("policy/policies"));
        match component {
            Component::Policy => format!(
                "policies = '{}'\ntools = ['{tools}']\npermit_key = '{keys}/permit.key'\norigins = '{keys}/origins.json'",
                policies.display()
            ),
            Component::ToolsWasm => {
                format!("tools = ['{tools}']\nprecompiled = ['{tools}']\npermit_key = '{keys}/permit.pub'")
            }
            Component::LlmProxy => format!("secrets = '{data}'"),
            Component::Audit => {
                for folder in ["checkpoints", "archive"] {
                    std::fs::create_dir_all(format!("{data}/{folder}")).expect("a folder");
                }
                format!(
                    "data = '{data}'\ncheckpoint_key = '{keys}/checkpoint.key'\ncheckpoints = '{data}/checkpoints'\narchive = '{data}/archive'"
                )
            }
            Component::Gateway => format!("database = '{data}/gateway.db'"),
            Component::ChannelSlack => format!(
                "origin_key = '{keys}/origin.key'\napp_token = '{data}/app-token'\nbot_token = '{data}/bot-token'"
            ),
            // Where it listens, and as what, is for whoever opens it to say.
            Component::ChannelWeb => format!("checkpoint_key = '{keys}/checkpoint.pub'"),
            Component::Forwarder | Component::Cli | Component::Provision => String::new(),
        }
    }

    /// A person at a terminal.
    pub async fn person(&self, user: &str) -> Person {
        Person::new(&self.server, user).await
    }

    /// The whole record so far, in stream order, read as the audit component reads it. Only where no audit service runs.
    pub async fn records(&self) -> Vec<Value> {
        let audit = self.server.connect(Component::Audit).await;
        let mut deliveries = audit.records().await.unwrap();
        let mut records = Vec::new();
        while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(1), deliveries.next()).await {
            let mut record = delivery.body.clone().unwrap();
            record["component"] = delivery.component.map(|c| c.to_string()).into();
            records.push(record);
        }
        records
    }
}

fn parse<C: serde::de::DeserializeOwned>(text: &str) -> C {
    bus::config::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}")).1
}

/// Reads a channel's or policy's private key.
pub fn signing_key(path: &Path) -> SigningKey {
    SigningKey::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The repository that is tested.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The built tools.
pub fn tools_dir() -> PathBuf {
    let dir = std::env::var("NACHOS_TOOLS").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".cache/nachos/tools"),
        PathBuf::from,
    );
    assert!(dir.join("clock/manifest.json").exists(), "no tools in {}: run the tests by ./nachos test", dir.display());
    dir
}

/// Somebody who writes on the channel `cli`.
pub struct Person {
    user: String,
    key: SigningKey,
    bus: Bus,
    replies: Deliveries<Outbound>,
}

impl Person {
    /// Joins as the channel `cli`.
    pub async fn new(server: &Server, user: &str) -> Self {
        let bus = server.connect(Component::Cli).await;
        let key = signing_key(&server.keys(Component::Cli).join("origin.key"));
        let replies = bus.deliveries::<Outbound>().await.unwrap();
        Self { user: user.to_owned(), key, bus, replies }
    }

    /// An origin as the channel would sign it now.
    pub fn origin(&self, conversation: &str, text: &str) -> Origin {
        Origin {
            channel: cli(),
            team: None,
            user: self.user.clone(),
            conversation: conversation.to_owned(),
            event: Uuid::new_v4().to_string(),
            text_digest: digest(text.as_bytes()),
            at: Timestamp::now(),
        }
    }

    /// The same, signed.
    pub fn signed(&self, conversation: &str, text: &str) -> SignedOrigin {
        self.origin(conversation, text).sign(&self.key).unwrap()
    }

    /// Sends a message; it is stored when this returns.
    pub async fn write(&self, conversation: &str, text: &str) {
        let message = Inbound {
            v: 1,
            origin: self.signed(conversation, text),
            channel: cli(),
            conversation: conversation.to_owned(),
            text: text.to_owned(),
            reply_to: Value::Null,
        };
        self.bus.enqueue(Bus::new_trace(), &Uuid::new_v4().to_string(), &message).await.unwrap();
    }

    /// The next reply to anybody on the channel.
    pub async fn reply(&mut self) -> Outbound {
        let delivery = tokio::time::timeout(TURN, self.replies.next()).await.expect("no reply in time").unwrap();
        delivery.done().await.unwrap();
        delivery.body.unwrap()
    }

    /// Writes, and waits for the reply.
    pub async fn ask(&mut self, conversation: &str, text: &str) -> Outbound {
        self.write(conversation, text).await;
        self.reply().await
    }
}

fn cli() -> Name {
    "cli".parse().unwrap()
}
