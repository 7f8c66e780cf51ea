//! Somebody who owns the bus, its volume, the archive or the index changes the record: each way is found by `nachos audit verify` as a
//! user runs it, which names the record. Beside every attack stands the same log untouched, which passes.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bus::Bus;
use proto::Component;
use proto::audit::{CHECKPOINTS, Fact, STREAM, Scope};
use proto::keys::SigningKey;
use proto::seal::SealRequest;
use serde_json::Value;
use system_tests::Server;
use system_tests::owner::{Copy, Owner};
use system_tests::processes::{Stack, binaries};
use tokio::time::{Instant, sleep};

/// Records of the log that is attacked: several checkpoints, and fast to make.
const RECORDS: usize = 60;

/// How long the audit service may take to seal on a busy machine.
const SEALED: Duration = Duration::from_secs(30);

/// A bus with a sealed log, and the settings of the tool that verifies it.
struct Log {
    stack: Stack,
    server: Server,
    config: PathBuf,
}

impl Log {
    async fn new() -> Self {
        let server = Server::start().await;
        let keys = server.keys(Component::Cli);
        let config = server.dir().join("cli.toml");
        let text = format!(
            "origin_key = '{0}/origin.key'\n[bus]\nurl = '{1}'\nseed = '{0}/bus.nk'\n",
            keys.display(),
            server.url()
        );
        fs::write(&config, text).unwrap();
        let mut log = Self { stack: Stack::new(&server), server, config };
        log.stack.start(Component::Audit, "");
        log.stack.ready(Component::Audit).await;
        log
    }

    /// Writes records and has them sealed, with a checkpoint in between.
    async fn write(&self, from: usize, count: usize) {
        let gateway = self.server.connect(Component::Gateway).await;
        for part in [from..from + count / 2, from + count / 2..from + count] {
            for version in part {
                let fact = Fact::ComponentStarted { version: version.to_string() };
                gateway.record(None, Scope::default(), fact).await.unwrap();
            }
            self.seal().await;
        }
        gateway.drain().await;
    }

    async fn seal(&self) -> u64 {
        let cli = self.server.connect(Component::Cli).await;
        let until = Instant::now() + SEALED;
        let sealed = loop {
            match cli.request(Bus::new_trace(), &SealRequest { v: 1, now: true }).await {
                Ok(seal) => break seal.size,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(100)).await;
        };
        cli.drain().await;
        sealed
    }

    /// The server falls into the attacker's hands; the audit service knows nothing of it.
    async fn taken_over(&mut self) -> Owner {
        self.stack.kill(Component::Audit);
        self.server.taken_over().await
    }

    fn checkpoints(&self) -> PathBuf {
        self.server.dir().join("processes/audit/checkpoints/checkpoints.jsonl")
    }

    fn key(&self) -> PathBuf {
        self.server.keys(Component::Cli).join("checkpoint.pub")
    }

    fn nachos(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binaries().join("nachos"));
        command.arg("--config").arg(&self.config).args(words).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.output().expect("nachos runs; build it first, or run the tests by ./nachos test")
    }

    /// `nachos audit verify` on the bus, with the second store.
    fn verify(&self, more: &[&str]) -> Verdict {
        let (store, key) = (self.checkpoints(), self.key());
        let (store, key) = (store.to_str().unwrap(), key.to_str().unwrap());
        let mut words = vec!["audit", "verify", "--json", "--checkpoints", store, "--key", key];
        words.extend_from_slice(more);
        Verdict::of(&self.nachos(&words))
    }
}

/// What a verification said.
#[derive(Debug)]
struct Verdict {
    ok: bool,
    said: String,
}

impl Verdict {
    fn of(output: &Output) -> Self {
        let said = [&output.stdout[..], b"\n", &output.stderr].concat();
        Self { ok: output.status.success(), said: String::from_utf8(said).unwrap() }
    }

    /// It was found, and said in these words.
    #[track_caller]
    fn found(&self, attack: &str, words: &[&str]) {
        println!("{:<55} {}", attack, self.first_problem());
        assert!(!self.ok, "{attack} was not found: {}", self.said);
        for word in words {
            assert!(self.said.contains(word), "{attack}: `{word}` is not said: {}", self.said);
        }
    }

    #[track_caller]
    fn passed(&self, what: &str) {
        println!("{what:<55} verified");
        assert!(self.ok, "{what}: {}", self.said);
    }

