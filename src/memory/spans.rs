//! Which pages of freed blocks are kept: bookkeeping on plain numbers, nothing here touches memory.

/// The unit of block sizes in bytes: one page of the operating system, or several.
pub const PAGE: usize = if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 };

/// Contiguous pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub len: usize,
}

/// At most this many spans are kept. A training step has a few dozen; spans beyond the limit go back
/// to the operating system.
const MOST_SPANS: usize = 512;

/// The kept spans, and how much may be kept.
pub struct Spans {
    /// The first `count` are in use: ordered by address, no two adjacent. An array, since an allocator
    /// cannot allocate.
    spans: [Span; MOST_SPANS],
    count: usize,
    /// Bytes of all spans.
    kept: usize,
    /// Bytes of blocks in use now, and the most since [`Self::release_all`].
    used: usize,
    most_used: usize,
}

impl Spans {
    pub const fn new() -> Self {
        let spans = [Span { start: 0, len: 0 }; MOST_SPANS];
        Self { spans, count: 0, kept: 0, used: 0, most_used: 0 }
    }

    /// The address of a block of `len` bytes in the smallest span that holds it; the remainder of the
    /// span is kept.
    pub fn take(&mut self, len: usize) -> Option<usize> {
        let spans = self.spans[..self.count].iter().enumerate();
        let (at, span) = spans.filter(|(_, span)| span.len >= len).min_by_key(|(_, s)| s.len)?;
        let start = span.start;
        self.shrink(at, len, true);
        self.used += len;
        Some(start)
    }

    /// Counts a block of `len` bytes for which new pages are about to be mapped. Calls `unmap` for what
    /// may no longer be kept, largest spans first, since they were too small for this block.
    pub fn map_new(&mut self, len: usize, mut unmap: impl FnMut(Span)) {
        self.used += len;
        self.most_used = self.most_used.max(self.used);
        while self.used + self.kept > self.most_used {
            let spans = self.spans[..self.count].iter().enumerate();
            let Some((at, span)) = spans.max_by_key(|(_, span)| span.len) else { return };
            let len = span.len.min(self.used + self.kept - self.most_used);
            unmap(Span { start: span.start + span.len - len, len });
            self.shrink(at, len, false);
        }
    }

    /// Takes back [`Self::map_new`], after the operating system has refused the pages.
    pub fn map_failed(&mut self, len: usize) {
        self.used -= len;
    }

    /// Keeps the span of a freed block. Returns it if there are too many spans already.
    pub fn free(&mut self, span: Span) -> Option<Span> {
        self.used -= span.len;
        let at = self.spans[..self.count].partition_point(|other| other.start < span.start);
        let end = |span: &Span| span.start + span.len;
        let before = at > 0 && end(&self.spans[at - 1]) == span.start;
        let after = at < self.count && end(&span) == self.spans[at].start;
        match (before, after) {
            (true, true) => {
                self.spans[at - 1].len += span.len + self.spans[at].len;
                self.remove(at);
            }
            (true, false) => self.spans[at - 1].len += span.len,
            (false, true) => {
                self.spans[at] = Span { start: span.start, len: span.len + self.spans[at].len };
            }
            (false, false) if self.count == MOST_SPANS => return Some(span),
            (false, false) => {
                self.spans.copy_within(at..self.count, at + 1);
                self.spans[at] = span;
                self.count += 1;
            }
        }
        self.kept += span.len;
        None
    }

    /// Calls `unmap` for all spans, and restarts the count of the most bytes in use.
    pub fn release_all(&mut self, unmap: impl FnMut(Span)) {
        self.spans[..self.count].iter().copied().for_each(unmap);
        (self.count, self.kept, self.most_used) = (0, 0, self.used);
    }

