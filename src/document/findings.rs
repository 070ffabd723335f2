//! The problems that reading a document found so far.

use super::diagnostic::Diagnostic;

/// Problems, and what is needed to improve their messages at the end.
#[derive(Default)]
pub(super) struct Findings {
    pub diagnostics: Vec<Diagnostic>,
    /// Every section with the keys that it may have.
    pub sections: Vec<(String, Vec<&'static str>)>,
    /// Positions in `diagnostics` of unknown keys whose name is near to no known one. Such a key may
    /// belong in another section.
    pub strays: Vec<(usize, String)>,
}

/// A key that more sections have is not told where it belongs.
const MAX_HOMES: usize = 4;

impl Findings {
    /// The keys of a section; `None` where nothing was read as this section.
    pub(super) fn keys_of(&self, path: &str) -> Option<&[&'static str]> {
        self.sections.iter().find(|(section, _)| section == path).map(|(_, keys)| &keys[..])
    }

    /// The first diagnostic of a key.
    pub(super) fn diagnostic(&self, key: &str) -> Option<&Diagnostic> {
        self.diagnostics.iter().find(|diagnostic| diagnostic.key == key)
    }

    /// All diagnostics. Those of stray keys say in which section such a key belongs, if in any.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        for (index, key) in self.strays {
            let owners = self.sections.iter().filter(|(_, keys)| keys.contains(&key.as_str()));
            let mut homes: Vec<String> = owners
                .map(|(path, _)| match path.as_str() {
                    "" => "at the top, before the first section".to_owned(),
                    path => format!("in [{path}]"),
                })
                .collect();
            homes.dedup();
            if !homes.is_empty() && homes.len() <= MAX_HOMES {
                self.diagnostics[index].expected = format!("it belongs {}", homes.join(" or "));
            }
        }
        self.diagnostics
    }
}
