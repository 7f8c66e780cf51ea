//! The container `tools-wasm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bus::run(proto::Component::ToolsWasm, tools_wasm::serve)
}
