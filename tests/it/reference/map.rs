//! Activations as plain numbers.

/// An activation `[n, h, w, c]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub data: Vec<f64>,
}

impl Map {
    pub fn new((n, h, w, c): (usize, usize, usize, usize), data: Vec<f64>) -> Self {
        assert_eq!(data.len(), n * h * w * c);
        Self { n, h, w, c, data }
    }

    pub fn zeros(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self { n, h, w, c, data: vec![0.0; n * h * w * c] }
    }

    pub(super) fn index(&self, i: usize, y: usize, x: usize, j: usize) -> usize {
        ((i * self.h + y) * self.w + x) * self.c + j
    }

    /// A value, zero outside the image.
    pub(super) fn padded(&self, i: usize, y: isize, x: isize, j: usize) -> f64 {
        let inside = y >= 0 && x >= 0 && y < self.h as isize && x < self.w as isize;
        if inside { self.data[self.index(i, y as usize, x as usize, j)] } else { 0.0 }
    }

    /// Applies `f` to the channel and the value of every entry.
    pub fn by_channel(&self, f: impl Fn(usize, f64) -> f64) -> Self {
        let data = self.data.iter().enumerate().map(|(at, v)| f(at % self.c, *v)).collect();
        Self { data, ..*self }
    }

    /// The first `width` channels.
    pub fn cut(&self, width: usize) -> Self {
        let data = self.data.chunks(self.c).flat_map(|pixel| pixel[..width].to_vec()).collect();
        Self { c: width, data, ..*self }
    }

    /// Padded with zeros to `width` channels.
    pub fn padded_to(&self, width: usize) -> Self {
        let mut out = Self::zeros(self.n, self.h, self.w, width);
        for (to, from) in out.data.chunks_mut(width).zip(self.data.chunks(self.c)) {
            to[..self.c].copy_from_slice(from);
        }
        out
    }

    /// The map of `(h, w)` whose pixel i is pixel ⌊i · from / to⌋ of this one.
    pub fn sampled(&self, (from, to): (usize, usize), (h, w): (usize, usize)) -> Self {
        let mut out = Self::zeros(self.n, h, w, self.c);
        for i in 0..self.n {
            for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                for j in 0..self.c {
                    let at = out.index(i, y, x, j);
                    out.data[at] = self.data[self.index(i, y * from / to, x * from / to, j)];
                }
            }
        }
        out
    }

    /// The map of `(h, w)` with these pixels where [`Map::sampled`] reads, and zeros elsewhere.
    pub fn interspersed(&self, (from, to): (usize, usize), (h, w): (usize, usize)) -> Self {
        let mut out = Self::zeros(self.n, h, w, self.c);
        for i in 0..self.n {
            for (y, x) in (0..self.h).flat_map(|y| (0..self.w).map(move |x| (y, x))) {
                for j in 0..self.c {
                    let at = out.index(i, y * from / to, x * from / to, j);
                    out.data[at] = self.data[self.index(i, y, x, j)];
                }
            }
        }
        out
    }

    /// `self += factor · other`.
    pub fn add(&mut self, factor: f64, other: &Self) {
        assert_eq!((self.n, self.h, self.w, self.c), (other.n, other.h, other.w, other.c));
        for (a, b) in self.data.iter_mut().zip(&other.data) {
            *a += factor * b;
        }
    }

    /// Σ self · other, used as a loss.
    pub fn dot(&self, other: &[f64]) -> f64 {
        assert_eq!(self.data.len(), other.len());
        self.data.iter().zip(other).map(|(a, b)| a * b).sum()
    }
}
