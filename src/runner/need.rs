//! The memory check: what the runs of a manifest need, and which settings need less.

use crate::cost::{self, Backend, StepSetting};
use crate::data;
use crate::manifest::{Manifest, SearchTask, Task};
use crate::recipe::{Alternation, Method, MethodName, Recompute, StepExtras};
use crate::space::Dimension;
use crate::tiling::GPU_POOL_UNIT;

/// The training or search step of a manifest that needs the most memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryNeed<'a> {
    manifest: &'a Manifest,
    step: Step,
    setting: StepSetting,
    /// Bytes allocated at the peak; on the CPU with those of the data set, which stays in memory. On a GPU an
    /// estimate that is mostly too high: the network to train is about the largest of the space.
    pub bytes: u64,
    /// Bytes that decoding the largest images takes, which are part of `bytes`.
    decoding: u64,
}

/// What the step belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Search(Method),
    /// The training of the space's largest network, or of the given one.
    Training,
}

/// Settings that need less memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallerSetting {
    /// The command-line options, such as `--set search.batch_size=32`.
    pub options: String,
    /// Bytes allocated at the peak.
    pub bytes: u64,
    /// Whether this fits into free memory.
    pub fits: bool,
}

/// Which part of a space to shrink so that a step needs less memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceBottleneck {
    Options,
    TypesOrResolutions,
    /// The memory does not depend on the number of options.
    None,
}

/// The resident size of a process that allocates at most this many bytes. It adds the program
/// itself, partly used pages, and pages that the allocator keeps. This is an estimate, not a bound: at
/// the points of `reports/memory`, up to 100 MiB more were resident than allocated, and every point
/// stayed at least 32 MiB below this estimate.
#[must_use]
pub fn estimated_resident(allocated: u64) -> u64 {
    allocated + allocated / 16 + (96 << 20)
}

/// What a process takes that allocates at most this many bytes for tensors: resident memory on the CPU,
/// otherwise of the GPU's memory.
#[must_use]
pub fn estimated_taken(backend: Backend, allocated: u64) -> u64 {
    match backend {
        Backend::Cpu => estimated_resident(allocated),
        Backend::EmulatedGpu => allocated,
        Backend::Gpu => estimated_of_gpu(allocated),
    }
}

/// What a program takes of a GPU's memory that allocates at most this many bytes of it: memory pools
/// have gaps, and libraries take some for themselves. An estimate that has not been measured.
fn estimated_of_gpu(allocated: u64) -> u64 {
    allocated + allocated / 16 + (64 << 20)
}

/// The largest memory need of all runs of a manifest with this number of threads and these kernels.
#[must_use]
pub fn memory_need(
    manifest: &Manifest,
    threads: usize,
    backend: Backend,
) -> Option<MemoryNeed<'_>> {
    let methods = manifest.search().map_or(&[][..], |task| &task.methods);
    need_of(manifest, methods, threads, backend)
}

/// The same for some of the methods.
pub(super) fn need_of<'a>(
    manifest: &'a Manifest,
    methods: &[Method],
    threads: usize,
    backend: Backend,
) -> Option<MemoryNeed<'a>> {
    let searches = manifest.search().into_iter().flat_map(|task| {
        let setting = (task.config.batch_size, task.config.recompute, StepExtras::default());
        methods.iter().map(move |method| (Step::Search(*method), setting))
    });
    let training = manifest
        .train()
        .map(|train| (Step::Training, (train.batch_size, train.recompute, train.extras())));
    let steps = searches.chain(training);
    let needs = steps.map(|(step, (batch, recompute, extras))| {
        let setting = StepSetting { batch, threads, recompute, extras, backend };
        let bytes = bytes(manifest, step, setting);
        MemoryNeed { manifest, step, setting, bytes, decoding: 0 }
    });
    needs.max_by_key(|need| need.bytes)
}

fn bytes(manifest: &Manifest, step: Step, setting: StepSetting) -> u64 {
    // The weights of repeats that are finished stay until the test.
    let finished = manifest.train().map_or(0, |train| train.repeats.saturating_sub(1)) as u64;
    let bytes = match (&manifest.task, step) {
        (Task::Search(task), Step::Search(method)) => search_bytes(task, method, setting),
        (Task::Search(task), Step::Training) => {
            let weights = cost::largest_network_weights(&task.space, setting);
            cost::largest_network_step(&task.space, setting).total() + finished * weights
        }
        (Task::Network(task), _) => {
            let (arch, side) = (&task.network.arch, manifest.image_side());
            let weights = cost::network_weights(arch, side, setting);
            cost::network_step(arch, side, setting).total() + finished * weights
        }
    };
    bytes + beside_step(manifest, step, setting)
}

