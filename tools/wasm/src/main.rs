//! The container `tools-wasm`; `tools-wasm precompile FOLDER` makes machine code of a folder's tools when the image is built.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("precompile"), Some(folder)) => precompile(Path::new(&folder)),
        _ => bus::run(proto::Component::ToolsWasm, tools_wasm::serve),
    }
}

fn precompile(folder: &Path) -> ExitCode {
    let (text, code) = match tools_wasm::precompile(folder) {
        Ok(done) => (done, ExitCode::SUCCESS),
        Err(error) => (format!("tools-wasm: {error:#}"), ExitCode::FAILURE),
    };
    let _ = writeln!(std::io::stderr(), "{text}");
    code
}
