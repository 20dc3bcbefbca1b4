//! How what is wanted is split into requests, and what is asked for into reads.

use std::ops::Range;

use musicfs_core::peer::WantedChunk;

/// How many of the first of `wanted` go into one request of at most `bytes_max` and `count_max`; at least
/// one, if there is any.
pub(crate) fn first_batch(wanted: &[WantedChunk], bytes_max: u64, count_max: usize) -> usize {
    let mut sum = 0_u64;
    let fits = |chunk: &&WantedChunk| {
        sum += u64::from(chunk.len);
        sum <= bytes_max
    };
    let count = wanted.iter().take(count_max).take_while(fits).count();
    count.max(usize::from(!wanted.is_empty()))
}

/// One read of content that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    /// Not empty, and no longer than was allowed.
    pub(crate) range: Range<u64>,
    /// How many of the spans end with it.
    pub(crate) spans_count: u64,
}

/// The reads that bring `spans`, which are not empty, in their order: neighbours are read together, and no
/// read is longer than `bytes_max`; the first no longer than `first_bytes_max`, if no span is.
pub(crate) fn reads_of(
    spans: impl IntoIterator<Item = Range<u64>>,
    first_bytes_max: u64,
    bytes_max: u64,
) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::new();
    for span in spans {
        let allowed = match reads.len() {
            0 | 1 => first_bytes_max,
            _ => bytes_max,
        };
        if let Some(last) = reads.last_mut()
            && last.range.end == span.start
            && span.end - last.range.start <= allowed
        {
            last.range.end = span.end;
            last.spans_count += 1;
            continue;
        }
        let mut at = span.start;
        while at < span.end {
            let end = span.end.min(at.saturating_add(bytes_max));
            let spans_count = u64::from(end == span.end);
            reads.push(Read {
                range: at..end,
                spans_count,
            });
            at = end;
        }
    }
    reads
}

#[cfg(test)]
mod tests {
    use musicfs_core::manifest::ChunkHash;
    use proptest::prelude::*;

    use super::*;

    fn chunks(lens: &[u32]) -> Vec<WantedChunk> {
        let hash = ChunkHash([0; 32]);
        lens.iter().map(|&len| WantedChunk { hash, len }).collect()
    }

    #[test]
    fn a_request_takes_what_fits() {
        let check = |lens: &[u32], expect| assert_eq!(first_batch(&chunks(lens), 100, 3), expect);
        check(&[], 0);
        check(&[101], 1);
        check(&[100, 1], 1);
        check(&[99, 1, 1], 2);
        check(&[1, 1, 1, 1], 3);
    }

    #[test]
    fn neighbours_are_read_together() {
        let read = |range, spans_count| Read { range, spans_count };
        let check = |spans: &[Range<u64>], expect: &[Read]| {
            assert_eq!(reads_of(spans.iter().cloned(), 20, 40), expect, "{spans:?}");
        };
        check(&[], &[]);
        check(&[5..10, 10..20], &[read(5..20, 2)]);
        check(&[0..15, 15..30, 30..50], &[read(0..15, 1), read(15..50, 2)]);
        check(&[0..10, 11..20], &[read(0..10, 1), read(11..20, 1)]);
        // The same chunk twice in a row.
        check(&[0..10, 0..10], &[read(0..10, 1), read(0..10, 1)]);
        check(
            &[0..90, 90..95],
            &[read(0..40, 0), read(40..80, 0), read(80..95, 2)],
        );
    }

    proptest! {
        #[test]
        fn reads_bring_the_spans_in_their_order(
            spans in prop::collection::vec((0_u64..50, 1_u64..60), 0..20),
        ) {
            let spans: Vec<_> = spans.iter().map(|(start, len)| *start..start + len).collect();
            let reads = reads_of(spans.iter().cloned(), 30, 40);
            let bytes = |ranges: Vec<Range<u64>>| ranges.into_iter().flatten().collect::<Vec<_>>();
            let ranges = reads.iter().map(|read| read.range.clone()).collect();
            prop_assert_eq!(bytes(ranges), bytes(spans.clone()));
            let count: u64 = reads.iter().map(|read| read.spans_count).sum();
            prop_assert_eq!(count, spans.len() as u64);
            for read in &reads {
                prop_assert!((1..=40).contains(&(read.range.end - read.range.start)));
            }
        }
    }
}
