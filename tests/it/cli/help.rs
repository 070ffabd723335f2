//! The help text of every command.

use super::*;

#[test]
fn help_is_as_recorded() {
    const COMMANDS: [&str; 24] = [
        "",
        "run",
        "resume",
        "verify-resume",
        "check",
        "list",
        "show",
        "diff",
        "claims",
        "report",
        "serve",
        "watch",
        "rm",
        "db",
        "space",
        "arch",
        "predict",
        "eval",
        "export",
        "export-logs",
        "data",
        "bench",
        "doctor",
        "selftest",
    ];
    for name in COMMANDS {
        let arguments = if name.is_empty() { vec!["--help"] } else { vec![name, "--help"] };
        let output = repro(&arguments).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        insta::assert_snapshot!(format!("help_{name}").trim_end_matches('_'), help);
    }
}
