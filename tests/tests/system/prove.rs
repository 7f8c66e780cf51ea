//! The audit log proves itself to whoever runs the user's tool: live, by a bundle, by an export; and a changed byte is found.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bus::Bus;
use proto::Component;
use proto::audit::{Fact, Scope};
use proto::content::{Content, ContentMode};
use proto::keys::SigningKey;
use proto::llm::Usage;
use proto::policy::Outcome;
use serde_json::Value;
use system_tests::Platform;
use system_tests::processes::binaries;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How long the index may take to catch up on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What an export can be converted to.
const FORMATS: [&str; 4] = ["jsonl", "ocsf", "csv", "parquet"];

/// Why the turn in these tests was denied.
const REASON: &str = "mail is for staff";

/// A platform with a turn that was answered and one that was denied, and the tool of whoever looks at it.
struct Log {
    platform: Platform,
    config: PathBuf,
    denied: Uuid,
}

impl Log {
    async fn new() -> Self {
        let platform = Platform::start().await;
        let keys = platform.server.keys(Component::Cli);
        let config = platform.server.dir().join("cli.toml");
        let text = format!(
            "origin_key = '{0}/origin.key'\ncheckpoint_key = '{0}/checkpoint.pub'\ncheckpoints = '{2}'\narchive = '{2}'\n\
             [bus]\nurl = '{1}'\nseed = '{0}/bus.nk'\n",
            keys.display(),
            platform.server.url(),
            platform.server.dir().join("nowhere").display(),
        );
        fs::write(&config, text).unwrap();
        let mut ann = platform.person("ann").await;
        ann.ask("c1", "what is 12.5% of 840?").await;
        let denied = Uuid::now_v7();
        let log = Self { platform, config, denied };
        log.deny(denied).await;
        log.until_indexed(denied).await;
        log
    }