    fn first_problem(&self) -> String {
        let report: Value = self.said.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        let what = report["problems"][0]["what"].as_str().map(str::to_owned);
        what.unwrap_or_else(|| self.said.lines().next().unwrap_or_default().to_owned())
    }
}

/// The log as it was at one time: both streams.
async fn snapshot(owner: &Owner) -> (Copy, Copy) {
    (owner.copy(STREAM).await, owner.copy(CHECKPOINTS).await)
}

#[tokio::test]
async fn whoever_owns_the_bus_cannot_change_delete_or_reorder_records_unseen() {
    let mut log = Log::new().await;
    log.write(0, RECORDS).await;
    log.verify(&[]).passed("untouched");
    let owner = log.taken_over().await;
    log.verify(&["--no-index"]).passed("untouched, the audit service is gone");
    let (records, _) = snapshot(&owner).await;
    let original = owner.messages(STREAM).await;

    let mut changed = original.clone();
    let body = String::from_utf8(changed[19].body.to_vec()).unwrap();
    changed[19].body = body.replacen("started", "startef", 1).into();
    owner.remake(STREAM, &changed).await;
    log.verify(&["--no-index"]).found("one byte of record 20 changed, the stream remade", &["record"]);

    owner.put_back(STREAM, &records).await;
    log.verify(&["--no-index"]).passed("put back as it was");

    owner.delete(STREAM, &[20]).await;
    log.verify(&["--no-index"]).found("record 20 deleted", &["20"]);

    owner.put_back(STREAM, &records).await;
    let mut reordered = original.clone();
    reordered.swap(29, 30);
    owner.remake(STREAM, &reordered).await;
    log.verify(&["--no-index"]).found("records 30 and 31 reordered, the stream remade", &["record"]);
}

#[tokio::test]
async fn an_old_copy_of_the_log_is_not_taken_for_the_log() {
    let mut log = Log::new().await;
    log.write(0, RECORDS).await;
    let owner = log.taken_over().await;
    let (old_records, old_checkpoints) = snapshot(&owner).await;
    // The platform goes on, on the server that is no longer its own.
    log.stack.start_again(Component::Audit);
    log.stack.ready(Component::Audit).await;
    log.write(RECORDS, RECORDS).await;
    log.verify(&[]).passed("untouched, twice as long");
    log.stack.kill(Component::Audit);
    let (new_records, new_checkpoints) = snapshot(&owner).await;

    owner.put_back(STREAM, &old_records).await;
    log.verify(&["--no-index"]).found("the tail cut off", &["checkpoint"]);
    owner.put_back(CHECKPOINTS, &old_checkpoints).await;
    log.verify(&["--no-index"]).found("an old log with its consistent old checkpoints", &["checkpoint"]);
    // The control: without the second store this attack is not seen. That is what the store is for.
    let key = log.key();
    let blind = log.nachos(&[
        "audit",
        "verify",
        "--json",
        "--no-index",
        "--checkpoints",
        "none",
        "--key",
        key.to_str().unwrap(),
    ]);
    Verdict::of(&blind).passed("the same without the second store (the control)");

    owner.put_back(STREAM, &new_records).await;
    owner.put_back(CHECKPOINTS, &new_checkpoints).await;
    log.verify(&["--no-index"]).passed("put back as it was");
    let dropped = owner.last(CHECKPOINTS).await - 1;
    owner.delete(CHECKPOINTS, &[dropped]).await;
    log.verify(&["--no-index"]).found("a checkpoint dropped", &["checkpoint"]);
}

#[tokio::test]
async fn a_fork_and_a_swapped_key_are_found() {
    let mut log = Log::new().await;
    log.write(0, RECORDS).await;
    let owner = log.taken_over().await;
    let (records, checkpoints) = snapshot(&owner).await;
    let volume = log.server.dir().join("processes/audit");
    let saved = log.server.dir().join("saved");
    copy_folder(&volume, &saved);
    log.stack.start_again(Component::Audit);
    log.stack.ready(Component::Audit).await;
    log.write(RECORDS, RECORDS).await;
    log.stack.kill(Component::Audit);
    let second_store = fs::read(log.checkpoints()).unwrap();

    // Everything but the second store goes back in time, and another history is written and honestly sealed.
    owner.put_back(STREAM, &records).await;
    owner.put_back(CHECKPOINTS, &checkpoints).await;
    fs::remove_dir_all(&volume).unwrap();
    copy_folder(&saved, &volume);
    log.server.provision(&bus::StreamSizes::default()).await.unwrap();
    log.stack.start_again(Component::Audit);
    log.stack.ready(Component::Audit).await;
    log.write(5000, RECORDS).await;
    log.stack.kill(Component::Audit);
    log.verify(&["--no-index"]).passed("the fork by itself (the control)");
    fs::write(log.checkpoints(), &second_store).unwrap();
    log.verify(&["--no-index"]).found("a fork after a checkpoint", &["checkpoint"]);

    let other = log.server.dir().join("other.pub");
    fs::write(&other, String::from(SigningKey::from_seed([9; 32]).public())).unwrap();
    let words = ["audit", "verify", "--json", "--no-index", "--checkpoints", "none", "--key", other.to_str().unwrap()];
    Verdict::of(&log.nachos(&words)).found("the key swapped", &["key"]);
}

