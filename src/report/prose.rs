//! Sentences of a report before they are written in any format.

/// Text with inline code.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prose(Vec<Span>);

/// A part of a sentence. It may hold any text; each format escapes what it must.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    Text(String),
    /// A name or a command, verbatim.
    Code(String),
}

impl Prose {
    /// Text of this program in which backticks enclose code. Text from outside is added with
    /// [`Prose::text`] and [`Prose::code`].
    #[must_use]
    pub fn marked(text: &str) -> Self {
        let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
        let span = |(i, part): (usize, &str)| {
            if i % 2 == 0 { Span::Text(part.to_owned()) } else { Span::Code(part.to_owned()) }
        };
        Self(parts.map(span).collect())
    }

    /// Appends text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(Span::Text(text.into()));
        self
    }

    /// Appends code.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.0.push(Span::Code(code.into()));
        self
    }

    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// The text without any markup.
    #[must_use]
    pub fn plain(&self) -> String {
        let text = |span: &Span| match span {
            Span::Text(text) | Span::Code(text) => text.clone(),
        };
        self.0.iter().map(text).collect()
    }
}

/// `escape` removes the spaces at the ends of a text; within a sentence they separate it from code.
pub fn keeping_ends(text: &str, escape: impl Fn(&str) -> String) -> String {
    let space = |is_there: bool| if is_there { " " } else { "" };
    let inner = escape(text);
    let after = text.ends_with(' ') && !inner.is_empty();
    format!("{}{inner}{}", space(text.starts_with(' ')), space(after))
}

impl From<String> for Prose {
    fn from(text: String) -> Self {
        Self(vec![Span::Text(text)])
    }
}

impl From<&str> for Prose {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_enclose_code() {
        let prose = Prose::marked("the weights of `rs_ws`").text(" and `x`").code("a`b");
        assert_eq!(prose.plain(), "the weights of rs_ws and `x`a`b");
        let code = |span: &&Span| matches!(span, Span::Code(_));
        assert_eq!(prose.spans().iter().filter(code).count(), 2);
    }
}
