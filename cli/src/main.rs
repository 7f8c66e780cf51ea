//! The binary `nachos`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
