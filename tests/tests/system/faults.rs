//! `kill -9` in the middle of 200 turns under load, for each process of the platform, the bus included: every message is answered
//! exactly once, and no tool runs without its decision or twice for one permit.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bus::{Bus, Call, CallError, Replies};
use futures_util::future::join_all;
use proto::audit::{Filter, Tail, TailChunk};
use proto::{Component, Refusal};
use serde_json::Value;
use system_tests::Server;
use system_tests::fakes::openai;
use system_tests::fakes::provider::{Dialect, Heard, Provider};
use system_tests::fakes::slack::{FakeSlack, Post};
use system_tests::processes::Stack;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Conversations at the same time, each a thread in a direct message of its own.
const THREADS: usize = 20;

/// Messages that a person writes in a row before waiting for the answers: the later ones wait in the session's queue.
const IN_A_ROW: usize = 2;

/// Such rows in each conversation.
const ROWS: usize = 5;

/// Messages of one conversation.
const IN_THREAD: usize = ROWS * IN_A_ROW;

/// 200.
const TURNS: usize = THREADS * IN_THREAD;

/// How many answers there are when something is killed.
const KILLS: [usize; 3] = [TURNS / 4, TURNS / 2, TURNS * 3 / 4];

/// How long the model takes, so that there is always something in progress.
const THINKING: Duration = Duration::from_millis(60);

/// Longest time for all turns of one test.
const WHOLE: Duration = Duration::from_secs(95);

/// What a killed process had in its hands comes again within [`bus::ACK_WAIT`]; until then an answer could come twice.
const SETTLED: Duration = Duration::from_secs(12);

/// How long to look for answers that come twice, at least.
const QUIET: Duration = Duration::from_secs(2);

/// How often it is looked for answers.
const LOOK: Duration = Duration::from_millis(40);

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Bus,
    Service(Component),
}

#[tokio::test]
async fn the_gateway_may_die() {
    survive(Victim::Service(Component::Gateway)).await;
}

#[tokio::test]
async fn llm_proxy_may_die() {
    survive(Victim::Service(Component::LlmProxy)).await;
}

#[tokio::test]
async fn the_tool_runner_may_die() {
    survive(Victim::Service(Component::ToolsWasm)).await;
}

#[tokio::test]
async fn policy_may_die() {
    survive(Victim::Service(Component::Policy)).await;
}

#[tokio::test]
async fn the_slack_channel_may_die() {
    survive(Victim::Service(Component::ChannelSlack)).await;
}

#[tokio::test]
async fn the_bus_may_die() {
    survive(Victim::Bus).await;
}

/// Longer than a caller believes in a server that says nothing at all, shorter than it waits for the next chunk.
const SILENCE: Duration = Duration::from_secs(11);

#[test]
fn the_death_of_a_streams_server_is_noticed_and_its_silence_is_none() {
    let here = Runtime::new().unwrap();
    let there = Runtime::new().unwrap();
    let server = here.block_on(Server::start());
    there.block_on(async {
        let audit = server.connect(Component::Audit).await;
        let silent = |_: Call<Tail>, _: Replies<TailChunk>| std::future::pending::<Result<(), Refusal>>();
        audit.serve_stream(silent).await.unwrap();
    });
    here.block_on(async {
        let cli = server.connect(Component::Cli).await;
        let tail = Tail { v: proto::VERSION, filter: Filter::default(), after: 0 };
        let mut chunks = cli.open(Bus::new_trace(), &tail).await.unwrap();
        assert!(timeout(SILENCE, chunks.next()).await.is_err(), "silence was taken for death");
        there.shutdown_background();
        let end = timeout(SILENCE, chunks.next()).await.expect("death is noticed");
        assert!(matches!(end, Some(Err(CallError::Broken(_)))), "{end:?}");
    });
}

