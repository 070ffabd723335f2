//! Random changes to training images.

/// Random changes to training images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Mirror left-right with probability one half.
    pub flip: bool,
    /// Pad with this many zero pixels (after normalisation, before scaling) and crop back at a
    /// random offset. Zero for images of a folder.
    pub crop_padding: usize,
    /// Cut out a random part of at least this share of the area; the centre when `None`. Only for
    /// images of a folder.
    pub crop_area: Option<f64>,
    pub colour: Option<Colour>,
    pub erase: Option<Erase>,
}

/// Random operations on colours, one after the other, as in RandAugment (Cubuk et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// How many operations each image gets.
    pub operations: usize,
    /// Their strength, from 0 to [`Colour::STRONGEST`].
    pub magnitude: usize,
}

impl Colour {
    pub const STRONGEST: usize = 30;
}

/// A part of the image that becomes the average colour, behind all other changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Erase {
    /// A square of so many pixels per side, for every image; its centre is any pixel (cutout, DeVries & Taylor
    /// 2017).
    Square { side: usize },
    /// With this probability a rectangle, whose share of the area and ratio of height to width lie between
    /// bounds (random erasing, Zhong et al. 2020).
    Rectangle { probability: f64, area: (f64, f64), ratio: (f64, f64) },
}
