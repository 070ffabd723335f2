//! How large the checkpoints of a manifest's runs become.

use crate::cost::{self, Footprint, StepSetting};
use crate::manifest::{Manifest, SearchTask, Task};
use crate::recipe::{Method, Recompute};

/// Bytes of the largest checkpoint of all runs: weights, running statistics, their average and the optimizer's
/// state. The rest is a few kilobytes.
#[must_use]
pub fn largest_checkpoint(manifest: &Manifest) -> u64 {
    let state = |step: &Footprint| step.weights + step.optimizer;
    let of_search = |task: &SearchTask, setting| {
        let methods = task.methods.iter();
        let of = |method: &Method| state(&cost::search_step(&task.space, method.name(), setting));
        methods.map(of).max().unwrap_or(0)
    };
    // Neither the batch nor the number of threads matters.
    let Some(train) = manifest.train() else {
        let setting = StepSetting::on_cpu(1, 1, Recompute::None);
        return manifest.search().map_or(0, |task| of_search(task, setting));
    };
    let setting = StepSetting::on_cpu(1, 1, train.recompute);
    let of_training = StepSetting { extras: train.extras(), ..setting };
    let (training, weights) = match &manifest.task {
        Task::Search(task) => (
            cost::largest_network_step(&task.space, of_training),
            cost::largest_network_weights(&task.space, of_training),
        ),
        Task::Network(task) => {
            let (arch, side) = (&task.network.arch, manifest.image_side());
            let weights = cost::network_weights(arch, side, of_training);
            (cost::network_step(arch, side, of_training), weights)
        }
    };
    let of_search = manifest.search().map_or(0, |task| {
        // Ranked networks are trained after the shared weights are dropped.
        of_search(task, setting).max(task.rank_correlation.map_or(0, |_| state(&training)))
    });
    let finished = (train.repeats as u64).saturating_sub(1);
    let earlier = finished * weights;
    let training = state(&training) + earlier;
    of_search.max(training)
}
