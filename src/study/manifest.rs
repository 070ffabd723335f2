//! Manifests of memory studies: which supernets are measured as their space grows.

use crate::document::{self, Diagnostics, Document, Entry, Key, Overrides, Section};
use crate::manifest::NetworkInput;
use crate::manifest::dataset::{DATASETS, MAX_SIDE, check_side};
use crate::manifest::keys::{MAX_BATCH, RECOMPUTES, at_most};
use crate::manifest::wire::{SEEDS, load_document, read_seeds, read_space};
use crate::recipe::{DataConfig, ImageSource, MethodName, Recompute};
use crate::space::{BlockChoices, BlockType, Growth, SearchSpace};
use crate::text;
use std::ops::Bound::{Excluded, Included};
use std::path::{Path, PathBuf};

/// A validated study.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    pub path: PathBuf,
    /// The full manifest: the file with `--set` applied.
    pub text: String,
    pub name: String,
    pub description: String,
    pub seed: u64,
    /// The text of the space file.
    pub space_text: String,
    pub space: SearchSpace,
    pub data: DataConfig,
    pub sweep: Sweep,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// All different, each with a supernet.
    pub methods: Vec<MethodName>,
    pub recompute: Vec<Recompute>,
    pub batch_size: usize,
    /// Each process times at least this many steps,
    pub steps: usize,
    /// and more until they have taken this many seconds.
    pub seconds: f64,
    /// Processes per point.
    pub repeats: usize,
    /// A step that needs more is only predicted. `None` is no limit besides the free memory.
    pub most_bytes: Option<u64>,
    /// What grows, and the numbers of options; in the manifest's order.
    pub growth: Vec<(Growth, Vec<usize>)>,
}

const MAX_STEPS: u64 = 1000;

/// Whether the file is the manifest of a memory study: it has a section `[scaling]`. False for a file
/// that cannot be read.
#[must_use]
pub fn is_study(path: &Path) -> bool {
    Document::load(path).is_ok_and(|document| document.has("scaling"))
}

/// Reads a study and the space that it names.
///
/// # Errors
/// Every problem of either.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Study, Diagnostics> {
    let document = load_document(path, overrides)?;
    let study = document.read(|s| read_root(s, path))?;
    Ok(Study { text: document.full_text()?, ..study })
}

/// Every key of a study's manifest, as its reader asks for them.
#[must_use]
pub fn keys() -> Vec<Key> {
    document::keys(|s| read_root(s, Path::new("manifest.toml")))
}

fn read_root(s: &Section<'_>, path: &Path) -> Option<Study> {
    let name = s.identifier("name");
    let description = s.optional("description", |value| value.text("text in quotes"));
    let seeds = s.require("seeds", SEEDS).and_then(|value| {
        let seeds = read_seeds(&value)?;
        match seeds[..] {
            [seed] => Some(seed),
            _ => value.fail("has several seeds", "give one seed; `repeats` repeats a study"),
        }
    });
    let space = s
        .require("space", "the path of a space file, relative to the manifest's folder")
        .and_then(|value| read_space(s, &value, path));
    let searched = space.as_ref().map(|(_, space)| space);
    if let (Some(value), Some(space)) = (s.get("space"), searched) {
        check_types(&value, space);
        check_expansions(&value, space);
    }
    let mut images = None;
    let data = s.section("data", |s| read_data(s, &mut images, searched));
    let sweep = s.section("scaling", |s| read_sweep(s, images, searched));
    let (space_text, space) = space?;
    Some(Study {
        path: path.to_path_buf(),
        text: String::new(),
        name: name?,
        description: description?.unwrap_or_default().to_owned(),
        seed: seeds?,
        space_text,
        space,
        data: data?,
        sweep: sweep?,
    })
}

/// The first block type is the one that stays when another dimension grows.
fn check_types(value: &Entry<'_>, space: &SearchSpace) {
    let first = |block: &BlockChoices| block.types.first().copied();
    let other = |block: &&BlockChoices| !matches!(first(block), Some(BlockType::MbConv { .. }));
    if let Some(block) = space.blocks.iter().find(other) {
        let problem = format!(
            "{} has a block ({}) whose first block type is not an inverted residual",
            value.given(),
            block.label()
        );
        value.fail::<()>(problem, "a study keeps the first type; put one like k3_relu first");
    }
}

/// A study compares with explicit supernets, which such a space does not have.
fn check_expansions(value: &Entry<'_>, space: &SearchSpace) {
    if space.expands_own_input() {
        let problem = format!(
            "{} has expansion_of = \"input\", and then there is no explicit supernet to compare with",
            value.given()
        );
        value.fail::<()>(problem, "give a space without it");
    }
}

