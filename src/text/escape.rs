//! Text from outside, shown as it is: no name or error can control a terminal, break a table or become
//! markup.

/// Whether a terminal would act on the character, or reorder the text around it.
fn controls(c: char) -> bool {
    let bidirectional = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{061c}');
    c.is_control() || bidirectional
}

fn escaped(text: &str, keeps: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if controls(c) && !keeps(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// The text with its lines, but without anything that controls a terminal: `\u{1b}` for an escape.
#[must_use]
pub fn printable(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// A name with everything escaped that controls a terminal or begins a line.
#[must_use]
pub fn printable_name(name: &str) -> String {
    escaped(name, |_| false)
}

/// The text on one line, otherwise as [`printable`].
#[must_use]
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    escaped(&words.join(" "), |_| false)
}

/// An error's message without a backtrace. With `RUST_BACKTRACE` set, candle's errors print one as part
/// of their message; it would end up in the database and in every table.
#[must_use]
pub fn without_backtrace(text: &str) -> String {
    let is_frame = |line: &&str| {
        let line = line.trim_start();
        line == "Stack backtrace:" || line.starts_with("0: ")
    };
    let lines = text.lines().take_while(|line| !is_frame(line));
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The text so that Markdown shows it as it is, also in a table.
#[must_use]
pub fn escape(text: &str) -> String {
    let text: Vec<char> = one_line(text).chars().collect();
    let inner = |i: usize| text.get(i).is_some_and(|c| c.is_alphanumeric());
    let mut shown = String::new();
    for (i, c) in text.iter().enumerate() {
        // An underscore within a word is no markup.
        let within_word = i > 0 && inner(i - 1) && inner(i + 1);
        if matches!(c, '\\' | '|' | '`' | '*' | '<' | '[' | ']' | '~' | '&')
            || *c == '_' && !within_word
        {
            shown.push('\\');
        }
        shown.push(*c);
    }
    shown
}

/// The text as inline code in Markdown.
#[must_use]
pub fn code(text: &str) -> String {
    let text = one_line(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    if longest == 0 {
        return format!("`{text}`");
    }
    let fence = "`".repeat(longest + 1);
    format!("{fence} {text} {fence}")
}

/// The text as a block of code in Markdown.
#[must_use]
pub fn fenced(text: &str, language: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches('\n'))
}

/// The text on one line for XML and HTML, also within an attribute.
#[must_use]
pub fn xml(text: &str) -> String {
    one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_shows_the_text_as_it_is() {
        assert_eq!(escape("a_b _c_ x|y `z` <b> 2*3"), r"a_b \_c\_ x\|y \`z\` \<b> 2\*3");
        assert_eq!(code("echo `id`"), "`` echo `id` ``");
        assert_eq!(code("plain"), "`plain`");
        assert_eq!(fenced("a = 1\n", "toml"), "```toml\na = 1\n```\n");
        assert_eq!(fenced("```\nx", ""), "````\n```\nx\n````\n");
        assert_eq!(xml("a < \"b\"\n& c"), "a &lt; &quot;b&quot; &amp; c");
    }

    #[test]
    fn nothing_controls_a_terminal() {
        let red = "two\nlines\tand \u{1b}[31mred\u{7}\u{202e}";
        assert_eq!(one_line(red), r"two lines and \u{1b}[31mred\u{7}\u{202e}");
        assert_eq!(printable(red), "two\nlines\tand \\u{1b}[31mred\\u{7}\\u{202e}");
        assert_eq!(printable("\r\u{9b}2J"), r"\r\u{9b}2J");
        assert_eq!(escape("\u{1b}[31m"), r"\\u{1b}\[31m");
        assert_eq!(printable("é – 東"), "é – 東");
    }
}
