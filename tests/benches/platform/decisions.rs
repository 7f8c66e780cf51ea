//! What a decision costs, and what a tool call costs once it is permitted.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use proto::audit::{Fact, Filter, Query, Scope};
use proto::policy::{Action, Decision, Explain, PermissibleTools, Question};
use proto::tool::{ToolCall, ToolOutcome};
use serde_json::json;
use system_tests::platform::tools_dir;
use tokio::time::Instant;
use tools_wasm::{Folders, Host, Outcome};
use uuid::Uuid;

use crate::Stage;
use crate::measure::{Series, WARM_UP, one_by_one};
use crate::report::{Budget, Report};

/// Decisions and calls that are measured.
const TIMES: usize = 500;

/// What a wasm call may cost by itself.
const WASM_BUDGET: Duration = Duration::from_millis(1);

/// Long enough that no call misses it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A check without a record, one record alone, and a check with its record.
pub async fn policy(report: &mut Report, stage: &Stage) {
    let (explain, permissible) = (explain(), permissible(stage));
    let unrecorded = one_by_one(TIMES, async || {
        stage.cli.request(Bus::new_trace(), &explain).await.expect("an explanation");
    })
    .await;
    let limit = 2 * report.floor();
    report.latency(
        "policy check, unrecorded (a dry run)",
        unrecorded,
        Budget::time(unrecorded.median, limit, "≤ 2 × floor"),
    );
    let offered = one_by_one(TIMES, async || {
        stage.gateway.request(Bus::new_trace(), &permissible).await.expect("the tools");
    });
    report.latency("which of 3 tools could be permitted, with the origin's signature checked", offered.await, None);

    let record = one_by_one(TIMES, async || {
        let fact = Fact::ComponentStarted { version: "bench".to_owned() };
        stage.gateway.record(None, Scope::default(), fact).await.expect("a record");
    });
    let record = record.await;
    report.latency("one record, flushed to disk and acknowledged", record, None);
    let question = question(stage);
    let recorded = one_by_one(TIMES, async || {
        decide(stage, &question).await;
    });
    let recorded = recorded.await;
    let budget = Budget::time(recorded.median, limit + record.median, "≤ 2 × floor + one record");
    report.latency("policy check of a tool call, recorded, with its permit", recorded, budget);
    report.latency("of that, verifying the origin and deciding, by policy's own record", deciding(stage).await, None);
}

/// What the newest records of decisions say about how long the decisions took.
async fn deciding(stage: &Stage) -> Series {
    let filter = Filter { types: vec!["policy.decided".to_owned()], ..Filter::default() };
    let query = Query { v: proto::VERSION, filter, after: None, limit: 300, newest: true };
    let page = stage.cli.request(Bus::new_trace(), &query).await.expect("records");
    let micros = page.records.iter().filter_map(|stored| stored.record["data"]["micros"].as_u64());
    Series::of(micros.map(Duration::from_micros).collect())
}

/// A permitted call through the runner, and the same call by the host alone.
pub async fn tool(report: &mut Report, stage: &Stage) {
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    let question = question(stage);
    for _ in 0..WARM_UP + TIMES {
        let call = decide(stage, &question).await;
        let start = Instant::now();
        let output = stage.gateway.request(Bus::new_trace(), &*call).await.expect("an output");
        whole.push(start.elapsed());
        assert!(matches!(output.outcome, ToolOutcome::Ok { .. }), "{:?}", output.outcome);
        own.push(Duration::from_micros(output.micros));
    }
    let counted = |runs: Vec<Duration>| Series::of(runs[WARM_UP..].to_vec());
    report.latency("wasm tool call, asked over the bus: permit checked, start and end recorded", counted(whole), None);
    let own = counted(own);
    report.latency(
        "of that, the tool itself (instantiate, run, tear down)",
        own,
        Budget::time(own.median, WASM_BUDGET, "≤ 1 ms"),
    );
    let host = host_only().await;
    report.latency("the same call by the wasm host alone", host, Budget::time(host.median, WASM_BUDGET, "≤ 1 ms"));
}

async fn host_only() -> Series {
    let host = Host::start().expect("the sandbox");
    let catalogue = host.load(&Folders { tools: vec![tools_dir()], precompiled: Vec::new() });
    let calc = Arc::clone(catalogue.get(&"calc".parse().expect("a name")).expect("the tool"));
    let arguments = arguments().to_string();
    one_by_one(TIMES, async || {
        let outcome = host.call(&calc, arguments.clone(), std::time::Instant::now() + PATIENCE).await;
        assert!(matches!(outcome, Outcome::Ok(_)), "{outcome:?}");
    })
    .await
}

/// Asks policy for a permit.
async fn decide(stage: &Stage, question: &Question) -> Box<ToolCall> {
    match stage.gateway.request(Bus::new_trace(), question).await.expect("a decision") {
        Decision::Allow { call: Some(call), .. } => call,
        other => panic!("not allowed: {other:?}"),
    }
}

/// The same question may be asked again; every answer is a permit of its own.
fn question(stage: &Stage) -> Question {
    Question {
        v: proto::VERSION,
        origin: stage.person.signed("bench", "what is 12.5% of 840?"),
        session: "bench".to_owned(),
        turn: Uuid::now_v7(),
        taint: Default::default(),
        action: action(),
    }
}

fn explain() -> Explain {
    let channel = "cli".parse().expect("a name");
    Explain {
        v: proto::VERSION,
        channel,
        team: None,
        user: "bench".to_owned(),
        taint: Default::default(),
        action: action(),
    }
}

fn permissible(stage: &Stage) -> PermissibleTools {
    let origin = stage.person.signed("bench", "hello");
    PermissibleTools { v: proto::VERSION, origin, session: "bench".to_owned(), taint: Default::default() }
}

fn action() -> Action {
    Action::CallTool { call: "call-1".to_owned(), tool: "calc".parse().expect("a name"), arguments: arguments() }
}

fn arguments() -> serde_json::Value {
    json!({"expression": "12.5% of 840"})
}
