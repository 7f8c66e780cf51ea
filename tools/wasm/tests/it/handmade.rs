//! Components and manifests written by hand, for what no compiler makes.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder of tools.
pub(crate) struct Handmade(TempDir);

impl Handmade {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Puts a tool with a proper manifest there.
    pub(crate) fn tool(&self, name: &str, component: &str) {
        self.put(name, &Self::manifest(name), component);
    }

    pub(crate) fn put(&self, folder: &str, manifest: &Value, component: &str) {
        self.file(folder, "manifest.json", &manifest.to_string());
        self.file(folder, "component.wasm", component);
    }

    pub(crate) fn file(&self, folder: &str, name: &str, content: &str) {
        let folder = self.0.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), content).unwrap();
    }

    pub(crate) fn manifest(name: &str) -> Value {
        json!({
            "v": 1, "name": name, "family": "wasm", "description": "for a test",
            "parameters": {"type": "object", "additionalProperties": false},
            "effects": {"reads_untrusted": false, "reads_private": false, "sends_outside": false,
                        "read_only": true, "idempotent": true},
            "limits": {"timeout_ms": 200, "memory_bytes": 16 << 20, "output_bytes": 4096}
        })
    }

    /// A component that answers this text (in the escapes of WAT).
    pub(crate) fn answers(text: &str) -> String {
        let length = text.replace(r"\22", "'").len();
        Self::run(
            &format!(r#"(data (i32.const 64) "{text}")"#),
            &format!("(i32.store (i32.const 4) (i32.const 64)) (i32.store (i32.const 8) (i32.const {length}))"),
        )
    }

    /// A component whose `run` does `body` and then answers what lies at 0, with more `fields` in its module.
    pub(crate) fn run(fields: &str, body: &str) -> String {
        Self::importing("", fields, body)
    }

    /// The same with more imports.
    pub(crate) fn importing(imports: &str, fields: &str, body: &str) -> String {
        format!(
            r#"(component
                {imports}
                (type $code-is (enum "invalid-arguments" "failed"))
                (import "error-code" (type $code (eq $code-is)))
                (type $error-is (record (field "code" $code) (field "message" string)))
                (import "tool-error" (type $error (eq $error-is)))
                (core module $module
                    (memory (export "memory") 1)
                    {fields}
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                    (func (export "run") (param i32 i32) (result i32) {body} (i32.const 0)))
                (core instance $instance (instantiate $module))
                (func (export "run") (param "arguments" string) (result (result string (error $error)))
                    (canon lift (core func $instance "run") (memory (core memory $instance "memory"))
                        (realloc (core func $instance "realloc")))))"#
        )
    }
}