async fn survive(victim: Victim) {
    let mut stage = Stage::set().await;
    let begun = Instant::now();
    let last_kill = stage.drive(victim).await;
    let took = begun.elapsed();
    sleep_until((last_kill + SETTLED).max(Instant::now() + QUIET)).await;
    let posts = stage.slack.posts();
    let numbers = Numbers::count(&posts, &records(&stage.server).await);
    println!("{victim:?} killed {} times in {:.1} s: {numbers}", KILLS.len(), took.as_secs_f64());
    numbers.check(&posts);
}

/// The platform between a fake Slack and a fake model.
struct Stage {
    // Dropped in this order: the processes before the server that they use.
    stack: Stack,
    server: Server,
    slack: FakeSlack,
    _model: Provider,
}

impl Stage {
    async fn set() -> Self {
        let (server, slack) = (Server::start().await, FakeSlack::start().await);
        let model = Provider::start(Dialect { path: "/v1/chat/completions", stream: openai::stream, hear }).await;
        model.think_for(THINKING);
        let mut stack = Stack::new(&server);
        stack.start_core(&model_settings(&model)).await;
        stack.start(Component::ChannelSlack, &slack_settings(&slack));
        stack.ready(Component::ChannelSlack).await;
        slack.wait_until("connected", Duration::from_secs(10), |slack| slack.connections() > 0).await;
        Self { stack, server, slack, _model: model }
    }

    /// All turns, and the kills between them. When the last kill was.
    async fn drive(&mut self, victim: Victim) -> Instant {
        let Self { stack, server, slack, .. } = self;
        let driven = {
            let slack = &*slack;
            let turns = join_all((0..THREADS).map(|thread| converse(slack, thread)));
            let all = async { tokio::join!(turns, kill(slack, (stack, server), victim)).1 };
            timeout(WHOLE, all).await
        };
        driven.unwrap_or_else(|_| {
            let answers = self.slack.posts().len();
            panic!("{answers} answers to {TURNS} messages in {WHOLE:?}\n{}", self.logs())
        })
    }

    fn logs(&self) -> String {
        let ends = self.stack.components().into_iter().map(|component| {
            let log = self.stack.log(component);
            let from = log.len().saturating_sub(4000);
            format!("== {component}\n{}\n", &log[log.ceil_char_boundary(from)..])
        });
        ends.collect()
    }
}

/// One person in one conversation: writes some messages, waits for the answers, writes again.
async fn converse(slack: &FakeSlack, thread: usize) {
    let (user, channel) = (format!("U{thread}"), format!("D{thread}"));
    let mut root: Option<String> = None;
    for number in 0..IN_THREAD {
        let ts = slack.say(&user, &channel, &question(thread * IN_THREAD + number), root.as_deref());
        let root = root.get_or_insert_with(|| ts.clone());
        // Two messages of one moment have no order; the second is written when the first is stored.
        while !slack.is_acked(&ts) {
            sleep(LOOK).await;
        }
        while (number + 1).is_multiple_of(IN_A_ROW) && slack.posts_in(root).len() <= number {
            sleep(LOOK).await;
        }
    }
}

/// Waits for the moments and kills; the victim is started again at once.
async fn kill(slack: &FakeSlack, (stack, server): (&mut Stack, &mut Server), victim: Victim) -> Instant {
    for moment in KILLS {
        while slack.posts().len() < moment {
            sleep(LOOK).await;
        }
        match victim {
            Victim::Bus => {
                server.kill();
                server.start_again();
            }
            Victim::Service(component) => {
                stack.kill(component);
                stack.start_again(component);
            }
        }
    }
    Instant::now()
}

/// Three of four messages need a tool.
fn question(number: usize) -> String {
    match number % 4 {
        0 => format!("message {number}: hello"),
        _ => format!("message {number}: what time is it?"),
    }
}

fn needs_tool(number: usize) -> bool {
    !number.is_multiple_of(4)
}

fn is_answer_to(post: &Post, number: usize) -> bool {
    post.text.contains(&format!("message {number}:"))
}

