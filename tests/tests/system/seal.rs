//! The seal on a real stream: it goes on after a restart, is rebuilt after its volume is lost, names what was deleted, and outlives the
//! texts beside the records.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bus::{Bus, StreamSizes};
use futures_util::{StreamExt as _, pin_mut};
use ledger::verify::{Report, Verifier};
use proto::Component;
use proto::audit::{CHECKPOINTS, Fact, Filter, Query, STREAM, Scope};
use proto::content::{Content, ContentMode};
use proto::keys::PublicKey;
use proto::policy::Outcome;
use proto::seal::{Archive, Archived, Bundle, Erase, Erased, Prove, Seal, SealRequest, Subjects, Which};
use system_tests::Platform;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How long the service may take to catch up on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(30);

async fn platform() -> Platform {
    Platform::start_only(&[Component::Audit], &StreamSizes::default()).await
}

fn data(platform: &Platform) -> PathBuf {
    platform.server.dir().join("audit-data")
}

fn key(platform: &Platform) -> PublicKey {
    let text = fs::read_to_string(platform.server.keys(Component::Cli).join("checkpoint.pub")).unwrap();
    PublicKey::try_from(text.trim().to_owned()).unwrap()
}

async fn write(bus: &Bus, records: usize) {
    for version in 0..records {
        let fact = Fact::ComponentStarted { version: version.to_string() };
        bus.record(None, Scope::default(), fact).await.unwrap();
    }
}

/// Asks until everything that is stored is sealed.
async fn sealed(cli: &Bus) -> Seal {
    let until = Instant::now() + CATCH_UP;
    loop {
        let stored = cli.stream_state(STREAM).await.unwrap().last_seq;
        match cli.request(Bus::new_trace(), &SealRequest { v: 1, now: true }).await {
            Ok(seal) if seal.size >= stored => return seal,
            other => assert!(Instant::now() < until, "{stored} are stored: {other:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The stream and all checkpoints, as a stranger with the public key sees them.
async fn verified(platform: &Platform, cli: &Bus) -> Report {
    let mut verifier = Verifier::new(vec![key(platform)], Vec::new());
    let state = cli.stream_state(CHECKPOINTS).await.unwrap();
    let notes = cli.look_up_all(CHECKPOINTS, state.first_seq..=state.last_seq);
    pin_mut!(notes);
    while let Some(note) = notes.next().await {
        let note = note.unwrap().1.unwrap();
        verifier.checkpoint(std::str::from_utf8(note.body.as_bytes()).unwrap(), ledger::verify::STREAM);
    }
    let stored = cli.stream_state(STREAM).await.unwrap();
    let records = cli.look_up_all(STREAM, 1..=stored.last_seq);
    pin_mut!(records);
    while let Some(record) = records.next().await {
        match record.unwrap() {
            (_, Some(record)) => verifier.record(&record),
            (seq, None) => verifier.missing(seq),
        }
    }
    verifier.finish()
}

async fn prove(cli: &Bus, which: Which) -> Bundle {
    cli.request(Bus::new_trace(), &Prove { v: 1, which }).await.unwrap()
}

#[tokio::test]
async fn the_seal_goes_on_after_a_restart() {
    let mut platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 7).await;
    let before = sealed(&cli).await;
    platform.stop(Component::Audit).await;
    write(&cli, 5).await;
    platform.run(Component::Audit, "").await;
    let after = sealed(&cli).await;
    assert!(after.size > before.size && after.problems.is_empty(), "{after:?}");
    let report = verified(&platform, &cli).await;
    assert!(report.ok(), "{:?}", report.problems);
    assert_eq!(report.sealed_upto, after.size);
}

#[tokio::test]
async fn a_lost_volume_is_rebuilt_from_the_stream_to_the_same_root() {
    let mut platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 40).await;
    let before = sealed(&cli).await;
    platform.stop(Component::Audit).await;
    for name in ["index.db", "index.db-wal", "index.db-shm", "tree"] {
        let _absent = fs::remove_file(data(&platform).join(name));
    }
    platform.run(Component::Audit, "").await;
    write(&cli, 1).await;
    let after = sealed(&cli).await;
    assert!(after.size > before.size && after.problems.is_empty(), "{after:?}");
    let report = verified(&platform, &cli).await;
    assert!(report.ok(), "{:?}", report.problems);
    let bundle = prove(&cli, Which::Seq(3)).await;
    ledger::bundle::verify(&bundle, &[key(&platform)]).unwrap();
}

#[tokio::test]
async fn a_denied_call_is_sealed_at_once() {
    let platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    let policy = platform.server.connect(Component::Policy).await;
    let denied = Fact::PolicyDecided {
        action: "call_tool".into(),
        resource: "mail".into(),
        outcome: Outcome::Deny,
        policies: vec![],
        reason: "no".into(),
        caller: Component::Gateway,
        policy_set: "sha256:1".into(),
        permit: None,
        call: None,
        arguments: None,
        taint: vec![],
        micros: 1,
    };
    sealed(&cli).await;
    policy.record(None, Scope::default(), denied).await.unwrap();
    let stored = cli.stream_state(STREAM).await.unwrap().last_seq;
    // Half of the time after which anything is sealed, and nobody asks for it.
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let seal = cli.request(Bus::new_trace(), &SealRequest { v: 1, now: false }).await.unwrap();
        if seal.size >= stored {
            break;
        }
        assert!(Instant::now() < until, "{} of {stored} sealed", seal.size);
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn erased_texts_are_gone_and_the_proof_of_their_record_holds() {
    const SECRET: &str = "a sentence that nobody else writes";
    let platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    let scope = Scope { principal: Some("cli/ann".into()), ..Scope::default() };
    let text = Content::of_text(SECRET, ContentMode::Full);
    let fact = Fact::MessageReceived { event: "e".into(), conversation: "c".into(), text };
    let id: Uuid = cli.record(None, scope, fact).await.unwrap();
    sealed(&cli).await;
    let until = Instant::now() + CATCH_UP;
    while prove(&cli, Which::Id(id)).await.parts.is_empty() {
        assert!(Instant::now() < until, "the text did not come");
        sleep(Duration::from_millis(50)).await;
    }
    let before = prove(&cli, Which::Id(id)).await;
    assert_eq!(ledger::bundle::verify(&before, &[key(&platform)]).unwrap().texts, ["text"]);

    let erase = |dry_run| Erase {
        v: 1,
        whose: Subjects::Principal("cli/ann".into()),
        before: None,
        reason: "she asked for it".into(),
        dry_run,
    };
    assert_eq!(cli.request(Bus::new_trace(), &erase(true)).await.unwrap(), Erased { records: 1 });
    assert_eq!(cli.request(Bus::new_trace(), &erase(false)).await.unwrap(), Erased { records: 1 });
    let after = prove(&cli, Which::Id(id)).await;
    assert_eq!((&after.record, after.parts.len()), (&before.record, 0));
    ledger::bundle::verify(&after, &[key(&platform)]).unwrap();
    for name in ["contents.db", "contents.db-wal"] {
        let bytes = fs::read(data(&platform).join(name)).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|some| some == SECRET.as_bytes()), "{name} still holds it");
    }
    sealed(&cli).await;
    let erasures = Filter { types: vec!["content.erased".into()], ..Filter::default() };
    let query = Query { v: 1, filter: erasures, after: None, limit: 10, newest: false };
    assert_eq!(cli.request(Bus::new_trace(), &query).await.unwrap().records.len(), 1, "it is recorded");
}

#[tokio::test]
async fn an_archive_file_verifies_by_itself_and_holds_no_texts() {
    let platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 25).await;
    let stored = sealed(&cli).await.size;
    let archive = Archive { v: 1, before: Some("2100-01-01T00:00:00Z".parse().unwrap()) };
    let Archived { files, upto } = cli.request(Bus::new_trace(), &archive).await.unwrap();
    assert!(upto >= stored && files.len() == 1, "{files:?} up to {upto}");
    let file = fs::File::open(data(&platform).join("archive").join(&files[0])).unwrap();
    let report = ledger::pack::verify(file, &[key(&platform)], &[], &[]).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
    assert_eq!((report.first, report.last), (1, upto));
    sealed(&cli).await;
    let filed = Filter { types: vec!["log.archived".into()], ..Filter::default() };
    let query = Query { v: 1, filter: filed, after: None, limit: 10, newest: false };
    let page = cli.request(Bus::new_trace(), &query).await.unwrap();
    assert_eq!(page.records[0].record["data"]["file"], files[0]);
}