#[tokio::test]
async fn an_edited_index_or_archive_is_found() {
    let mut log = Log::new().await;
    log.write(0, RECORDS).await;
    log.verify(&[]).passed("untouched");
    let archived = log.nachos(&["audit", "archive", "--before", "2100-01-01T00:00:00Z", "--json"]);
    assert!(archived.status.success(), "{archived:?}");
    let folder = log.server.dir().join("processes/audit/archive");
    let file = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_file()).unwrap();
    let words = |path: &str| {
        let key = log.key();
        Verdict::of(&log.nachos(&["audit", "verify", "--json", "--archive-file", path, "--key", key.to_str().unwrap()]))
    };
    words(file.to_str().unwrap()).passed("the archive file");
    for place in [3, 2] {
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.len() * (place - 1) / place;
        bytes[at] ^= 1;
        let edited = log.server.dir().join("edited.tar.zst");
        fs::write(&edited, bytes).unwrap();
        words(edited.to_str().unwrap()).found(&format!("a byte of the archive file, {}/{place} in", place - 1), &[]);
    }

    log.stack.kill(Component::Audit);
    let index = log.server.dir().join("processes/audit/index.db");
    edit(&index, "UPDATE records SET raw = replace(raw, 'started', 'stopped') WHERE seq = 12").await;
    edit(&index, "UPDATE records SET component = 'policy' WHERE seq = 14").await;
    log.stack.start_again(Component::Audit);
    log.stack.ready(Component::Audit).await;
    log.verify(&[]).found("two rows of the query index edited", &["12", "14"]);
}

/// A program that is not ours (`tests/independent.py`, written from RFC 9162 and the C2SP texts) comes to the same verdicts.
#[tokio::test]
async fn an_independent_program_verifies_our_proofs() {
    let log = Log::new().await;
    log.write(0, RECORDS).await;
    let trusted = log.key().display().to_string();
    let key = fs::read_to_string(&trusted).unwrap();
    let key = ledger::checkpoint::vkey(&ledger::checkpoint::read_key(&key).unwrap());
    let file = log.server.dir().join("bundle.json");
    let check = |bundle: &str| {
        fs::write(&file, bundle).unwrap();
        let program = system_tests::platform::repository().join("tests/independent.py");
        let output = Command::new("python3").arg(program).arg(&file).arg(&key).output();
        let output = output.expect("python3; ./nachos test installs it");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said)
    };
    for seq in [1, 2, 31, 32, 33, RECORDS] {
        let bundle = log.nachos(&["audit", "prove", &seq.to_string(), "--key", &trusted]);
        assert!(bundle.status.success(), "{bundle:?}");
        let bundle = String::from_utf8(bundle.stdout).unwrap();
        let (ok, said) = check(&bundle);
        assert!(ok && said.starts_with("verified"), "{said}");
        let mut json: Value = serde_json::from_str(&bundle).unwrap();
        json["record"]["time_ns"] = (json["record"]["time_ns"].as_i64().unwrap() + 1).into();
        assert!(!check(&json.to_string()).0, "a changed time passes");
        let forged = bundle.replacen("nachos-audit-", "nachos-audix-", 1);
        assert!(!check(&forged).0, "a changed checkpoint passes");
        println!("record {seq}: {}", said.trim());
    }
}

async fn edit(index: &std::path::Path, sql: &'static str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(index);
    let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
    let edited = sqlx::query(sql).execute(&pool).await.unwrap();
    assert_eq!(edited.rows_affected(), 1, "{sql}");
    pool.close().await;
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
