//! Operator calls on the tape that combine or rearrange values: subsampling, merging, adding, multiplying.

use super::{Tape, Value};
use crate::ops::gpu;
use crate::ops::groups::{self, Groups};
use crate::ops::scale;
use crate::ops::subsample::{self, Grid};
use crate::ops::update;
use candle_core::{Result, bail};

impl Tape {
    /// [`subsample::forward`]: the pixels of a grid.
    ///
    /// # Errors
    /// When the operator fails.
    pub fn subsample(&mut self, x: &Value, grid: Grid) -> Result<Value> {
        let (_, h, w, _) = x.tensor.dims4()?;
        if grid.size == (h, w) {
            return Ok(x.clone());
        }
        let y = subsample::forward(&x.tensor, grid)?;
        Ok(self.push("subsample", y, [x], move |[x], dy| {
            Ok(vec![(x, subsample::backward(&dy, grid, (h, w))?)])
        }))
    }

    /// [`subsample::merge`]: the sum of the first part, which has the full size, and the others on their
    /// grids.
    ///
    /// # Errors
    /// When there is no part, or the operator fails.
    pub fn merge(&mut self, parts: &[(Value, Grid)]) -> Result<Value> {
        let Some((first, whole)) = parts.first() else { bail!("merge: nothing to merge") };
        if parts.len() == 1 {
            return Ok(first.clone());
        }
        let plain: Vec<_> = parts.iter().map(|(part, grid)| (&part.tensor, *grid)).collect();
        let y = subsample::merge(&plain, whole.size)?;
        let slots: Vec<_> = parts.iter().map(|(part, _)| part.slot).collect();
        let grids: Vec<Grid> = parts.iter().map(|(_, grid)| *grid).collect();
        Ok(self.record("merge", y, &slots.clone(), move |dy| {
            let mut back = Vec::with_capacity(slots.len());
            for (slot, grid) in slots.iter().zip(grids).skip(1) {
                if slot.is_some() {
                    back.push((*slot, subsample::forward(&dy, grid)?));
                }
            }
            back.push((slots[0], dy));
            Ok(back)
        }))
    }

    /// a + b, of the same shape.
    ///
    /// # Errors
    /// When their shapes differ.
    pub fn add(&mut self, a: &Value, b: &Value) -> Result<Value> {
        let y = update::sum(&a.tensor, &b.tensor)?;
        // Gradients are accumulated in place, so two slots must not share a tensor.
        Ok(self.push("sum", y, [a, b], |[a, b], dy| Ok(vec![(a, gpu::copy(&dy)?), (b, dy)])))
    }

    /// a ∘ b, of the same shape.
    ///
    /// # Errors
    /// When their shapes differ.
    pub fn multiply(&mut self, a: &Value, b: &Value) -> Result<Value> {
        let y = scale::product(&a.tensor, &b.tensor)?;
        let (left, right) = (a.tensor.clone(), b.tensor.clone());
        Ok(self.push("product", y, [a, b], move |[a, b], dy| {
            Ok(vec![(a, scale::product(&dy, &right)?), (b, scale::product(&dy, &left)?)])
        }))
    }

    /// [`scale::rows`]: x `[n, …]` times constant factors `[n]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn scale_rows(&mut self, x: &Value, factors: &Value) -> Result<Value> {
        let y = scale::rows(&x.tensor, &factors.tensor)?;
        let factors = factors.tensor.clone();
        Ok(self.push("rows", y, [x], move |[x], dy| Ok(vec![(x, scale::rows(&dy, &factors)?)])))
    }

    /// [`groups::dense`]: grouped weights w `[c_in / groups, c_out]` as dense ones `[c_in, c_out]`.
    ///
    /// # Errors
    /// When the channels are not so many groups.
    pub fn dense_of_groups(&mut self, w: &Value, groups: Groups) -> Result<Value> {
        let y = groups::dense(&w.tensor, groups)?;
        Ok(self
            .push("groups", y, [w], move |[w], dy| Ok(vec![(w, groups::backward(&dy, groups)?)])))
    }

    /// [`scale`]: the columns of w `[…, c]` times the mask `[c]`.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn scale_columns(&mut self, w: &Value, mask: &Value) -> Result<Value> {
        let y = scale::forward(&w.tensor, &mask.tensor)?;
        let (ws, masks) = (w.tensor.clone(), mask.tensor.clone());
        Ok(self.push("mask", y, [w, mask], move |[w, mask], dy| {
            let mut parts = Vec::with_capacity(2);
            if mask.is_some() {
                parts.push((mask, scale::backward_mask(&ws, &dy)?));
            }
            if w.is_some() {
                parts.push((w, scale::backward_weight(&masks, &dy)?));
            }
            Ok(parts)
        }))
    }
}
