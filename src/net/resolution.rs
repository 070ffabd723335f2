//! Several input resolutions in one pass (FBNetV2 section 3.2).
//!
//! Every stage of the network (the stem, each block, the head up to its pooling) computes
//!
//!   y = Σ_r g_r · Sᵣᵀ( F( Sᵣ(x) ) )
//!
//! F being the stage with its masks, Sᵣ the subsampling of a map of the largest resolution R on the
//! grid of resolution r, Sᵣᵀ the same pixels put back among zeros. Resolution is one choice for the
//! whole network, so that all stages share the gates g. It is made this way because then
//!
//! - nothing shifts: pixel i of resolution r is pixel ⌊i R/r⌋ of R's map at *every* depth, one rule
//!   for the image and for each stage's input and output. A pixel of the small map is put back less
//!   than one pixel of that depth from the place in the image that it describes, and exactly there
//!   where r divides R;
//! - receptive fields do not shrink: F sees the small map alone, never the zeros between its pixels,
//!   so that its kernel covers R/r times as much of the image, as it does in the derived network;
//! - with one-hot gates the supernet is the derived network at that resolution, fed with images
//!   subsampled on the same grid: a stage reads exactly the pixels that the one before put back, since
//!   Sᵣ Sᵣᵀ is the identity. Batch norm's statistics are those of F's real pixels, because the zeros
//!   come in behind it, and each resolution has its own. Running statistics move by the share g_r;
//! - g_r costs no memory: it multiplies the mask that ends the stage anyway (g_r · M is a row), and
//!   the sum of maps keeps nothing for the way back. What the smaller resolutions compute is not
//!   kept either, but computed again on the way back, from the same x: the number of resolutions
//!   does not show in what a step keeps. Their compute is (r/R)² of the largest one's each.
//!
//! Pooling ends the spatial part on the small map, since a mean over interspersed zeros would be
//! (r/R)² too small; the pooled features are summed instead.

use super::block::BlockGates;
use crate::nn::Pass;
use crate::ops::subsample::{self, Grid};
use crate::tape::Value;
use candle_core::{Result, Tensor, bail};
use std::rc::Rc;

/// One resolution's way through the network.
#[derive(Debug)]
pub struct ResolutionPath {
    /// Pixels a side of the image that it sees; `None` for the image as it is.
    pub side: Option<usize>,
    /// The resolution's gate: its share in the running statistics.
    pub share: f64,
    /// Masks of the stem's and of the head's channels, all of them the gate.
    pub stem: Option<Value>,
    pub head: Option<Value>,
    /// Blocks beyond the list have no gates.
    pub blocks: Vec<BlockGates>,
}

impl ResolutionPath {
    /// The only resolution.
    #[must_use]
    pub fn only(blocks: Vec<BlockGates>) -> Self {
        Self { side: None, share: 1.0, stem: None, head: None, blocks }
    }

    pub(super) fn block(&self, i: usize) -> BlockGates {
        self.blocks.get(i).cloned().unwrap_or_default()
    }
}

/// The pixels that a path or a network of `side` pixels sees of images: all of them where they are
/// of that size.
///
/// # Errors
/// When the images are smaller, or not square where they are larger.
pub(super) fn at_resolution(images: &Tensor, side: usize) -> Result<Grid> {
    let (_, h, w, _) = images.dims4()?;
    if (h, w) != (side, side) && (h != w || side == 0 || side > h) {
        bail!("a network for images of side {side} does not fit images of {h}x{w}");
    }
    Ok(Grid { ratio: (h.max(1), side), size: (side, side) })
}

/// The pixels themselves that a network of `side` pixels sees of images.
///
/// # Errors
/// As [`at_resolution`].
pub(super) fn seen(images: &Tensor, side: usize) -> Result<Tensor> {
    let grid = at_resolution(images, side)?;
    if grid.ratio.0 == grid.ratio.1 {
        return Ok(images.clone());
    }
    subsample::forward(images, grid)
}

/// The map between two stages.
pub(super) struct StageMaps<'a> {
    paths: &'a [Rc<ResolutionPath>],
    x: Value,
    /// The grid of every path's part of the map; the first path has all of it.
    grids: Vec<Grid>,
}

impl<'a> StageMaps<'a> {
    /// Images `[n, h, w, c]`, as large as the first path sees them.
    pub(super) fn of(images: &Tensor, paths: &'a [Rc<ResolutionPath>]) -> Result<Self> {
        let (_, h, w, _) = images.dims4()?;
        let whole = Grid { ratio: (1, 1), size: (h, w) };
        let grid =
            |path: &Rc<ResolutionPath>| path.side.map_or(Ok(whole), |s| at_resolution(images, s));
        let grids = paths.iter().map(grid).collect::<Result<_>>()?;
        Ok(Self { paths, x: Value::constant(images.clone()), grids })
    }

    /// Runs a stage at every resolution and puts the maps together.
    pub(super) fn stage<S>(&mut self, pass: &mut Pass<'_>, is_block: bool, stage: S) -> Result<()>
    where
        S: Fn(&mut Pass<'_>, &Value, &ResolutionPath) -> Result<Value> + Clone + 'static,
    {
        let maps = self.each(pass, is_block, &stage)?;
        let mut parts = Vec::with_capacity(maps.len());
        for (map, grid) in maps.into_iter().zip(&mut self.grids) {
            let (_, h, w, _) = map.tensor().dims4()?;
            grid.size = (h, w);
            parts.push((map, *grid));
        }
        self.x = pass.tape.merge(&parts)?;
        Ok(())
    }

    /// Runs the last stage, which pools, at every resolution and adds the features `[n, c]`.
    pub(super) fn pool<S>(self, pass: &mut Pass<'_>, stage: S) -> Result<Value>
    where
        S: Fn(&mut Pass<'_>, &Value, &ResolutionPath) -> Result<Value> + Clone + 'static,
    {
        let mut features = self.each(pass, false, &stage)?.into_iter();
        let Some(mut sum) = features.next() else { bail!("a pass needs a resolution") };
        for more in features {
            sum = pass.tape.add(&sum, &more)?;
        }
        Ok(sum)
    }

    /// What the stage makes of each path's part of the map. The first path's is kept as the pass
    /// keeps it.
    fn each<S>(&self, pass: &mut Pass<'_>, is_block: bool, stage: &S) -> Result<Vec<Value>>
    where
        S: Fn(&mut Pass<'_>, &Value, &ResolutionPath) -> Result<Value> + Clone + 'static,
    {
        let mut outputs = Vec::with_capacity(self.paths.len());
        for (i, (path, grid)) in self.paths.iter().zip(&self.grids).enumerate() {
            let (stage, x, path, grid) = (stage.clone(), self.x.clone(), path.clone(), *grid);
            pass.share_statistics(path.share);
            let run = move |pass: &mut Pass<'_>| {
                let small = pass.tape.subsample(&x, grid)?;
                stage(pass, &small, &path)
            };
            outputs.push(match (i, is_block) {
                (0, true) => pass.block(run),
                (0, false) => run(pass),
                _ => pass.recomputed(run),
            }?);
        }
        pass.share_statistics(1.0);
        Ok(outputs)
    }
}
