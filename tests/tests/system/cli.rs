//! The user's tool as its user runs it: the shipped binary beside the shipped services, on a real server.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use proto::Component;
use serde_json::Value;
use system_tests::Server;
use system_tests::processes::{Stack, binaries};

/// The services, and the settings of the tool.
struct Installation {
    // Dropped first: the services go before the server they are on.
    stack: Stack,
    _server: Server,
    config: PathBuf,
}

impl Installation {
    /// A bus and nothing else.
    async fn bare() -> Self {
        let server = Server::start().await;
        let (keys, config) = (server.keys(Component::Cli), server.dir().join("cli.toml"));
        let text = format!(
            "origin_key = '{0}/origin.key'\n[bus]\nurl = '{1}'\nseed = '{0}/bus.nk'\n",
            keys.display(),
            server.url()
        );
        std::fs::write(&config, text).unwrap();
        Self { stack: Stack::new(&server), _server: server, config }
    }

    /// With everything but Slack.
    async fn whole() -> Self {
        let mut installation = Self::bare().await;
        installation.stack.start_core("").await;
        for component in [Component::Audit, Component::ChannelWeb] {
            installation.stack.start(component, "");
            installation.stack.ready(component).await;
        }
        installation
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binaries().join("nachos"));
        command.arg("--config").arg(&self.config).args(words).stdin(Stdio::null());
        command.env_remove("TZ").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn nachos(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("nachos runs; build it first, or run the tests by ./nachos test")
    }

