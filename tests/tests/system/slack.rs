//! The Slack channel between a Slack that misbehaves and a real bus: nothing acknowledged is lost, nothing is posted twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bus::config::AuditConfig;
use bus::{Bus, BusConfig, Deliveries};
use channel_slack::{Config, Timing};
use proto::Component;
use proto::channel::{Inbound, Outbound, ReplyKind};
use serde_json::{Value, json};
use system_tests::Server;
use system_tests::fakes::slack::{APP_TOKEN, BOT_TOKEN, BOT_USER, FakeSlack, Fault, Pace};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// Long enough for a busy machine; nothing waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough to see that something does not happen.
const QUIET: Duration = Duration::from_millis(700);

const TIMING: Timing = Timing {
    call_ms: 5_000,
    open_ms: 2_000,
    ping_ms: 300,
    dead_ms: 2_000,
    drain_ms: 3_000,
    close_ms: 300,
    backoff_ms: 50,
    backoff_max_ms: 400,
};

/// The channel in a runtime of its own, so that it can be killed in the middle of anything.
struct Channel {
    runtime: Option<Runtime>,
}

impl Channel {
    async fn start(bus: BusConfig, config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (ready, started) = oneshot::channel();
        runtime.spawn(async move {
            let bus = Bus::connect(Component::ChannelSlack, &bus, AuditConfig::default()).await.unwrap();
            channel_slack::serve(bus.clone(), config).await.unwrap();
            ready.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        started.await.unwrap();
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// A bus, a Slack, the channel between them, and the gateway's place taken by the test.
struct Stage {
    channel: Option<Channel>,
    slack: FakeSlack,
    gateway: Bus,
    inbound: Deliveries<Inbound>,
    server: Server,
}

impl Stage {
    async fn set(pace: Pace) -> Self {
        let (server, slack) = (Server::start().await, FakeSlack::start_with(pace).await);
        let gateway = server.connect(Component::Gateway).await;
        let inbound = gateway.deliveries().await.unwrap();
        let mut stage = Self { channel: None, slack, gateway, inbound, server };
        stage.start_channel(2).await;
        stage.slack.wait_until("two connections", PATIENCE, |slack| slack.connections() == 2).await;
        // Hello is said right after a connection counts; give it the moment it takes.
        sleep(Duration::from_millis(50)).await;
        stage
    }

    async fn start_channel(&mut self, connections: usize) {
        let config = config(&self.server, &self.slack, connections);
        self.channel = Some(Channel::start(self.server.config(Component::ChannelSlack), config).await);
    }

    /// Kills the channel and waits until Slack has noticed.
    async fn kill_channel(&mut self) {
        self.channel = None;
        self.slack.wait_until("the connections are gone", PATIENCE, |slack| slack.connections() == 0).await;
    }

    /// The next inbound message, settled.
    async fn next(&mut self) -> Inbound {
        let delivery = timeout(PATIENCE, self.inbound.next()).await.expect("an inbound message in time").unwrap();
        delivery.done().await.unwrap();
        delivery.body.unwrap()
    }

    async fn nothing_more(&mut self) {
        let more = timeout(QUIET, self.inbound.next()).await;
        assert!(more.is_err(), "one more message: {:?}", more.unwrap().unwrap().body);
    }

    /// Answers an inbound message as the gateway does.
    async fn answer(&self, to: &Inbound, text: &str) -> Outbound {
        let reply = reply(to, text);
        self.gateway.enqueue(Bus::new_trace(), &reply.id.to_string(), &reply).await.unwrap();
        reply
    }

    /// Facts of a kind that the channel recorded, waited for until there are `count`.
    async fn facts(&self, kind: &str, count: usize) -> Vec<Value> {
        let audit = self.server.connect(Component::Audit).await;
        let mut records = audit.records().await.unwrap();
        let mut found = Vec::new();
        let patience = |found: usize| if found < count { PATIENCE } else { QUIET };
        while let Ok(Some(delivery)) = timeout(patience(found.len()), records.next()).await {
            let record = delivery.body.unwrap();
            if record["type"] == kind {
                found.push(record);
            }
            // Left in the stream: another call may look for another kind.
        }
        found
    }
}

fn reply(to: &Inbound, text: &str) -> Outbound {
    Outbound {
        v: proto::VERSION,
        id: Uuid::now_v7(),
        channel: to.channel.clone(),
        conversation: to.conversation.clone(),
        session: "s1".into(),
        turn: Uuid::now_v7(),
        text: text.into(),
        reply_to: to.reply_to.clone(),
        kind: ReplyKind::Answer,
    }
}

fn config(server: &Server, slack: &FakeSlack, connections: usize) -> Config {
    let secret = |name: &str, token: &str| {
        let path = server.dir().join(name);
        std::fs::write(&path, token).unwrap();
        path
    };
    Config {
        api_url: slack.api_url(),
        app_token: secret("app-token", APP_TOKEN),
        bot_token: secret("bot-token", BOT_TOKEN),
        origin_key: server.keys(Component::ChannelSlack).join("origin.key"),
        connections,
        timing: TIMING,
        ..Config::default()
    }
}

fn origins(keys: &Path) -> std::collections::BTreeMap<proto::Name, proto::keys::PublicKey> {
    serde_json::from_slice(&std::fs::read(keys.join("origins.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_message_is_stored_and_recorded_before_slack_is_told() {
    let mut stage = Stage::set(Pace::default()).await;
    stage.slack.name_user("U2", "Bea");
    let ts = stage.slack.say("U1", "C1", &format!("<@{BOT_USER}> ask <@U2> if 1 &lt; 2"), None);
    let delivery = timeout(PATIENCE, stage.inbound.next()).await.unwrap().unwrap();
    stage.slack.wait_until("acknowledged", PATIENCE, |slack| slack.is_acked(&ts)).await;
    let inbound = delivery.body.clone().unwrap();
    assert_eq!(inbound.text, "ask @Bea if 1 < 2");
    assert_eq!(inbound.conversation, format!("T0TEAM:C1:{ts}"));
    for track in stage.slack.envelopes_of(&ts) {
        assert!(delivery.stored <= track.acked.unwrap(), "acknowledged before it was stored");
    }
    let origin =
        inbound.origin.verify(&origins(&stage.server.keys(Component::Policy)), jiff::Timestamp::now()).unwrap();
    assert_eq!(origin.principal(), "slack/T0TEAM/U1");
    assert!(inbound.matches_origin().is_some());
    let received = stage.facts("message.received", 1).await;
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!(received[0]["traceparent"].as_str().unwrap().get(3..35), Some(delivery.trace.id().as_str()));
}

#[tokio::test]
async fn a_mention_is_one_message_however_often_and_in_whatever_form_it_comes() {
    let mut stage = Stage::set(Pace::default()).await;
    let ts = stage.slack.say("U1", "C1", &format!("<@{BOT_USER}> hi"), None);
    let event = json!({"type": "message", "user": "U1", "ts": ts, "text": format!("<@{BOT_USER}> hi"), "channel": "C1", "channel_type": "channel"});
    for _ in 0..5 {
        stage.slack.send_event(event.clone());
    }
    assert_eq!(stage.next().await.text, "hi");
    stage.slack.wait_until("all acknowledged", PATIENCE, |slack| slack.is_acked(&ts)).await;
    stage.nothing_more().await;
    // A restart forgets; the stream does not.
    stage.kill_channel().await;
    stage.start_channel(1).await;
    stage.slack.send_event(event);
    stage.slack.wait_until("acknowledged again", PATIENCE, |slack| slack.is_acked(&ts)).await;
    stage.nothing_more().await;
    assert_eq!(stage.facts("message.received", 1).await.len(), 1);
}

#[tokio::test]
async fn only_what_is_meant_for_the_agent_is_taken() {
    let mut stage = Stage::set(Pace::default()).await;
    let chatter = stage.slack.say("U1", "C1", "lunch?", None);
    let others = stage.slack.say("U2", "C1", "yes", Some(&chatter));
    stage.slack.wait_until("acknowledged", PATIENCE, |slack| slack.is_acked(&others)).await;
    stage.nothing_more().await;
    // A mention in that thread makes the agent part of it, at once.
    stage.slack.say("U2", "C1", &format!("<@{BOT_USER}> where?"), Some(&chatter));
    let mention = stage.next().await;
    assert_eq!(mention.conversation, format!("T0TEAM:C1:{chatter}"));
    stage.slack.say("U1", "C1", "good question", Some(&chatter));
    assert_eq!(stage.next().await.text, "good question");
    stage.slack.say("U1", "D1", "psst", None);
    assert_eq!(stage.next().await.text, "psst");
    // After a restart the thread is known again, by asking Slack once.
    stage.answer(&mention, "the canteen").await;
    let settled = |slack: &FakeSlack| slack.posts().iter().any(|post| slack.is_acked(&post.ts));
    stage.slack.wait_until("posted, and heard of it", PATIENCE, settled).await;
    stage.kill_channel().await;
    stage.start_channel(1).await;
    let asked = stage.slack.calls("conversations.replies");
    stage.slack.say("U1", "C1", "when?", Some(&chatter));
    stage.slack.say("U1", "C1", "now?", Some(&chatter));
    assert_eq!(stage.next().await.text, "when?");
    assert_eq!(stage.next().await.text, "now?");
    assert_eq!(stage.slack.calls("conversations.replies"), asked + 1);
    stage.nothing_more().await;
}

#[tokio::test]
async fn while_the_bus_is_down_nothing_is_acknowledged_and_afterwards_nothing_is_missing() {
    let pace = Pace { ack_within: Duration::from_secs(1), ..Pace::default() };
    let mut stage = Stage::set(pace).await;
    stage.server.kill();
    let ts = stage.slack.say("U1", "D1", "are you there?", None);
    let sent_again = |slack: &FakeSlack| slack.envelopes_of(&ts).iter().all(|track| track.sent >= 2);
    stage.slack.wait_until("sent again", PATIENCE, sent_again).await;
    assert!(!stage.slack.is_acked(&ts), "acknowledged without being stored");
    stage.server.start_again();
    assert_eq!(stage.next().await.text, "are you there?");
    stage.slack.wait_until("acknowledged", PATIENCE, |slack| slack.is_acked(&ts)).await;
    stage.nothing_more().await;
}

#[tokio::test]
async fn a_refresh_under_traffic_loses_nothing_and_leaves_no_gap() {
    let mut stage = Stage::set(Pace::default()).await;
    let mut said = BTreeSet::new();
    for round in 0..60 {
        if round % 20 == 10 {
            stage.slack.disconnect(if round == 10 { "warning" } else { "refresh_requested" });
        }
        said.insert(stage.slack.say("U1", "D1", "hello", None));
        sleep(Duration::from_millis(20)).await;
        assert!(stage.slack.connections() > 0, "a gap");
    }
    let mut taken = BTreeSet::new();
    while taken.len() < said.len() {
        taken.insert(stage.next().await.conversation.rsplit(':').next().unwrap().to_owned());
    }
    assert_eq!(taken, said);
    stage.nothing_more().await;
    let all_acked = |slack: &FakeSlack| slack.envelopes().iter().all(|track| track.acked.is_some());
    stage.slack.wait_until("all acknowledged", PATIENCE, all_acked).await;
    let again = stage.slack.envelopes().iter().filter(|track| track.sent > 1).count();
    assert_eq!(again, 0, "{again} had to be sent again");
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_replaced() {
    let pace = Pace { ack_within: Duration::from_secs(1), ..Pace::default() };
    let mut stage = Stage::set(pace).await;
    let opened = stage.slack.opened();
    assert_eq!(stage.slack.freeze(), 2);
    let ts = stage.slack.say("U1", "D1", "can you hear me?", None);
    stage.slack.wait_until("new connections", PATIENCE, |slack| slack.opened() >= opened + 2).await;
    assert_eq!(stage.next().await.text, "can you hear me?");
    stage.slack.wait_until("acknowledged", PATIENCE, |slack| slack.is_acked(&ts)).await;
}

#[tokio::test]
async fn a_crowd_is_met_by_leaving_and_waiting() {
    let stage = Stage::set(Pace::default()).await;
    stage.slack.set_max_connections(1);
    stage.slack.disconnect("too_many_websockets");
    stage.slack.wait_until("gone", PATIENCE, |slack| slack.connections() == 0).await;
    stage.slack.wait_until("one is back", PATIENCE, |slack| slack.connections() == 1).await;
    let before = stage.slack.opened();
    sleep(Duration::from_secs(2)).await;
    let attempts = stage.slack.opened() - before;
    assert!((1..=10).contains(&attempts), "{attempts} attempts in two seconds");
    assert_eq!(stage.slack.connections(), 1, "the one that got in was given up");
}

#[tokio::test]
async fn what_a_person_must_mend_is_not_hammered_at() {
    let stage = Stage::set(Pace::default()).await;
    stage.slack.disconnect("link_disabled");
    stage.slack.wait_until("gone", PATIENCE, |slack| slack.connections() == 0).await;
    let calls = stage.slack.calls("apps.connections.open");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.slack.calls("apps.connections.open"), calls);

    for fault in [Fault::Error("token_revoked"), Fault::MissingScope("connections:write")] {
        let slack = FakeSlack::start().await;
        slack.fail_always("apps.connections.open", Some(fault));
        let settings = config(&stage.server, &slack, 2);
        let _channel = Channel::start(stage.server.config(Component::ChannelSlack), settings).await;
        sleep(Duration::from_secs(2)).await;
        let calls = slack.calls("apps.connections.open");
        assert!((1..=2).contains(&calls), "{calls} calls");
    }
}

#[tokio::test]
async fn an_unwell_slack_is_tried_again_with_growing_pauses() {
    let mut stage = Stage::set(Pace::default()).await;
    stage.slack.fail_always("apps.connections.open", Some(Fault::Status(503)));
    let calls = stage.slack.calls("apps.connections.open");
    stage.slack.cut();
    sleep(Duration::from_secs(3)).await;
    let tries = stage.slack.calls("apps.connections.open") - calls;
    assert!((3..=20).contains(&tries), "{tries} tries in three seconds");
    stage.slack.fail_always("apps.connections.open", None);
    stage.slack.say("U1", "D1", "back?", None);
    assert_eq!(stage.next().await.text, "back?");
}

#[tokio::test]
async fn a_reply_is_posted_once_in_its_thread_and_recorded() {
    let mut stage = Stage::set(Pace::default()).await;
    let ts = stage.slack.say("U1", "C1", &format!("<@{BOT_USER}> hi"), None);
    let inbound = stage.next().await;
    let reply = stage.answer(&inbound, "**hello** <!channel>").await;
    let sent = stage.facts("message.sent", 1).await;
    let posts = stage.slack.posts();
    assert_eq!((posts.len(), sent.len()), (1, 1));
    assert_eq!((posts[0].channel.as_str(), posts[0].thread.as_str(), posts[0].plain), ("C1", ts.as_str(), false));
    assert!(posts[0].text.starts_with("**hello**") && !posts[0].text.contains("<!channel>"));
    assert_eq!(sent[0]["data"]["message"], json!(reply.id));
    assert_eq!(sent[0]["data"]["posted"], json!(posts[0].ts));
    // What the bot posted came back to it and was not taken for a message.
    stage.nothing_more().await;
}

#[tokio::test]
async fn lost_answers_rate_limits_and_faults_do_not_multiply_a_reply() {
    let mut stage = Stage::set(Pace::default()).await;
    stage.slack.say("U1", "D1", "hi", None);
    let inbound = stage.next().await;
    for fault in
        [Fault::LostAnswer, Fault::Limited(1), Fault::Status(500), Fault::Error("internal_error"), Fault::LostAnswer]
    {
        stage.slack.fail_next("chat.postMessage", fault);
    }
    let start = Instant::now();
    stage.answer(&inbound, "once").await;
    assert_eq!(stage.facts("message.sent", 1).await.len(), 1);
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After was not kept");
    assert_eq!(stage.slack.posts().len(), 1);
}

#[tokio::test]
async fn a_crash_between_posting_and_acknowledging_does_not_post_twice() {
    let mut stage = Stage::set(Pace::default()).await;
    stage.slack.say("U1", "D1", "hi", None);
    let inbound = stage.next().await;
    stage.slack.fail_next("chat.postMessage", Fault::Slow(Duration::from_secs(1)));
    stage.answer(&inbound, &format!("{}\n\n{}", "one ".repeat(1500), "two ".repeat(1500))).await;
    stage.slack.wait_until("the first part", PATIENCE, |slack| slack.posts().len() == 1).await;
    stage.kill_channel().await;
    stage.start_channel(1).await;
    let sent = stage.facts("message.sent", 1).await;
    let posts = stage.slack.posts();
    assert_eq!((posts.len(), sent.len()), (2, 1), "{posts:?}");
    assert!(posts[0].text.starts_with("one") && posts[1].text.starts_with("two"));
    assert_eq!(stage.slack.calls("chat.postMessage"), 3);
}

#[tokio::test]
async fn content_that_slack_refuses_goes_as_plain_text_and_a_place_that_is_gone_is_recorded() {
    let mut stage = Stage::set(Pace::default()).await;
    stage.slack.say("U1", "D1", "hi", None);
    let inbound = stage.next().await;
    stage.slack.fail_next("chat.postMessage", Fault::Error("invalid_blocks"));
    stage.answer(&inbound, "| odd | table | <@U2>").await;
    stage.slack.wait_until("posted", PATIENCE, |slack| slack.posts().len() == 1).await;
    let post = stage.slack.posts().remove(0);
    assert!(post.plain && post.text.contains("table") && !post.text.contains("<@U2>"), "{post:?}");

    stage.slack.fail_next("chat.postMessage", Fault::Error("is_archived"));
    stage.answer(&inbound, "too late").await;
    stage.answer(&inbound, "and on").await;
    let lost = stage.facts("message.undeliverable", 1).await;
    assert!(lost.len() == 1 && lost[0]["data"]["reason"].as_str().unwrap().contains("is_archived"), "{lost:?}");
    stage.slack.wait_until("the next one", PATIENCE, |slack| slack.posts().len() == 2).await;
}

#[tokio::test]
async fn a_gateway_cannot_write_where_nobody_asked() {
    let mut stage = Stage::set(Pace::default()).await;
    let (secret, asked) = (stage.slack.say("U9", "C9", "secret plans", None), stage.slack.say("U1", "D1", "hi", None));
    let inbound = stage.next().await;
    let attacks = [
        (
            json!({"team": "T0TEAM", "channel": "C9", "thread": secret, "seal": inbound.reply_to["seal"]}),
            format!("T0TEAM:C9:{secret}"),
        ),
        (json!({"channel": "C9", "thread_ts": secret}), inbound.conversation.clone()),
        (Value::Null, format!("T0TEAM:C9:{secret}")),
        (inbound.reply_to.clone(), format!("T0TEAM:C9:{secret}")),
    ];
    for (reply_to, conversation) in attacks.clone() {
        let forged = Outbound { reply_to, conversation, ..reply(&inbound, "psst") };
        stage.gateway.enqueue(Bus::new_trace(), &forged.id.to_string(), &forged).await.unwrap();
    }
    let refused = stage.facts("message.undeliverable", attacks.len()).await;
    assert_eq!(refused.len(), attacks.len(), "{refused:?}");
    // The control: where somebody asked, it may.
    stage.answer(&inbound, "hello").await;
    stage.slack.wait_until("posted", PATIENCE, |slack| !slack.posts().is_empty()).await;
    assert_eq!(stage.slack.posts()[0].thread, asked);
    assert_eq!(stage.slack.posts().len(), 1);
}

#[tokio::test]
async fn a_slow_thread_keeps_its_order_and_delays_no_other() {
    let mut stage = Stage::set(Pace::default()).await;
    let slow = stage.slack.say("U1", "D1", "slow", None);
    let slow_in = stage.next().await;
    let quick = stage.slack.say("U2", "D2", "quick", None);
    let quick_in = stage.next().await;
    stage.slack.fail_next("chat.postMessage", Fault::Slow(Duration::from_secs(4)));
    for number in 1..=3 {
        stage.answer(&slow_in, &number.to_string()).await;
    }
    sleep(Duration::from_millis(200)).await;
    stage.answer(&quick_in, "there").await;
    stage.slack.wait_until("the quick one", Duration::from_secs(3), |slack| !slack.posts_in(&quick).is_empty()).await;
    assert_eq!(stage.slack.posts_in(&slow).len(), 1, "the slow thread did not wait");
    stage.slack.wait_until("the slow ones", PATIENCE, |slack| slack.posts_in(&slow).len() == 3).await;
    let order: Vec<String> = stage.slack.posts_in(&slow).into_iter().map(|post| post.text).collect();
    assert_eq!(order, ["1", "2", "3"]);
}

#[tokio::test]
async fn two_hundred_turns_at_once_are_each_answered_once() {
    let mut stage = Stage::set(Pace::default()).await;
    let asked: BTreeSet<String> =
        (0..200).map(|n| stage.slack.say("U1", &format!("D{}", n % 10), "hi", None)).collect();
    for _ in 0..asked.len() {
        let inbound = stage.next().await;
        stage.answer(&inbound, "hello").await;
    }
    stage.slack.wait_until("all answered", PATIENCE, |slack| slack.posts().len() >= asked.len()).await;
    let answered: BTreeSet<String> = stage.slack.posts().into_iter().map(|post| post.thread).collect();
    assert_eq!((stage.slack.posts().len(), answered), (asked.len(), asked));
    let slowest = stage.slack.envelopes().into_iter().filter_map(|track| track.ack_latency).max().unwrap();
    assert!(slowest < Duration::from_secs(3), "an acknowledgement took {slowest:?}");
}
