//! The published networks, which are part of the program: `experiments/archs/`.

use crate::document::nearest;
use crate::space::ArchFile;
use std::path::Path;

/// Names and texts of the files, in the order in which they are listed.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../experiments/archs/", $name, ".toml")))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "FBNetV2_F0",
    "FBNetV2_F1",
    "FBNetV2_F2",
    "FBNetV2_F3",
    "FBNetV2_F4",
    "FBNetV2_L1",
    "FBNetV2_L2",
    "dmasking_f1",
    "dmasking_f4",
    "dmasking_l2_hs",
    "dmasking_l3",
    "fbnet_a",
    "fbnet_b",
    "fbnet_c",
    "fbnet_96",
    "mnv2",
    "mnv3",
    "mnv3_small",
    "eff_0",
];

/// Other names of these networks.
const ALIASES: &[(&str, &str)] = &[
    ("FBNetV2_F5", "FBNetV2_L2"),
    ("MobileNetV2", "mnv2"),
    ("MobileNetV3", "mnv3"),
    ("MobileNetV3_large", "mnv3"),
    ("MobileNetV3_small", "mnv3_small"),
    ("EfficientNet_B0", "eff_0"),
];

/// The names of all networks.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The network of this name. Case does not matter, and neither do `-` and `_`.
#[must_use]
pub fn network(name: &str) -> Option<ArchFile> {
    let is = |other: &str| plain(other) == plain(name);
    let alias = ALIASES.iter().find(|(alias, _)| is(alias)).map(|(_, name)| *name);
    let found = |(known, _): &&(&str, &str)| alias.map_or_else(|| is(known), |a| a == *known);
    let (known, text) = FILES.iter().find(found)?;
    // A test reads all of them.
    ArchFile::parse(text, Path::new(known)).ok()
}

/// The name that was probably meant.
#[must_use]
pub fn nearest_name(given: &str) -> Option<&'static str> {
    let all: Vec<&str> = names().chain(ALIASES.iter().map(|(alias, _)| *alias)).collect();
    let plain_names: Vec<String> = all.iter().map(|name| plain(name)).collect();
    let found = nearest(&plain(given), plain_names.iter().map(String::as_str))?;
    all.into_iter().find(|name| plain(name) == found)
}

/// What of a name matters.
fn plain(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_networks_are_read_and_written() {
        for (name, text) in FILES {
            let path = format!("experiments/archs/{name}.toml");
            let file = ArchFile::parse(text, Path::new(&path)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(file.name, *name);
            let again = ArchFile::parse(&file.to_toml(), Path::new(&path));
            assert_eq!(again.unwrap_or_else(|e| panic!("{e}")), file);
        }
    }

    #[test]
    fn networks_are_found_by_other_spellings() {
        for (given, name) in [("fbnetv2-f1", "FBNetV2_F1"), ("EfficientNet-B0", "eff_0")] {
            assert_eq!(network(given).unwrap().name, name);
        }
        assert!(network("resnet50").is_none());
        assert_eq!(nearest_name("fbnetv2-f6").map(|name| &name[..8]), Some("FBNetV2_"));
        assert_eq!(nearest_name("resnet50"), None);
        assert!(ALIASES.iter().all(|(_, name)| names().any(|known| known == *name)));
    }
}