    /// Standard output of a command that must end well.
    fn says(&self, words: &[&str]) -> String {
        let output = self.nachos(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        stdout(&output)
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_question_is_answered_and_the_log_tells_the_whole_turn_under_one_trace() {
    let nachos = Installation::whole().await;
    let answer = nachos.says(&["chat", "-m", "what time is it in Tokyo?"]);
    assert!(answer.contains("Tokyo") && !answer.contains('\u{1b}'), "{answer}");

    let events = json_lines(&nachos.says(&["chat", "--json", "--session", "kitchen", "-m", "what is 12.5% of 840?"]));
    let named = |name: &str| {
        events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no {name} in {events:?}"))
    };
    assert_eq!(named("sent")["conversation"], "kitchen");
    assert_eq!(named("tool-started")["tool"], "calc");
    assert_eq!(named("tool-finished")["ok"], true);
    assert!(named("answer")["text"].as_str().unwrap().contains("105"));

    let trace = named("answer")["trace"].as_str().unwrap();
    let steps = [
        "message.received",
        "policy.decided",
        "model.requested",
        "model.answered",
        "policy.decided",
        "tool.started",
        "tool.finished",
        "model.answered",
        "message.sent",
    ];
    let kinds = await_kinds(&nachos, trace, "turn.finished");
    let mut rest = kinds.iter();
    for step in steps {
        assert!(rest.any(|kind| kind == step), "{step} is missing or out of order in {kinds:?}");
    }
    let shown = nachos.says(&["audit", "tail", "--trace", &trace[..8], "--type", "policy.*", "--tool", "calc"]);
    assert!(shown.contains("allow call_tool calc"), "{shown}");
}

/// The types of a trace's records, once one of them is `last` and the message was shown.
fn await_kinds(nachos: &Installation, trace: &str, last: &str) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let records = json_lines(&nachos.says(&["audit", "tail", "--json", "--trace", trace, "-n", "500"]));
        let kinds: Vec<String> = records.iter().map(|r| r["record"]["type"].as_str().unwrap().to_owned()).collect();
        if kinds.iter().any(|kind| kind == last) && kinds.iter().any(|kind| kind == "message.sent") {
            return kinds;
        }
        assert!(Instant::now() < until, "no {last} in {kinds:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn two_conversations_at_once_get_each_its_own_answer() {
    let nachos = Installation::whole().await;
    let asked: Vec<_> = (1..=4_u32)
        .map(|n| nachos.command(&["chat", "-m", &format!("what is 10% of {n}0?")]).spawn().unwrap())
        .collect();
    for (n, child) in (1..).zip(asked) {
        let output = child.wait_with_output().unwrap();
        let answer = stdout(&output);
        assert!(output.status.success() && answer.contains(&n.to_string()), "{n}: {output:?}");
    }
}

#[tokio::test]
async fn a_message_comes_from_standard_input_where_that_is_no_terminal() {
    let nachos = Installation::whole().await;
    let mut child = nachos.command(&["chat"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"what is 12.5% of 840?\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && stdout(&output).contains("105"), "{output:?}");
    let empty = nachos.nachos(&["chat"]);
    assert_eq!(empty.status.code(), Some(1));
    assert!(stderr(&empty).contains("nothing to say"), "{empty:?}");
}

#[tokio::test]
async fn status_and_doctor_tell_a_stopped_component_from_one_that_is_optional() {
    let mut nachos = Installation::whole().await;
    let status = nachos.says(&["status"]);
    assert!(status.contains("not running (optional)"), "{status}");
    let doctor = nachos.says(&["doctor"]);
    assert!(doctor.contains("all is well") && doctor.contains("2 off"), "{doctor}");

    nachos.stack.kill(Component::Policy);
    let doctor = nachos.nachos(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(stdout(&doctor).contains("./nachos logs policy"), "{}", stdout(&doctor));
    let status = nachos.nachos(&["status", "--json"]);
    assert_eq!(status.status.code(), Some(1));
    let down: Vec<Value> = json_lines(&stdout(&status)).into_iter().filter(|line| line["state"] == "down").collect();
    assert_eq!(down.len(), 1, "{down:?}");
    assert_eq!(down[0]["component"], "policy");
}

#[tokio::test]
async fn tools_and_rules_are_shown() {
    let nachos = Installation::whole().await;
    let tools = nachos.says(&["tools"]);
    for tool in ["clock", "calc", "text"] {
        assert!(tools.contains(tool), "{tools}");
    }
    let clock = ["policy", "check", "--user", "ann", "call-tool", "clock", "--args", r#"{"zone":"UTC"}"#];
    let allowed = nachos.says(&clock);
    assert!(allowed.starts_with("allow") && allowed.contains("permit") && allowed.contains(".cedar"), "{allowed}");
    let unknown = nachos.nachos(&["policy", "check", "--user", "ann", "call-tool", "no-such-tool"]);
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
    assert!(stdout(&unknown).starts_with("deny"), "{unknown:?}");
}

#[tokio::test]
async fn a_command_that_cannot_work_says_what_to_do_next() {
    let nachos = Installation::bare().await;
    let nobody = nachos.nachos(&["audit", "tail"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("→ nachos doctor"), "{nobody:?}");

    let silent = nachos.nachos(&["chat", "-m", "hello", "--timeout", "1"]);
    assert_eq!(silent.status.code(), Some(1));
    let told = stderr(&silent);
    assert!(
        told.contains("no sign of an answer") && told.contains("chat --session") && told.contains("nachos doctor"),
        "{told}"
    );

    std::fs::write(&nachos.config, "[bus]\nurl = 'nats://127.0.0.1:9'\nseed = '/nowhere'\n").unwrap();
    let keyless = nachos.nachos(&["status"]);
    assert!(stderr(&keyless).contains("./nachos"), "{keyless:?}");
    let doctor = nachos.nachos(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(stdout(&doctor).contains("2 wrong"), "{doctor:?}");
    assert_eq!(nachos.nachos(&["audit", "tail", "--frobnicate"]).status.code(), Some(2));
}

#[tokio::test]
async fn an_answer_that_came_too_late_is_shown_by_whoever_goes_on_with_the_conversation() {
    let mut nachos = Installation::bare().await;
    let silent = nachos.nachos(&["chat", "--session", "s", "-m", "hello", "--timeout", "1"]);
    assert_eq!(silent.status.code(), Some(1));
    nachos.stack.start_core("").await;
    let events = json_lines(&nachos.says(&["chat", "--session", "s", "--json", "-m", "what is 10% of 20?"]));
    let late = events.iter().position(|event| event["event"] == "late").expect("the first answer");
    let answer = events.iter().position(|event| event["event"] == "answer").expect("the second answer");
    assert!(late < answer && events[answer]["text"].as_str().unwrap().contains('2'), "{events:?}");
}

#[tokio::test]
async fn what_needs_no_bus_works_without_one() {
    let nachos = |words: &[&str]| Command::new(binaries().join("nachos")).args(words).output().unwrap();
    assert!(stdout(&nachos(&["version"])).starts_with("nachos "));
    let manifest = nachos(&["slack", "manifest"]);
    assert!(
        serde_json::from_str::<Value>(&stdout(&manifest)).unwrap()["settings"]["socket_mode_enabled"]
            .as_bool()
            .unwrap()
    );
}