/// Bytes of the largest step of a search, or of scoring a network.
fn search_bytes(task: &SearchTask, method: Method, setting: StepSetting) -> u64 {
    let space = &task.space;
    let step = cost::search_step(space, method.name(), setting).total();
    if setting.backend == Backend::Cpu {
        return step;
    }
    let images = (space.max_resolution(), space.image_channels);
    let calibration = |batches: usize| batches as u64 * batch_bytes(images, setting.batch);
    let own = match method {
        Method::RandomSearch(settings) => {
            return step + calibration(settings.calibration_batches);
        }
        Method::RsWs(scores) | Method::Evolution { scores, .. } => Some(scores.calibration_batches),
        _ => None,
    };
    let ranked = task.rank_correlation.filter(|_| method.name().shares_weights());
    let batches = own.max(ranked.map(|config| config.calibration_batches));
    let scoring =
        batches.map(|batches| cost::scoring_step(space, setting).total() + calibration(batches));
    step.max(scoring.unwrap_or_default())
}

/// Bytes that are held beside those of a step: on the CPU the data set, on a GPU the batches that are made
/// ahead, and what its buffers for uploads have grown to before, beyond those of this step.
fn beside_step(manifest: &Manifest, step: Step, setting: StepSetting) -> u64 {
    if setting.backend == Backend::Cpu {
        return data::describe(manifest.data.dataset()).bytes;
    }
    // Steps that alternate by minibatch take one of each split.
    let ahead = match step {
        Step::Search(method) => match method.gradient().map(|gradient| gradient.alternation) {
            Some(Alternation::Minibatches) => 3,
            _ => 1,
        },
        Step::Training => 1,
    };
    let images = (manifest.image_side(), manifest.input().channels);
    let own = batch_bytes(images, setting.batch);
    let before = match step {
        Step::Search(_) => own,
        Step::Training => manifest
            .search()
            .map_or(own, |task| own.max(batch_bytes(images, task.config.batch_size))),
    };
    ahead * own + cost::upload_slots(before) - cost::upload_slots(own)
}

/// Bytes of a batch on a GPU, with its labels.
fn batch_bytes((side, channels): (usize, usize), images: usize) -> u64 {
    let pixels = side * side * channels;
    (size_of::<f32>() * images * (pixels + 1)).next_multiple_of(GPU_POOL_UNIT) as u64
}

