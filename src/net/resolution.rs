//! Several input resolutions in one pass (FBNetV2 section 3.2).
//!
//! Every stage of the network (the stem, each block, the head up to its pooling) computes
//!
//!   y = Σ_r g_r · Sᵣᵀ( F( Sᵣ(x) ) )
//!
//! where F is the stage with its masks, Sᵣ subsamples a map of the largest resolution R on the grid of
//! resolution r, and Sᵣᵀ puts the same pixels back between zeros. The resolution is one choice for the
//! whole network, so all stages share the gates g. This form has four properties:
//!
//! - Nothing shifts. Pixel i of resolution r is pixel ⌊i R/r⌋ of the map of R at every depth. The rule
//!   is the same for the image and for the input and output of each stage. A pixel of the small map is
//!   put back less than one pixel of that depth away from the place in the image that it describes, and
//!   exactly there where r divides R.
//! - Receptive fields do not shrink. F sees only the small map, never the zeros between its pixels, so
//!   its kernel covers R/r times as much of the image, as in the derived network.
//! - With one-hot gates the supernet equals the derived network on images that are subsampled on the
//!   same grid: a stage reads exactly the pixels that the previous one put back, because Sᵣ Sᵣᵀ is the
//!   identity. The statistics of batch norm are those of the real pixels of F, because the zeros come
//!   in behind it. Each resolution has its own batch statistics. Running statistics move by the share g_r.
//! - g_r costs no memory. It multiplies the mask at the end of the stage, and the sum of maps keeps
//!   nothing for the backward pass. The maps of smaller resolutions are not kept but recomputed in the
//!   backward pass from the same x, so the number of resolutions does not change what a step keeps.
//!   The compute of resolution r is (r/R)² of that of R.
//!
//! Pooling ends the spatial part on the small map, because a mean over zeros in between would be (r/R)²
//! too small. The pooled features are summed instead.

use super::block::BlockGates;
use crate::nn::Pass;
use crate::ops::subsample::{self, Grid};
use crate::tape::Value;
use candle_core::{Result, Tensor, bail};
use std::rc::Rc;

/// The path of one resolution through the network, with its gates.
#[derive(Debug)]
pub struct ResolutionPath {
    /// Side of its input image in pixels; `None` for the image as it is.
    pub side: Option<usize>,
    /// The gate of the resolution, which is also its share in the running statistics.
    pub share: f64,
    /// Masks of the channels of stem and head; all entries are the gate.
    pub stem: Option<Value>,
    pub head: Option<Value>,
    /// One per block; blocks beyond the end of the list have no gates.
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

/// The grid on which images are subsampled to side `side`, in pixels; all pixels where they have that
/// size.
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

/// Images `[n, h, w, c]` subsampled to side `side`, in pixels.
///
/// # Errors
/// As [`at_resolution`].
pub(super) fn subsampled(images: &Tensor, side: usize) -> Result<Tensor> {
    let grid = at_resolution(images, side)?;
    if grid.ratio.0 == grid.ratio.1 {
        return Ok(images.clone());
    }
    subsample::forward(images, grid)
}

/// The map between two stages at all resolutions: the sum, and the grid of each path in it.
pub(super) struct StageMaps<'a> {
    paths: &'a [Rc<ResolutionPath>],
    x: Value,
    /// The grid of each path; the first path has all pixels.
    grids: Vec<Grid>,
}

impl<'a> StageMaps<'a> {
    /// Starts with images `[n, h, w, c]` of the size of the first path.
    pub(super) fn of(images: &Tensor, paths: &'a [Rc<ResolutionPath>]) -> Result<Self> {
        let (_, h, w, _) = images.dims4()?;
        let whole = Grid { ratio: (1, 1), size: (h, w) };
        let grid =
            |path: &Rc<ResolutionPath>| path.side.map_or(Ok(whole), |s| at_resolution(images, s));
        let grids = paths.iter().map(grid).collect::<Result<_>>()?;
        Ok(Self { paths, x: Value::constant(images.clone()), grids })
    }

    /// Runs a stage at every resolution and sums the maps.
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

    /// Runs the last stage, which pools, at every resolution and sums the features `[n, c]`.
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

    /// The output of the stage for each path. Those of the smaller resolutions are recomputed in the
    /// backward pass.
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
