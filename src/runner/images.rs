//! Divides the images of a data set into the splits of a run, and checks that they are large enough.
//! The size of an image folder is only known once it is opened, so it is checked before any run.

use super::feasible::diagnostic;
use super::plan::RunPlan;
use crate::data::{self, Dataset};
use crate::manifest::{Diagnostics, Manifest, SearchTask};
use crate::recipe::{SearchConfig, for_weights};
use crate::rng::Seed;
use anyhow::Result;
use std::path::Path;

/// A data set with the splits of a run, as indices of training images.
pub(super) struct Prepared {
    pub dataset: Dataset,
    /// The images of `train` that the search sees; none where there is no search.
    pub search: Vec<usize>,
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
}

impl RunPlan<'_> {
    pub(super) fn prepare(&self, data_root: &Path) -> Result<Prepared> {
        let (config, seed) = (&self.manifest.data, Seed(self.seed));
        let dataset = data::load(config, data_root)?;
        if config.folder().is_some() {
            check_folder(self.manifest, &dataset)?;
        }
        let (train, validation) = dataset.partition(seed, config.validation_images)?;
        let search = search_images(self.manifest, &dataset, &train, seed)?;
        Ok(Prepared { dataset, search, train, validation })
    }
}

/// The training images that the search sees.
fn search_images(
    manifest: &Manifest,
    dataset: &Dataset,
    train: &[usize],
    seed: Seed,
) -> Result<Vec<usize>> {
    let Some(SearchTask { config, .. }) = manifest.search() else { return Ok(Vec::new()) };
    let SearchConfig { classes, images, weight_share, batch_size, .. } = *config;
    let of_classes = classes.map(|n| dataset.of_classes(train, seed, n));
    let all = of_classes.as_deref().unwrap_or(train);
    let images = images.unwrap_or(all.len());
    if images > all.len() {
        let problem = format!("{images} is more than the {} images to search on", all.len());
        let diagnostic = diagnostic(manifest, "search.images", problem, "give fewer");
        return Err(Diagnostics::from(diagnostic).into());
    }
    let search = data::draw(all, images, seed, "data/subset")?;
    let for_weights = for_weights(images, weight_share);
    let least = for_weights.min(images - for_weights);
    if least < batch_size {
        let problem = format!(
            "{weight_share} of {images} images leaves {least} in one of the two splits, and a batch takes \
             {batch_size}"
        );
        let expected = "give a share that leaves a full batch in both splits, or smaller batches";
        let diagnostic = diagnostic(manifest, "search.weight_share", problem, expected);
        return Err(Diagnostics::from(diagnostic).into());
    }
    Ok(search)
}

/// Opens the data set and checks what cannot be checked from the manifest alone. Returns which files
/// of an image folder are not read, as text.
///
/// # Errors
/// When an image folder has the wrong layout, or does not fit the manifest.
pub fn check_images(manifest: &Manifest, data_root: &Path) -> Result<Option<String>> {
    let is_folder = manifest.data.folder().is_some();
    let draws_classes = manifest.search().is_some_and(|search| search.config.classes.is_some());
    if !is_folder && !draws_classes {
        return Ok(None);
    }
    let dataset = data::load(&manifest.data, data_root)?;
    if is_folder {
        check_folder(manifest, &dataset)?;
    }
    for &seed in &manifest.seeds {
        let seed = Seed(seed);
        let (train, _) = dataset.partition(seed, manifest.data.validation_images)?;
        search_images(manifest, &dataset, &train, seed)?;
    }
    Ok(dataset.left_out())
}

/// The checks that the manifest's reader makes for data sets of known size.
fn check_folder(manifest: &Manifest, dataset: &Dataset) -> Result<(), Diagnostics> {
    let (data, input) = (&manifest.data, manifest.input());
    let expected = format!("give a folder and a {} with the same number of classes", input.noun());
    let mut diagnostics = Vec::new();
    let mut complain = |key, problem, expected| {
        diagnostics.push(diagnostic(manifest, key, problem, expected));
    };
    let (classes, images) = (dataset.classes.len(), dataset.train.len());
    if classes != input.classes {
        let problem =
            format!("the folder has {classes} classes, {} takes {}", input.of, input.classes);
        complain("data.folder", problem, &expected);
    }
    let available = images.saturating_sub(data.validation_images);
    if available == 0 {
        let problem =
            format!("{} leaves none of the {images} training images", data.validation_images);
        complain("data.validation_images", problem, "give fewer");
    } else if let Some(train) = manifest.train().filter(|train| train.batch_size > available) {
        let problem = format!("{} is more than the {available} images", train.batch_size);
        complain("train.batch_size", problem, "give fewer");
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(Diagnostics(diagnostics)) }
}