impl MemoryNeed<'_> {
    /// See [`estimated_taken`].
    #[must_use]
    pub fn taken(&self, bytes: u64) -> u64 {
        estimated_taken(self.setting.backend, bytes)
    }

    /// Adds the bytes of images that are decoded while the step's tensors are in memory.
    #[must_use]
    pub fn with_decoding(self, bytes: u64) -> Self {
        Self { bytes: self.bytes + bytes, decoding: self.decoding + bytes, ..self }
    }

    /// What needs the memory, for messages: `the search by dnas`.
    #[must_use]
    pub fn subject(&self) -> String {
        match self.step {
            Step::Search(method) => format!("the search by {}", method.name()),
            Step::Training => match &self.manifest.task {
                Task::Search(_) => "the training of the largest network".to_owned(),
                Task::Network(_) => "the training of the network".to_owned(),
            },
        }
    }

    #[must_use]
    pub fn batch(&self) -> usize {
        self.setting.batch
    }

    /// Which part of the space makes the step large.
    #[must_use]
    pub fn bottleneck(&self) -> SpaceBottleneck {
        let (Some(task), Step::Search(method)) = (self.manifest.search(), self.step) else {
            return SpaceBottleneck::None;
        };
        let several = |dimension| task.space.most_options(dimension) > 1;
        match method.name() {
            MethodName::Dnas | MethodName::Darts | MethodName::Darts2 => SpaceBottleneck::Options,
            MethodName::Dmasking
                if several(Dimension::BlockType) || several(Dimension::Resolution) =>
            {
                SpaceBottleneck::TypesOrResolutions
            }
            _ => SpaceBottleneck::None,
        }
    }

    /// Settings that need less memory, for a machine with `free` bytes: block recomputation, the
    /// largest smaller batch that fits (a power of two), and both together where neither fits alone.
    /// Settings that do not fit are listed too, as a starting point.
    #[must_use]
    pub fn smaller_settings(&self, free: u64) -> Vec<SmallerSetting> {
        let StepSetting { batch, recompute, .. } = self.setting;
        let mut settings = Vec::new();
        if recompute == Recompute::None {
            settings.push(self.with(batch, Recompute::Block, free));
        }
        settings.extend(self.smaller_batch(recompute, free));
        if recompute == Recompute::None && !settings.iter().any(|setting| setting.fits) {
            settings.extend(self.smaller_batch(Recompute::Block, free));
        }
        settings
    }

    /// The largest smaller batch that fits, otherwise the smallest batch.
    fn smaller_batch(&self, recompute: Recompute, free: u64) -> Option<SmallerSetting> {
        let smaller = (1..usize::BITS).map(|power| 1 << power);
        let smaller = smaller.take_while(|batch| *batch < self.setting.batch);
        let mut last = None;
        for batch in smaller.collect::<Vec<_>>().into_iter().rev() {
            let setting = self.with(batch, recompute, free);
            if setting.fits {
                return Some(setting);
            }
            last = Some(setting);
        }
        last
    }

    fn with(&self, batch: usize, recompute: Recompute, free: u64) -> SmallerSetting {
        let setting = StepSetting { batch, recompute, ..self.setting };
        let section = match self.step {
            Step::Search(_) => "search",
            Step::Training => "train",
        };
        let mut options = Vec::new();
        if batch != self.setting.batch {
            options.push(format!("--set {section}.batch_size={batch}"));
        }
        if recompute != self.setting.recompute {
            options.push(format!("--set {section}.recompute={}", recompute.name()));
        }
        let bytes = bytes(self.manifest, self.step, setting) + self.decoding;
        let fits = self.taken(bytes) <= free;
        SmallerSetting { options: options.join(" "), bytes, fits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, Overrides};
    use std::path::Path;

    const CPU: Backend = Backend::Cpu;

    fn manifest(sets: &[&str]) -> Manifest {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/fbnetv2_f.toml");
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        manifest::load(&path, &Overrides { sets, seeds: Vec::new() }).unwrap()
    }

    /// The bytes that a manifest needs with these command-line options.
    fn bytes_with(options: &str) -> u64 {
        let sets: Vec<&str> = options.split("--set ").filter(|set| !set.is_empty()).collect();
        let sets: Vec<&str> = sets.into_iter().map(str::trim).collect();
        memory_need(&manifest(&[&["search.method=dnas"], &sets[..]].concat()), 2, CPU)
            .unwrap()
            .bytes
    }

    #[test]
    fn the_largest_step_is_found() {
        let masked = manifest(&[]);
        let masked = memory_need(&masked, 2, CPU).unwrap();
        assert_eq!(masked.subject(), "the search by dmasking");
        assert_eq!(masked.bottleneck(), SpaceBottleneck::TypesOrResolutions);
        let explicit = manifest(&["search.method=dnas"]);
        let explicit = memory_need(&explicit, 2, CPU).unwrap();
        assert!(explicit.bytes > 10 * masked.bytes, "{explicit:?} {masked:?}");
        assert_eq!(explicit.bottleneck(), SpaceBottleneck::Options);
        let large = manifest(&["search.method=random", "train.batch_size=512"]);
        let large = memory_need(&large, 2, CPU).unwrap();
        assert_eq!(
            (large.subject().as_str(), large.batch()),
            ("the training of the largest network", 512)
        );
        assert_eq!(large.bottleneck(), SpaceBottleneck::None);
        assert!(large.smaller_settings(0)[0].options.starts_with("--set train."));
    }

    #[test]
    fn smaller_settings_need_what_they_say() {
        let explicit = manifest(&["search.method=dnas"]);
        let explicit = memory_need(&explicit, 2, CPU).unwrap();
        let listed = |settings: &[SmallerSetting]| {
            settings.iter().map(|s| (s.options.clone(), s.fits)).collect::<Vec<_>>()
        };
        // One byte less than the need: each setting alone is enough.
        let all = explicit.smaller_settings(estimated_resident(explicit.bytes) - 1);
        let half = format!("--set search.batch_size={}", explicit.batch() / 2);
        let block = "--set search.recompute=block".to_owned();
        assert_eq!(listed(&all), [(block.clone(), true), (half, true)]);
        for SmallerSetting { options, bytes, .. } in &all {
            assert_eq!(bytes_with(options), *bytes, "{options}");
            assert!(*bytes < explicit.bytes, "{options}");
        }
        // Less than the smallest batch needs: only both together fit.
        let smallest = explicit.smaller_batch(Recompute::None, 0).unwrap();
        let all = explicit.smaller_settings(estimated_resident(smallest.bytes) - 1);
        let both = format!("--set search.batch_size=2 {block}");
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!((all[2].fits, bytes_with(&all[2].options)), (true, all[2].bytes));
        // Nothing fits.
        let none = explicit.smaller_settings(0);
        let two = "--set search.batch_size=2".to_owned();
        assert_eq!(listed(&none), [(block, false), (two, false), (both, false)]);
    }
}