/// As the tiny model hears, with the question before each result: so every answer tells which message it belongs to.
fn hear(body: &Value) -> Heard {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let asked = messages.iter().rposition(|message| message["role"] == "user").unwrap_or_default();
    let question = messages.get(asked).map(text).unwrap_or_default();
    let results = messages[asked..].iter().filter(|message| message["role"] == "tool");
    let offered = body["tools"].as_array().cloned().unwrap_or_default();
    let name = |tool: &Value| tool["function"]["name"].as_str().unwrap_or_default().to_owned();
    Heard {
        results: results.map(|result| format!("{question} {}", text(result))).collect(),
        tools: offered.iter().map(name).collect(),
        messages: messages.len(),
        question: Some(question),
    }
}

fn model_settings(model: &Provider) -> String {
    format!(
        "default_model = 'tiny'\n\
         [[providers]]\nname = 'fake'\nkind = 'openai'\nbase_url = '{}/v1'\n\
         [[models]]\nname = 'tiny'\nprovider = 'fake'\nid = 'tiny'\n",
        model.address()
    )
}

fn slack_settings(slack: &FakeSlack) -> String {
    format!("api_url = '{}'\n[timing]\nbackoff_ms = 50\nbackoff_max_ms = 400\n", slack.api_url())
}

/// One record as the stream holds it.
struct Seen {
    seq: u64,
    component: Option<Component>,
    body: Value,
}

impl Seen {
    fn data(&self, field: &str) -> String {
        self.body["data"][field].as_str().unwrap_or_default().to_owned()
    }
}

/// The whole record, read as the audit component reads it.
async fn records(server: &Server) -> Vec<Seen> {
    let audit = server.connect(Component::Audit).await;
    let mut deliveries = audit.records().await.unwrap();
    let mut seen = Vec::new();
    while let Ok(Some(delivery)) = timeout(Duration::from_secs(2), deliveries.next()).await {
        delivery.done().await.unwrap();
        let body = delivery.body.clone().unwrap();
        seen.push(Seen { seq: delivery.seq, component: delivery.component, body });
    }
    seen
}

/// What has to hold, counted.
#[derive(Debug, Default)]
struct Numbers {
    posts: usize,
    /// Messages that have one answer of their own.
    answered: usize,
    /// Posts by which the platform says that and why there is no answer.
    excuses: usize,
    /// Conversations that have as many posts as messages.
    even_threads: usize,
    /// Conversations whose answers are in the order of the messages; a message that a killed gateway held may come after the next one.
    ordered_threads: usize,
    /// Answers that tell what a tool said, of those that should.
    told_results: usize,
    received: usize,
    sent: usize,
    turns: usize,
    decisions: usize,
    refusals: usize,
    permits: usize,
    starts: usize,
    finishes: usize,
    /// Starts whose permit no earlier decision of policy made.
    undecided: usize,
    /// Permits with more than one start, or more than one end.
    used_twice: usize,
    /// Calls of the model that were run once more, because nobody knew how the first run ended.
    repeated: usize,
}

impl Numbers {
    fn count(posts: &[Post], records: &[Seen]) -> Self {
        let of = |kind: &str| records.iter().filter(move |record| record.body["type"] == kind).collect::<Vec<_>>();
        let (starts, finishes, decisions) = (of("tool.started"), of("tool.finished"), of("policy.decided"));
        let allowed = |decision: &&&Seen| decision.data("outcome") == "allow";
        let mut numbers = Self {
            posts: posts.len(),
            received: different(&of("message.received"), "event"),
            sent: different(&of("message.sent"), "message"),
            turns: of("turn.finished").len(),
            decisions: decisions.len(),
            refusals: decisions.len() - decisions.iter().filter(allowed).count() + of("tool.refused").len(),
            starts: starts.len(),
            finishes: finishes.len(),
            used_twice: starts.len() - different(&starts, "run") + finishes.len() - different(&finishes, "run"),
            ..Self::default()
        };
        numbers.judge_runs(&starts, &decisions.into_iter().filter(|decision| allowed(&decision)).collect::<Vec<_>>());
        numbers.judge_posts(posts);
        numbers
    }

