//! The program `repro`: the command line of the library with the same name.

mod cmd;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