#[tokio::test]
async fn a_stream_that_contradicts_what_was_sealed_is_not_signed_again() {
    let mut platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 20).await;
    let before = sealed(&cli).await;
    platform.stop(Component::Audit).await;
    let owner = platform.server.taken_over().await;
    let mut messages = owner.messages(STREAM).await;
    let body = String::from_utf8(messages[9].body.to_vec()).unwrap();
    messages[9].body = body.replacen("started", "startef", 1).into();
    owner.remake(STREAM, &messages).await;
    platform.server.provision(&StreamSizes::default()).await.unwrap();
    // The volume is lost as well: what is rebuilt from the forged stream must not be signed.
    for name in ["index.db", "index.db-wal", "index.db-shm", "tree"] {
        let _absent = fs::remove_file(data(&platform).join(name));
    }
    platform.run(Component::Audit, "").await;
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 5).await;
    sleep(Duration::from_secs(3)).await;
    let asked = cli.request(Bus::new_trace(), &SealRequest { v: 1, now: true }).await;
    let state = cli.stream_state(CHECKPOINTS).await.unwrap();
    let newest = cli.look_up(CHECKPOINTS, state.last_seq).await.unwrap().unwrap();
    assert_eq!(newest.body.as_bytes(), before.checkpoint.as_bytes(), "nothing new was signed");
    if let Ok(seal) = asked {
        assert!(!seal.problems.is_empty(), "{seal:?}");
    }
}

#[tokio::test]
async fn a_stream_that_was_put_back_to_an_earlier_state_is_not_signed_on() {
    let mut platform = platform().await;
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 10).await;
    sealed(&cli).await;
    platform.stop(Component::Audit).await;
    let owner = platform.server.taken_over().await;
    let old = owner.messages(STREAM).await;
    platform.run(Component::Audit, "").await;
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 10).await;
    let before = sealed(&cli).await;
    platform.stop(Component::Audit).await;
    owner.remake(STREAM, &old).await;
    platform.server.provision(&StreamSizes::default()).await.unwrap();
    platform.run(Component::Audit, "").await;
    // Other records under numbers that were sealed.
    let cli = platform.server.connect(Component::Cli).await;
    write(&cli, 30).await;
    let until = Instant::now() + CATCH_UP;
    loop {
        let asked = cli.request(Bus::new_trace(), &SealRequest { v: 1, now: false }).await;
        if asked.as_ref().is_ok_and(|seal| !seal.problems.is_empty()) {
            break assert_eq!(asked.unwrap().checkpoint, before.checkpoint, "nothing new was signed");
        }
        assert!(Instant::now() < until, "{asked:?}");
        sleep(Duration::from_millis(100)).await;
    }
}
