//! The derived networks as one picture: a row per run, a bar per block.

use super::drawing::{Anchor, Drawing, Pen};
use super::exhaustive::lookup_of;
use super::figure::COLOURS;
use super::finished::finished;
use crate::space::{ArchSpec, BlockKind, BlockSpec, conv_out};
use crate::store::{ArchitectureRow, RunRow};
use crate::text::{count, percent};

/// A picture with more rows is too long to compare.
const MOST_ROWS: usize = 24;

// All in pixels.
const ROW: f64 = 74.0;
const LABEL: f64 = 190.0;
const LEGEND: f64 = 44.0;
const MARGIN: f64 = 14.0;
const BAR: f64 = 12.0;
/// From one bar to the next; less where there are many blocks.
const STEP: f64 = 26.0;
const WIDEST: f64 = 700.0;
/// Of the largest bar.
const HEIGHT: f64 = 44.0;
const GREY: &str = "#999999";

/// What a colour stands for.
const KERNELS: [(usize, &str); 4] =
    [(3, COLOURS[0]), (5, COLOURS[1]), (7, COLOURS[2]), (1, COLOURS[5])];

/// `None` where no run has derived a network, and where too many have.
pub fn networks(title: &str, runs: &[RunRow]) -> Option<Drawing> {
    let own = finished(runs).filter(|run| lookup_of(run).is_none());
    let derived: Vec<(&RunRow, &ArchitectureRow)> =
        own.filter_map(|run| Some((run, run.architecture.as_ref()?))).collect();
    if derived.is_empty() || derived.len() > MOST_ROWS {
        return None;
    }
    let blocks = derived.iter().map(|(_, found)| found.arch.blocks.len()).max()?.max(1);
    let step = (WIDEST / blocks as f64).min(STEP);
    let tallest = derived.iter().flat_map(|(_, found)| channels(&found.arch)).max()? as f64;
    let width = LABEL + (blocks as f64 * step).max(330.0) + MARGIN;
    let height = LEGEND + derived.len() as f64 * ROW + MARGIN;
    let mut drawing = Drawing::new(&format!("{title}: derived networks"), (width, height));
    legend(&mut drawing);
    for (i, (run, found)) in derived.iter().enumerate() {
        drawing.at((0.0, LEGEND + i as f64 * ROW));
        labels(&mut drawing, run, found);
        bars(&mut drawing, &found.arch, step, tallest);
    }
    Some(drawing)
}

/// Hidden and output channels of every block.
fn channels(arch: &ArchSpec) -> impl Iterator<Item = usize> {
    arch.blocks.iter().flat_map(|block| [hidden(block), block.width])
}

fn hidden(block: &BlockSpec) -> usize {
    match &block.kind {
        BlockKind::MbConv { mid, .. } => *mid,
        BlockKind::Projection | BlockKind::Identity | BlockKind::Residual => block.width,
    }
}

fn labels(drawing: &mut Drawing, run: &RunRow, found: &ArchitectureRow) {
    let top1 = run.result.as_ref().map_or_else(String::new, |result| percent(result.test_top1));
    drawing.heading((MARGIN, 24.0), &format!("{}, seed {}", run.method, run.seed));
    drawing.text((MARGIN, 40.0), Anchor::Start, &format!("run {}: top-1 {top1}", run.id));
    let cost = format!("{} MACs, {} params", count(found.macs), count(found.params));
    drawing.text((MARGIN, 55.0), Anchor::Start, &cost);
}

fn bars(drawing: &mut Drawing, arch: &ArchSpec, step: f64, tallest: f64) {
    let bottom = ROW - 6.0;
    let height = |channels: usize| HEIGHT * (channels as f64 / tallest).sqrt();
    let width = BAR.min(step - 3.0);
    let mut side = conv_out(arch.resolution, arch.stem.kernel, arch.stem.stride);
    let mut shown = 0;
    for (i, block) in arch.blocks.iter().enumerate() {
        let x = LABEL + (i as f64 + 0.5) * step;
        side = side.div_ceil(block.stride);
        if side != shown {
            drawing.text((x, bottom - HEIGHT - 6.0), Anchor::Middle, &side.to_string());
            shown = side;
        }
        let bar = |drawing: &mut Drawing, channels: usize, colour| {
            let top = bottom - height(channels);
            drawing.line(&[(x, bottom), (x, top)], Pen::solid(colour, width));
        };
        let about = match &block.kind {
            BlockKind::MbConv { kernel, mid, squeeze, .. } => {
                let colour = colour_of(*kernel);
                let (top, half) = (bottom - height(*mid), width / 2.0);
                drawing.band(
                    &[(x - half, top), (x + half, top)],
                    &[(x - half, bottom), (x + half, bottom)],
                    colour,
                );
                bar(drawing, block.width, colour);
                if squeeze.is_some() {
                    drawing.dot((x, bottom + 3.0), 1.8, "#222222", 1.0);
                }
                let squeeze = if squeeze.is_some() { ", squeeze-excite" } else { "" };
                format!("{kernel}x{kernel}, {mid} hidden channels{squeeze}")
            }
            BlockKind::Residual => {
                bar(drawing, block.width, colour_of(3));
                "3x3, residual".to_owned()
            }
            BlockKind::Projection | BlockKind::Identity => {
                drawing.dot((x, bottom - 3.0), 3.0, GREY, 1.0);
                "skip".to_owned()
            }
        };
        let text = format!("block {}: {about}, {} channels", block.label, block.width);
        drawing.hover((x, bottom - 8.0), text);
    }
}

fn colour_of(kernel: usize) -> &'static str {
    KERNELS.iter().find(|(size, _)| *size == kernel).map_or(GREY, |(_, colour)| *colour)
}

fn legend(drawing: &mut Drawing) {
    let mut x = LABEL;
    let y = 24.0;
    for (kernel, colour) in &KERNELS[..3] {
        drawing.line(&[(x, y), (x, y - 10.0)], Pen::solid(colour, BAR));
        drawing.text((x + 10.0, y), Anchor::Start, &format!("{kernel}x{kernel}"));
        x += 50.0;
    }
    drawing.dot((x, y - 4.0), 3.0, GREY, 1.0);
    drawing.text((x + 8.0, y), Anchor::Start, "skip");
    x += 46.0;
    drawing.dot((x, y - 4.0), 1.8, "#222222", 1.0);
    drawing.text((x + 7.0, y), Anchor::Start, "squeeze-excite");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo;

    #[test]
    fn every_block_has_a_bar_or_a_dot() {
        let arch = zoo::network("FBNetV2_F1").unwrap().arch;
        let mut drawing = Drawing::new("", (0.0, 0.0));
        let tallest = channels(&arch).max().unwrap() as f64;
        bars(&mut drawing, &arch, STEP, tallest);
        let svg = drawing.svg();
        assert_eq!(svg.matches("<title>block ").count(), arch.blocks.len());
        let skips = arch
            .blocks
            .iter()
            .filter(|block| matches!(block.kind, BlockKind::Identity | BlockKind::Projection));
        assert_eq!(svg.matches("r=\"3\"").count(), skips.count());
        // The four sides of its feature maps after the stem's 64 pixels, from the largest.
        for side in ["64", "32", "16", "8", "4"] {
            assert!(svg.contains(&format!(">{side}</text>")), "{side}: {svg}");
        }
    }
}