/// The supernet may have more classes than the images: its step takes the same.
fn read_data(
    s: &Section<'_>,
    images: &mut Option<usize>,
    space: Option<&SearchSpace>,
) -> Option<DataConfig> {
    let value = s.require("dataset", "the name of a data set");
    let dataset = value.as_ref().and_then(|value| value.name(DATASETS));
    let known = dataset.and_then(|dataset| dataset.known);
    *images = known.map(|known| known.train_images);
    let scaled = s.get("side");
    let side = scaled.as_ref().map_or(Some(None), |value| value.whole(1..=MAX_SIDE).map(Some));
    let (value, dataset, space, side) = (value?, dataset?, space?, side?);
    let Some(known) = known else {
        let problem = format!("{} has images of any size, on disk", value.given());
        return value.fail(problem, "give a data set that is held in memory");
    };
    check_side(&value, scaled.as_ref().zip(side), &dataset, &NetworkInput::of_space(space))?;
    if dataset.channels != space.image_channels || known.classes > space.classes {
        let problem = format!(
            "{} has {} and {} classes, the space \"{}\" takes {} and at most {}",
            value.given(),
            text::plural(dataset.channels, "channel"),
            known.classes,
            space.name,
            space.image_channels,
            space.classes
        );
        return value.fail(problem, "give a data set and a space that match");
    }
    let source = ImageSource::Dataset { name: dataset.name, side };
    Some(DataConfig { source, validation_images: 0 })
}

fn read_sweep(
    s: &Section<'_>,
    images: Option<usize>,
    space: Option<&SearchSpace>,
) -> Option<Sweep> {
    let methods = s.require("methods", "names of methods").and_then(|value| {
        let methods = value.names(&MethodName::ALL.map(|method| (method.as_str(), method)))?;
        let with_supernet = [MethodName::Dmasking, MethodName::Dnas, MethodName::Darts];
        match methods.iter().find(|method| !with_supernet.contains(method)) {
            None => Some(methods),
            Some(_) => value.fail(
                format!("{} has a method without a supernet", value.given()),
                "give dmasking, dnas or darts",
            ),
        }
    });
    let recompute = s.names("recompute", RECOMPUTES);
    let batch_size = s.require("batch_size", "the number of images per batch");
    let batch_size =
        batch_size.and_then(|value| at_most(&value, 1..=MAX_BATCH, images, "training images"));
    let steps = s.whole("steps", 1..=MAX_STEPS);
    let seconds = s.optional("seconds", |value| value.real((Included(0.0), Included(3600.0))));
    let repeats = s.whole("repeats", 1..=100);
    let most = s.optional("most_gigabytes", |value| value.real((Excluded(0.0), Included(1e6))));
    let growth = s.require("options", "what grows, and to how many options");
    let growth = growth.and_then(|value| {
        value.section(|s| {
            let lists = Growth::ALL.map(|growth| {
                let list = s.optional(growth.name(), |value| read_options(value, growth, space));
                list.map(|list| list.map(|list| (growth, list)))
            });
            let lists: Vec<_> = lists.into_iter().collect::<Option<Vec<_>>>()?;
            let lists: Vec<_> = lists.into_iter().flatten().collect();
            if lists.is_empty() {
                return value.fail(
                    "lists nothing that grows",
                    "give numbers of options, as in width = [1, 2, 4]",
                );
            }
            Some(lists)
        })
    });
    Some(Sweep {
        methods: methods?,
        recompute: recompute?,
        batch_size: batch_size?,
        steps: steps?,
        seconds: seconds?.unwrap_or_default(),
        repeats: repeats?,
        most_bytes: most?.map(|gigabytes| (1e9 * gigabytes) as u64),
        growth: growth?,
    })
}

fn read_options(
    value: &Entry<'_>,
    growth: Growth,
    space: Option<&SearchSpace>,
) -> Option<Vec<usize>> {
    let most = space.map(|space| growth.most(space));
    let mut seen = Vec::new();
    value.list(1..=100, "an ascending list of numbers of options", |member| {
        let what = format!("options of {} in the space", growth.name());
        let options = at_most(member, 1..=10_000, most, &what)?;
        if seen.last().is_some_and(|last| *last >= options) {
            return member.fail(
                format!("{options} is not larger than the number before it"),
                "give the numbers of options in ascending order",
            );
        }
        seen.push(options);
        Some(options)
    })
}
