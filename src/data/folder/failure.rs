//! What all decoders share: an image's size, its bound, and why an image is not used.

/// Pixels of an image, at most: about what Pillow calls a decompression bomb, and 300 MB when
/// decoded.
pub(super) const MAX_PIXELS: usize = 100_000_000;

/// Height and width in pixels.
pub(super) type Size = (usize, usize);

/// Why an image is not used.
pub(super) enum Failure {
    Damaged(String),
    Unsupported(String),
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Damaged(error.to_string().trim().to_owned())
    }
}
