//! The section `[train]`: the recipe for the derived network.

use super::NetworkInput;
use super::augment::read_augment;
use super::keys::{MAX_EPOCHS, RECOMPUTES, optional_name, read_batch};
use super::optimizer::read_optimizer;
use crate::document::Section;
use crate::recipe::{DatasetName, DropRates, TrainConfig};
use std::ops::Bound::{Excluded, Included};

const MAX_REPEATS: u64 = 1000;
/// Beyond, all shares are about one half.
const MAX_MIXUP: f64 = 100.0;
const DROP_RATES: std::ops::Range<f64> = 0.0..1.0;

pub(super) fn read_train(
    s: &Section<'_>,
    available: Option<usize>,
    dataset: Option<DatasetName>,
    input: Option<&NetworkInput>,
    scale: f64,
) -> Option<TrainConfig> {
    let epochs = s.whole("epochs", 1..=MAX_EPOCHS);
    let batch_size = read_batch(s, available, input);
    let optimizer = s.section("optimizer", |s| read_optimizer(s, epochs));
    let ema_decay = s.optional("ema", |value| value.section(|s| s.real("decay", 0.0..1.0)));
    let dropout = s.optional("dropout", |value| value.real(DROP_RATES));
    let drop_connect = s.optional("drop_connect", |value| value.real(DROP_RATES));
    let label_smoothing = s.real("label_smoothing", 0.0..1.0);
    let augment = read_augment(s, dataset);
    let mixup = s.optional("mixup", |value| value.real((Excluded(0.0), Included(MAX_MIXUP))));
    let recompute = optional_name(s, "recompute", RECOMPUTES);
    let repeats = s.optional("repeats", |value| value.whole(1..=MAX_REPEATS));
    Some(TrainConfig {
        epochs: epochs?,
        scale,
        batch_size: batch_size?,
        optimizer: optimizer?,
        ema_decay: ema_decay?,
        label_smoothing: label_smoothing?,
        drops: DropRates {
            dropout: dropout?.unwrap_or_default(),
            drop_connect: drop_connect?.unwrap_or_default(),
        },
        augment: augment?,
        mixup: mixup?,
        recompute: recompute?,
        repeats: repeats?.unwrap_or(1),
    })
}
