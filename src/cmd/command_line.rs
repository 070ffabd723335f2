//! The command line that started the program, stored with every run and report.

/// Set for the processes of `--jobs`: the command line that the user typed.
pub const OF_USER: &str = "REPRO_COMMAND_LINE";

/// The command line, quoted for a shell.
pub fn command_line() -> String {
    if let Ok(line) = std::env::var(OF_USER) {
        return line;
    }
    let arguments = std::env::args_os().skip(1);
    let words = arguments.map(|word| quoted(&word.to_string_lossy()));
    std::iter::once("repro".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
