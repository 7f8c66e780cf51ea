//! What llm-proxy adds to a provider: latency and CPU beside the same fake called directly, and requests at the same time.

use std::time::Duration;

use bus::Bus;
use futures_util::future::join_all;
use proto::Component;
use proto::llm::{ChatMessage, ModelChunk, ModelRequest};
use serde_json::json;
use system_tests::fakes::openai::{self, FakeOpenAi};
use system_tests::fakes::provider::{Answer, Said};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use uuid::Uuid;

use crate::Stage;
use crate::measure::{Series, WARM_UP, cpu_of, one_by_one};
use crate::report::{Budget, Report};

/// Short requests that are measured.
const REQUESTS: usize = 400;

/// Long answers at the same time, and the chunks of each.
const STREAMS: usize = 16;
const CHUNKS: usize = 1000;

/// From chunk to chunk of a long answer.
const PACE: Duration = Duration::from_millis(1);

/// Requests at the same time to a slow model.
const CROWD: usize = 16;
const SLOW: Duration = Duration::from_millis(200);

/// Budgets.
const CPU_OF_REQUEST: Duration = Duration::from_micros(80);
const CPU_OF_CHUNK: Duration = Duration::from_micros(15);
/// What a delayed acknowledgement costs where TCP_NODELAY was forgotten.
const STALL: Duration = Duration::from_millis(40);

/// llm-proxy's settings: the offline model stays the default.
pub fn settings(model: &FakeOpenAi) -> String {
    format!(
        "default_model = 'demo'\n\
         [[providers]]\nname = 'fake'\nkind = 'openai'\nbase_url = '{}'\n\
         [[models]]\nname = 'fake'\nprovider = 'fake'\nid = 'fake'\n",
        model.base_url()
    )
}

/// Everything about llm-proxy.
pub async fn models(report: &mut Report, stage: &mut Stage) {
    let request_cpu = short(report, stage).await;
    long(report, stage, request_cpu).await;
    crowd(report, stage).await;
}

/// Short answers one by one. The CPU time of one.
async fn short(report: &mut Report, stage: &Stage) -> Duration {
    let mut connection = Direct::open(&stage.model).await;
    let direct = one_by_one(REQUESTS, async || connection.ask().await).await;
    report.latency("short answer of the fake provider, asked directly", direct, None);
    let proxy = [stage.stack.pid(Component::LlmProxy)];
    let requests = one_by_one(REQUESTS, async || {
        ask(stage).await;
    });
    let (through, cpu) = cpu_of(&proxy, requests).await;
    report.latency("the same through llm-proxy: policy check and two records included", through, None);
    let added = through.median.saturating_sub(direct.median);
    report.time("latency that llm-proxy adds, the check and the records included", added, None);
    report.figure(
        "p99 of 100 short answers through llm-proxy",
        &crate::report::show(through.p99),
        Budget::of(through.p99 < STALL, "no 40 ms stalls"),
    );
    let each = cpu[0] / u32::try_from(REQUESTS + WARM_UP).expect("a small number");
    report.time("CPU of llm-proxy for a request", each, Budget::time(each, CPU_OF_REQUEST, "≤ 80 µs"));
    each
}

/// Long answers, chunk by chunk.
async fn long(report: &mut Report, stage: &Stage, request_cpu: Duration) {
    let said = |words: usize| Said { text: "chunk ".repeat(words), calls: Vec::new() };
    let event = openai::stream(&said(2)).len() - openai::stream(&said(1)).len();
    for _ in 0..STREAMS {
        stage.model.script(Answer::text(&said(CHUNKS).text).dribble(event, PACE));
    }
    let proxy = [stage.stack.pid(Component::LlmProxy)];
    let streams = join_all((0..STREAMS).map(|_| ask(stage)));
    let (chunks, cpu) = cpu_of(&proxy, streams).await;
    let chunks: u32 = chunks.into_iter().sum();
    assert!(chunks as usize >= STREAMS * CHUNKS, "{chunks} chunks");
    let requests = request_cpu * u32::try_from(STREAMS).expect("a small number");
    let each = cpu[0].saturating_sub(requests) / chunks;
    let what = format!(
        "CPU of llm-proxy for a chunk ({STREAMS} answers of {CHUNKS} chunks at once, 1 ms from chunk to chunk)"
    );
    report.time(&what, each, Budget::time(each, CPU_OF_CHUNK, "≤ 15 µs"));
}

async fn crowd(report: &mut Report, stage: &Stage) {
    stage.model.think_for(SLOW);
    let mut took = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        join_all((0..CROWD).map(|_| ask(stage))).await;
        took.push(start.elapsed());
    }
    stage.model.think_for(Duration::ZERO);
    let took = Series::of(took).median;
    let what = format!("{CROWD} requests at once to a model that takes 200 ms");
    report.time(&what, took, Budget::time(took, SLOW * 3 / 2, "about 200 ms"));
}

/// A short request through llm-proxy, read to its end; how many chunks came.
async fn ask(stage: &Stage) -> u32 {
    let request = ModelRequest {
        v: proto::VERSION,
        origin: stage.person.signed("bench", "hello"),
        session: "bench".to_owned(),
        turn: Uuid::now_v7(),
        taint: Default::default(),
        model: Some("fake".parse().expect("a name")),
        system: "You are a benchmark.".to_owned(),
        messages: vec![ChatMessage::User { text: "hello".to_owned() }],
        tools: Vec::new(),
        max_tokens: 4096,
    };
    let mut chunks = stage.gateway.open(Bus::new_trace(), &request).await.expect("a stream");
    let (mut count, mut finished) = (0, false);
    while let Some(chunk) = chunks.next().await {
        finished |= matches!(chunk.expect("a chunk"), ModelChunk::Finished { .. });
        count += 1;
    }
    assert!(finished, "an answer without its end");
    count
}

/// A connection to the fake without anything of ours, not even an HTTP client.
struct Direct {
    connection: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Direct {
    async fn open(model: &FakeOpenAi) -> Self {
        let host = model.address().trim_start_matches("http://").to_owned();
        let connection = TcpStream::connect(&host).await.expect("a connection");
        connection.set_nodelay(true).expect("TCP_NODELAY");
        let body = json!({
            "model": "fake", "stream": true, "max_completion_tokens": 4096,
            "messages": [{"role": "system", "content": "You are a benchmark."}, {"role": "user", "content": "hello"}],
        });
        let (body, path) = (body.to_string(), "/v1/chat/completions");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self { connection, request: format!("{head}{body}").into_bytes(), answer: Vec::new() }
    }

    /// One request, read to the end of its chunked body.
    async fn ask(&mut self) {
        self.connection.write_all(&self.request).await.expect("sent");
        self.answer.clear();
        while !self.answer.ends_with(b"\r\n0\r\n\r\n") {
            let read = self.connection.read_buf(&mut self.answer).await.expect("read");
            assert!(read > 0, "the fake hung up");
        }
    }
}