    fn judge_runs(&mut self, starts: &[&Seen], allowed: &[&Seen]) {
        let by_policy = allowed.iter().filter(|decision| decision.component == Some(Component::Policy));
        let permits: BTreeMap<String, &&Seen> = by_policy.map(|decision| (decision.data("permit"), decision)).collect();
        let decided = |start: &&&Seen| {
            permits.get(&start.data("run")).is_some_and(|decision| {
                let same = decision.body["id"] == start.body["data"]["decision"]
                    && decision.data("call") == start.data("call");
                same && decision.seq < start.seq && start.component == Some(Component::ToolsWasm)
            })
        };
        self.permits = permits.keys().filter(|permit| !permit.is_empty()).count();
        self.undecided = starts.iter().filter(|start| !decided(start)).count();
        let mut calls: Vec<_> =
            starts.iter().map(|start| (start.body["turn"].to_string(), start.data("call"))).collect();
        calls.sort();
        calls.dedup();
        self.repeated = starts.len() - calls.len();
    }

    fn judge_posts(&mut self, posts: &[Post]) {
        let own = |number: usize| posts.iter().filter(move |post| is_answer_to(post, number)).count();
        self.answered = (0..TURNS).filter(|number| own(*number) == 1).count();
        self.excuses = posts.iter().filter(|post| !(0..TURNS).any(|number| is_answer_to(post, number))).count();
        let told = |number: usize| posts.iter().any(|post| is_answer_to(post, number) && post.text.contains("Tokyo"));
        self.told_results = (0..TURNS).filter(|number| needs_tool(*number) && told(*number)).count();
        for thread in 0..THREADS {
            let here: Vec<&Post> = posts.iter().filter(|post| post.channel == format!("D{thread}")).collect();
            self.even_threads += usize::from(here.len() == IN_THREAD);
            let number = |post: &Post| (0..TURNS).find(|number| is_answer_to(post, *number));
            self.ordered_threads += usize::from(here.iter().filter_map(|post| number(post)).is_sorted());
        }
    }

    fn check(&self, posts: &[Post]) {
        let odd: Vec<&Post> =
            posts.iter().filter(|post| !(0..TURNS).any(|number| is_answer_to(post, number))).collect();
        assert_eq!(
            (self.posts, self.even_threads),
            (TURNS, THREADS),
            "not every message has exactly one answer: {odd:?}"
        );
        assert_eq!(self.answered + self.excuses, TURNS, "an answer came twice: {odd:?}");
        assert_eq!((self.received, self.sent, self.turns), (TURNS, TURNS, TURNS), "the record is not whole");
        assert_eq!(
            (self.undecided, self.used_twice),
            (0, 0),
            "a tool ran without its decision, or twice for one permit"
        );
        assert!(self.starts >= self.told_results, "a result without a run");
    }
}

fn different(records: &[&Seen], field: &str) -> usize {
    let mut values: Vec<String> = records.iter().map(|record| record.data(field)).collect();
    values.sort();
    values.dedup();
    values.len()
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let should = (0..TURNS).filter(|number| needs_tool(*number)).count();
        let Self { posts, answered, excuses, told_results, received, sent, turns, .. } = self;
        writeln!(f, "{TURNS} messages: {received} received, {turns} turns, {sent} sent on record, {posts} posts")?;
        writeln!(
            f,
            "  {answered} answered once, {excuses} told why not, {told_results} of {should} with the tool's result"
        )?;
        let Self { decisions, refusals, permits, starts, finishes, repeated, undecided, used_twice, .. } = self;
        writeln!(
            f,
            "  {decisions} decisions, {permits} permits, {starts} starts, {finishes} finishes, {repeated} repeated, {refusals} refused"
        )?;
        let ordered = self.ordered_threads;
        write!(
            f,
            "  {undecided} runs without a decision, {used_twice} permits used twice, {ordered} of {THREADS} threads in order"
        )
    }
}
