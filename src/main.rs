//! The program `repro`: the command line over the library of the same name.

mod cmd;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