    /// A turn in which policy said no, as its components record one.
    async fn deny(&self, turn: Uuid) {
        let (trace, server) = (Bus::new_trace(), &self.platform.server);
        let scope = || Scope {
            session: Some("s1".into()),
            turn: Some(turn),
            principal: Some("cli/bob".into()),
            channel: Some("cli".into()),
        };
        let decided = Fact::PolicyDecided {
            action: "call_tool".into(),
            resource: "mail".into(),
            outcome: Outcome::Deny,
            policies: vec!["staff-only".into()],
            reason: REASON.into(),
            caller: Component::Gateway,
            policy_set: "sha256:1".into(),
            permit: None,
            call: Some("c1".into()),
            arguments: Some(Content::of_text(r#"{"to":"all@example.org"}"#, ContentMode::Full)),
            taint: vec![],
            micros: 80,
        };
        server.connect(Component::Policy).await.record(Some(trace), scope(), decided).await.unwrap();
        let usage = Usage { input: 1, output: 1, cached: 0 };
        let (outcome, reason) = ("refused".into(), Some(REASON.into()));
        let finished = Fact::TurnFinished { outcome, reason, model_calls: 1, tool_calls: 1, usage };
        server.connect(Component::Gateway).await.record(Some(trace), scope(), finished).await.unwrap();
    }

    async fn until_indexed(&self, turn: Uuid) {
        let turn = turn.to_string();
        let until = Instant::now() + CATCH_UP;
        while self.says(&["audit", "query", "--json", "--turn", &turn]).lines().count() < 2 {
            assert!(Instant::now() < until, "the index does not catch up");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn nachos(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binaries().join("nachos"));
        command.arg("--config").arg(&self.config).args(words).env_remove("TZ").stdin(Stdio::null());
        command.output().expect("nachos runs; build it first, or run the tests by ./nachos test")
    }

    /// Standard output of a command that must end well.
    fn says(&self, words: &[&str]) -> String {
        let output = self.nachos(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn key(&self) -> String {
        self.platform.server.keys(Component::Cli).join("checkpoint.pub").display().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.platform.server.dir().join(name)
    }
}

/// The tool on a machine without the stack: no settings, only files and the key.
fn elsewhere(words: &[&str]) -> Output {
    Command::new(binaries().join("nachos")).args(words).stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Flips one bit of a copy.
fn tampered(path: &Path, at: usize) -> PathBuf {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    let copy = path.with_extension("tampered");
    fs::write(&copy, bytes).unwrap();
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_real_turns_verifies_and_another_key_does_not() {
    let log = Log::new().await;
    log.says(&["audit", "checkpoint", "--now"]);
    let summary = log.says(&["audit", "verify"]);
    assert!(summary.ends_with("\nverified\n") && !summary.contains('\u{1b}'), "{summary}");
    let verdict: Value = serde_json::from_str(&log.says(&["audit", "verify", "--json", "--no-index"])).unwrap();
    assert_eq!((&verdict["ok"], &verdict["first"]), (&true.into(), &1.into()), "{verdict}");
    assert!(verdict["sealed_upto"].as_u64().unwrap() > 10, "{verdict}");

    let other = String::from(SigningKey::from_seed([9; 32]).public());
    let refused = log.nachos(&["audit", "verify", "--no-index", "--key", &other]);
    assert_eq!(refused.status.code(), Some(1));
    let last = stdout(&refused).lines().last().unwrap().to_owned();
    assert!(last.starts_with("NOT verified: ") && last.contains("key"), "{last}");

    let checkpoint: Value = serde_json::from_str(&log.says(&["audit", "checkpoint", "--json"])).unwrap();
    let vkey = checkpoint["vkey"].as_str().unwrap();
    log.says(&["audit", "verify", "--key", vkey]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_proves_its_record_anywhere_and_no_other() {
    let log = Log::new().await;
    let turn = log.denied.to_string();
    let found = log.says(&["audit", "query", "--json", "--turn", &turn, "--type", "policy.decided"]);
    let record: Value = serde_json::from_str(&found).unwrap();
    let id = record["record"]["id"].as_str().unwrap();
    let bundle = log.file("bundle.json");
    log.says(&["audit", "prove", id, "-o", bundle.to_str().unwrap()]);

    let (path, key) = (bundle.to_str().unwrap(), log.key());
    let good = elsewhere(&["audit", "verify", "--bundle", path, "--key", &key]);
    assert!(good.status.success() && stdout(&good).ends_with("verified\n"), "{good:?}");

    let text = fs::read_to_string(&bundle).unwrap();
    for place in [REASON, "nachos.audit.log", "time_ns", "all@example.org"] {
        let at = text.find(place).unwrap_or_else(|| panic!("no {place} in {text}")) + place.len() - 1;
        let at = if place == "time_ns" { at + "\": 1".len() + 1 } else { at };
        let bad = elsewhere(&["audit", "verify", "--bundle", tampered(&bundle, at).to_str().unwrap(), "--key", &key]);
        assert_eq!(bad.status.code(), Some(1), "{place}: {bad:?}");
        assert!(stdout(&bad).contains("NOT verified: "), "{place}: {bad:?}");
    }
    let mut piped = Command::new(binaries().join("nachos"))
        .args(["audit", "verify", "--bundle", "-", "--key", &key])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(piped.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_in_each_format_verifies_alone_whole_or_selected() {
    let log = Log::new().await;
    let key = log.key();
    for format in FORMATS {
        for filters in [&[][..], &["--user", "cli/bob"]] {
            let file = log.file(&format!("export-{format}-{}.tar.zst", filters.len()));
            let path = file.to_str().unwrap();
            let words = [&["audit", "export", "--format", format, "-o", path], filters].concat();
            log.says(&words);
            let good = elsewhere(&["audit", "verify", "--export", path, "--key", &key, "--json"]);
            let verdict: Value = serde_json::from_str(&stdout(&good)).unwrap_or_default();
            assert_eq!(verdict["ok"], true, "{words:?}: {good:?}");
            let records = verdict["records"].as_u64().unwrap();
            assert!(if filters.is_empty() { records > 10 } else { records == 2 }, "{verdict}");
            let half = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap() / 2;
            let bad =
                elsewhere(&["audit", "verify", "--export", tampered(&file, half).to_str().unwrap(), "--key", &key]);
            assert_eq!(bad.status.code(), Some(1), "{words:?}: {bad:?}");
            assert!(stdout(&bad).contains("NOT verified: "), "{words:?}: {bad:?}");
        }
    }
    let plain = log.says(&["audit", "export", "--plain", "--user", "cli/bob"]);
    assert_eq!(plain.lines().count(), 2, "{plain}");
    let piped = log.nachos(&["audit", "export", "--format", "jsonl"]);
    assert!(piped.status.success() && piped.stdout.len() > 1000, "{piped:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_told_as_a_story_with_the_reason_of_its_denial() {
    let log = Log::new().await;
    let turn = log.denied.to_string();
    let story = log.says(&["audit", "show", &turn]);
    for told in ["cli/bob", "mail", REASON, "staff-only", "all@example.org", "verified"] {
        assert!(story.contains(told), "{told} is not in {story}");
    }
    assert!(!story.contains("NOT verified"), "{story}");

    let found = log.says(&["audit", "query", "--json", "--type", "tool.started"]);
    let run: Value = serde_json::from_str(found.lines().next().unwrap()).unwrap();
    let by_number = log.says(&["audit", "show", &run["seq"].to_string()]);
    assert!(by_number.contains("calc") && by_number.contains("105"), "{by_number}");
    let trace = run["record"]["traceparent"].as_str().unwrap().split('-').nth(1).unwrap();
    assert_eq!(log.says(&["audit", "show", &trace[..8]]), by_number);
    let json: Value = serde_json::from_str(&log.says(&["audit", "show", &turn, "--json"])).unwrap();
    assert_eq!(json["verified"], true, "{json}");
    assert_eq!(log.nachos(&["audit", "show", &Uuid::nil().to_string()]).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_said_can_be_erased_and_the_log_still_verifies() {
    let log = Log::new().await;
    let bob = ["audit", "erase", "--user", "cli/bob", "--reason", "asked for it"];
    let unasked = log.nachos(&bob);
    assert_eq!(unasked.status.code(), Some(1), "{unasked:?}");
    let counted = log.says(&[&bob[..], &["--dry-run"]].concat());
    assert!(counted.contains("1 record would be erased"), "{counted}");
    log.says(&[&bob[..], &["--yes"]].concat());
    let story = log.says(&["audit", "show", &log.denied.to_string()]);
    assert!(!story.contains("all@example.org") && story.contains(REASON), "{story}");
    log.says(&["audit", "checkpoint", "--now"]);
    log.says(&["audit", "verify"]);
}