    /// Cuts `len` bytes off the beginning or the end of a span.
    fn shrink(&mut self, at: usize, len: usize, at_beginning: bool) {
        self.kept -= len;
        let span = &mut self.spans[at];
        span.len -= len;
        if at_beginning {
            span.start += len;
        }
        if span.len == 0 {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        self.spans.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    fn kept(spans: &Spans) -> Vec<(usize, usize)> {
        spans.spans[..spans.count].iter().map(|span| (span.start, span.len)).collect()
    }

    #[test]
    fn adjacent_spans_merge_and_the_best_fit_is_taken() {
        let mut spans = Spans::new();
        spans.map_new(1000, |_| unreachable!("nothing is kept"));
        for (start, len) in [(0, 100), (300, 50), (200, 100), (100, 100), (900, 100)] {
            assert_eq!(spans.free(Span { start, len }), None);
        }
        assert_eq!(kept(&spans), [(0, 350), (900, 100)]);
        assert_eq!(spans.take(90), Some(900));
        assert_eq!(spans.take(10), Some(990));
        assert_eq!(spans.take(350), Some(0));
        assert_eq!((spans.take(1), kept(&spans)), (None, vec![]));
    }

    #[test]
    fn no_more_is_kept_than_was_in_use() {
        let mut spans = Spans::new();
        // Blocks of 60, 30 and 10 bytes are in use at once; later blocks of 30 and 70 bytes need all
        // of that.
        for (start, len) in [(0, 60), (100, 30), (200, 10)] {
            spans.map_new(len, |_| unreachable!("nothing is kept"));
            assert_eq!((spans.most_used, start % 100), (spans.used, 0));
        }
        for (start, len) in [(0, 60), (100, 30), (200, 10)] {
            assert_eq!(spans.free(Span { start, len }), None);
        }
        assert_eq!(spans.take(30), Some(100));
        assert_eq!(spans.free(Span { start: 100, len: 30 }), None);
        let mut unmapped = Vec::new();
        spans.map_new(70, |span| unmapped.push((span.start, span.len)));
        assert_eq!(unmapped, [(0, 60), (120, 10)]);
        assert_eq!((spans.used, spans.kept, spans.most_used), (70, 30, 100));
        spans.map_failed(70);
        spans.release_all(|span| unmapped.push((span.start, span.len)));
        assert_eq!(unmapped[2..], [(100, 20), (200, 10)]);
        assert_eq!((spans.used, spans.kept, spans.most_used, spans.count), (0, 0, 0, 0));
    }

    /// Random blocks; `mapped` plays the operating system.
    #[test]
    fn no_page_is_handed_out_twice_or_lost() {
        let mut spans = Spans::new();
        let mut random = Seed(1).stream("spans", 0);
        let mut mapped = std::collections::BTreeSet::new();
        let mut blocks: Vec<Span> = Vec::new();
        let mut next = 0;
        for _ in 0..20_000 {
            if blocks.len() < 40 && random.below(2) == 0 {
                let len = 1 + random.below(50);
                let start = spans.take(len).unwrap_or_else(|| {
                    spans.map_new(len, |s| {
                        (s.start..s.start + s.len).for_each(|p| assert!(mapped.remove(&p)));
                    });
                    next += len + random.below(2);
                    (next - len..next).for_each(|page| assert!(mapped.insert(page)));
                    next - len
                });
                let block = Span { start, len };
                let apart = |b: &Span| b.start + b.len <= start || start + len <= b.start;
                assert!(blocks.iter().all(apart), "{block:?} {blocks:?}");
                blocks.push(block);
            } else if !blocks.is_empty() {
                let block = blocks.swap_remove(random.below(blocks.len()));
                assert_eq!(spans.free(block), None);
            }
            let used: usize = blocks.iter().map(|block| block.len).sum();
            assert_eq!((spans.used, spans.used + spans.kept), (used, mapped.len()));
            assert!(mapped.len() <= spans.most_used);
        }
    }

    #[test]
    fn spans_beyond_the_limit_are_returned() {
        let mut spans = Spans::new();
        spans.map_new(2 * MOST_SPANS + 2, |_| unreachable!("nothing is kept"));
        for i in 0..MOST_SPANS {
            assert_eq!(spans.free(Span { start: 2 * i, len: 1 }), None);
        }
        let last = Span { start: 2 * MOST_SPANS, len: 1 };
        assert_eq!(spans.free(last), Some(last));
        assert_eq!(spans.kept, MOST_SPANS);
        // A span that merges with another needs no slot.
        assert_eq!(spans.free(Span { start: 1, len: 1 }), None);
    }
}
