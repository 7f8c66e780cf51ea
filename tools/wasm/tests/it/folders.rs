//! What is taken from a folder, what is refused, and in which words.

use std::path::PathBuf;

use serde_json::{Value, json};
use tools_wasm::Outcome;

use crate::Bench;
use crate::handmade::Handmade;

fn changed(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest = Handmade::manifest(name);
    change(&mut manifest);
    manifest
}

#[tokio::test]
async fn a_bad_tool_is_refused_with_its_reason_and_the_others_go_on() {
    let handmade = Handmade::new();
    let good = Handmade::answers("[]");
    handmade.tool("good", &good);
    let mut expected = Vec::new();
    let mut put = |name: &'static str, manifest: Value, component: &str, part: &'static str| {
        handmade.put(name, &manifest, component);
        expected.push((name, part));
    };
    let plain = Handmade::manifest;
    put("garbage", plain("garbage"), "garbage", "not a WebAssembly component");
    put("empty", plain("empty"), "", "not a WebAssembly component");
    put("module", plain("module"), "(module)", "not a WebAssembly component");
    put("other-world", plain("other-world"), "(component)", "run");
    put("sneaky", changed("sneaky", |m| m["secret"] = json!(1)), &good, "secret");
    put("renamed", plain("another"), &good, "`another`");
    put("star", changed("star", |m| m["name"] = json!("*")), &good, "not a name");
    put("mcp", changed("mcp", |m| m["family"] = json!("mcp")), &good, "mcp");
    put("future", changed("future", |m| m["v"] = json!(2)), &good, "version 2");
    put("silent", changed("silent", |m| m["description"] = json!(" ")), &good, "description");
    put("list", changed("list", |m| m["parameters"] = json!({"type": "array"})), &good, "JSON Schema of an object");
    put("slow", changed("slow", |m| m["limits"]["timeout_ms"] = json!(3_600_000)), &good, "limits.timeout_ms");
    put("never", changed("never", |m| m["limits"]["timeout_ms"] = json!(0)), &good, "limits.timeout_ms");
    put("fat", changed("fat", |m| m["limits"]["memory_bytes"] = json!(1u64 << 40)), &good, "limits.memory_bytes");
    put("loud", changed("loud", |m| m["limits"]["output_bytes"] = json!(1u64 << 40)), &good, "limits.output_bytes");
    put("shared", plain("shared"), &Handmade::run("(memory 1 1 shared)", ""), "thread");
    put("wide", plain("wide"), &Handmade::run("(memory i64 1)", ""), "memory64");
    put("collected", plain("collected"), &Handmade::run("(type (struct (field i32)))", ""), "gc");
    handmade.file("half", "manifest.json", &plain("half").to_string());
    handmade.file("other-half", "component.wasm", &good);
    handmade.file("scribble", "manifest.json", "{");
    handmade.file(".", "loose.wasm", &good);
    handmade.file(".", "README.md", "not a tool, and not taken for one");
    handmade.file(".hidden", "manifest.json", "{");
    expected.extend([
        ("half", "component.wasm is missing"),
        ("other-half", "manifest.json is missing"),
        ("scribble", "not a tool manifest"),
        ("loose.wasm", "folder of its own"),
    ]);

    let bench = Bench::new(&[handmade.folder(), PathBuf::from("/nowhere/at/all")]);
    for (name, part) in &expected {
        assert!(bench.refusal(name).contains(part), "{name}: {}", bench.refusal(name));
    }
    assert_eq!(bench.catalogue.refused().len(), expected.len(), "{:?}", bench.catalogue.refused());
    assert_eq!(bench.catalogue.tools().count(), 1);
    assert_eq!(bench.call("good", "{}").await, Outcome::Ok("[]".to_owned()));
}

#[tokio::test]
async fn what_is_not_granted_cannot_be_imported() {
    let handmade = Handmade::new();
    handmade.tool("good", &Handmade::answers("[]"));
    for (name, import) in [
        ("wasi", r#"(import "wasi:filesystem/preopens@0.2.6" (instance (export "get-directories" (func))))"#),
        ("environment", r#"(import "wasi:cli/environment@0.2.6" (instance))"#),
        ("newer-host", r#"(import "nachos:tool/host@0.1.1" (instance (export "now-millis" (func (result u64)))))"#),
        ("bare", r#"(import "exec" (func (param "command" string)))"#),
        ("more-of-host", r#"(import "nachos:tool/host@0.1.0" (instance (export "read-file" (func))))"#),
        ("resource", r#"(import "handle" (type (sub resource)))"#),
    ] {
        handmade.tool(name, &Handmade::importing(import, "", ""));
    }
    let granted = r#"(import "nachos:tool/host@0.1.0" (instance (export "now-millis" (func (result u64)))))"#;
    handmade.tool("granted", &Handmade::importing(granted, "", ""));
    let bench = Bench::new(&[handmade.folder()]);
    for (name, part) in [
        ("wasi", "`wasi:filesystem/preopens@0.2.6`"),
        ("environment", "`wasi:cli/environment@0.2.6`"),
        ("newer-host", "`nachos:tool/host@0.1.1`"),
        ("bare", "`exec`"),
        ("more-of-host", "read-file"),
        ("resource", "`handle`"),
    ] {
        assert!(bench.refusal(name).contains(part), "{name}: {}", bench.refusal(name));
    }
    let names: Vec<_> = bench.catalogue.tools().map(|tool| tool.manifest().name.to_string()).collect();
    assert_eq!(names, ["good", "granted"]);
    assert_eq!(bench.call("good", "{}").await, Outcome::Ok("[]".to_owned()));
}

#[tokio::test]
async fn a_later_folder_cannot_replace_a_tool() {
    let (shipped, mine) = (Handmade::new(), Handmade::new());
    shipped.tool("calc", &Handmade::answers("1"));
    mine.tool("calc", &Handmade::answers("2"));
    mine.tool("mine", &Handmade::answers("3"));
    let bench = Bench::new(&[shipped.folder(), mine.folder()]);
    assert!(bench.refusal("calc").contains("already there"));
    assert_eq!(bench.call("calc", "{}").await, Outcome::Ok("1".to_owned()));
    assert_eq!(bench.call("mine", "{}").await, Outcome::Ok("3".to_owned()));
}
