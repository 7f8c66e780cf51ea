//! The codecs against files: `<case>.ask.json` is our request and `<case>.request.json` the provider's body; `<case>.stream.txt` is what
//! a provider sends and `<case>.chunks.json` what becomes of it. `UPDATE_EXPECT=1` writes the expected files anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use expect_test::expect_file;
use llm_proxy::openai::Dialect;
use llm_proxy::reply::Reply;
use llm_proxy::wire::Wire;
use proto::llm::ModelRequest;
use serde_json::{Map, Value, json};

/// The wire of each folder.
const WIRES: [(&str, Wire); 2] = [("openai", Wire::OpenAi(Dialect::OpenAi)), ("anthropic", Wire::Anthropic)];

fn cases(provider: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(provider);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = files.filter(|file| file.to_str().unwrap().ends_with(ending)).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn beside(file: &Path, ending: &str, other: &str) -> PathBuf {
    file.to_str().unwrap().replace(ending, other).into()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn our_requests_become_the_providers() {
    for (provider, wire) in WIRES {
        for file in cases(provider, ".ask.json") {
            let (request, extra) = request(&std::fs::read_to_string(&file).unwrap());
            let body = wire.body(&request, "the-model", &extra);
            expect_file![beside(&file, ".ask.json", ".request.json")].assert_eq(&pretty(&body));
        }
    }
}

fn request(text: &str) -> (ModelRequest, Map<String, Value>) {
    let mut ask: Map<String, Value> = serde_json::from_str(text).unwrap();
    let extra = ask.remove("extra").map(|extra| extra.as_object().unwrap().clone()).unwrap_or_default();
    let rest = json!({"origin": "a.b.c", "session": "s", "turn": uuid::Uuid::nil(), "max_tokens": 1000});
    ask.extend(rest.as_object().unwrap().clone());
    (serde_json::from_value(Value::Object(ask)).unwrap(), extra)
}

#[test]
fn other_servers_get_the_plain_fields() {
    let (request, extra) = request(r#"{"system": "", "messages": [{"role": "user", "text": "x"}]}"#);
    let body = Wire::OpenAi(Dialect::Compatible).body(&request, "m", &extra);
    assert_eq!(
        body,
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true, "max_tokens": 1000,
               "stream_options": {"include_usage": true}})
    );
}

#[tokio::test]
async fn the_providers_streams_become_ours() {
    for (provider, wire) in WIRES {
        for file in cases(provider, ".stream.txt") {
            let stream = std::fs::read(&file).unwrap();
            let whole = decode(wire, &stream, stream.len()).await;
            expect_file![beside(&file, ".stream.txt", ".chunks.json")].assert_eq(&pretty(&whole));
        }
    }
}

#[tokio::test]
async fn where_the_network_splits_a_stream_changes_nothing() {
    for (provider, wire) in WIRES {
        for file in cases(provider, ".stream.txt") {
            let stream = std::fs::read(&file).unwrap();
            let whole = decode(wire, &stream, stream.len()).await;
            for size in 1..=7 {
                assert_eq!(decode(wire, &stream, size).await, whole, "{} in pieces of {size}", file.display());
            }
        }
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_is_never_a_success() {
    for (provider, wire) in WIRES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(provider).join("one_tool.stream.txt");
        let stream = std::fs::read(file).unwrap();
        // Of OpenAI's wire, an answer is whole when the model said why it stopped; what follows is the bill.
        let text = String::from_utf8(stream.clone()).unwrap();
        let whole = text.find("\"tool_calls\"}").or_else(|| text.find("message_stop\"")).unwrap();
        for cut in 0..whole {
            let decoded = decode(wire, &stream[..cut], 64).await;
            assert!(decoded["failure"].is_string(), "{provider} cut at {cut}: {decoded}");
        }
    }
}

async fn decode(wire: Wire, stream: &[u8], size: usize) -> Value {
    let reads: Vec<io::Result<Bytes>> =
        stream.chunks(size.max(1)).map(|read| Ok(Bytes::copy_from_slice(read))).collect();
    let mut reply = Reply::new(futures_util::stream::iter(reads), wire.decoder("made".into()), Duration::from_secs(5));
    let mut chunks = Vec::new();
    let failure = loop {
        match reply.next().await {
            Ok(Some(chunk)) => chunks.push(serde_json::to_value(chunk).unwrap()),
            Ok(None) => break Value::Null,
            Err(failure) => break json!(failure.to_string()),
        }
    };
    json!({"chunks": chunks, "failure": failure})
}
