//! Many threads on one store: every byte is right, and the limit holds at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use musicfs_core::extents::{BLOCK_BYTES, block_range, blocks_count};
use musicfs_store::{Class, Limits, Store, Written};

use crate::support::{KIB, Random, content, du, real, version};

const THREADS_COUNT: u64 = 6;
const OPS_COUNT: u64 = 250;
const VERSIONS_COUNT: u64 = 16;
const LIMITS: Limits = Limits {
    bodies: 1536 * KIB,
    headers: 768 * KIB,
    free_min: 0,
};

#[test]
fn threads_read_what_was_written_and_the_limit_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), LIMITS);
    // Pairs of versions have one content.
    let contents: Vec<Vec<u8>> = (0..VERSIONS_COUNT)
        .map(|number| content(number / 2, 50_000 + (number / 2) as usize * 60_000))
        .collect();
    let (is_over, kept, read) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS_COUNT)
            .map(|seed| {
                let (store, contents, kept, read) = (&store, &contents, &kept, &read);
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for _ in 0..OPS_COUNT {
                        work(store, contents, &mut random, kept, read);
                    }
                })
            })
            .collect();
        let sampler = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let used = du(dir.path());
                assert!(
                    used <= LIMITS.bodies + LIMITS.headers,
                    "{used}: {:?}",
                    store.stats()
                );
            }
        });
        let ended: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        is_over.store(true, Ordering::Relaxed);
        sampler.join().unwrap();
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    assert!(kept.into_inner() > 100 && read.into_inner() > 100);
    let stats = store.stats();
    assert_eq!(stats.blocks_damaged, 0, "{stats:?}");
    assert!(stats.body.evictions > 10, "{stats:?}");
    store.close().unwrap();
    drop(store);
    let store = real(dir.path(), LIMITS);
    let verified = store.verify(&mut |_| true).unwrap();
    assert_eq!(verified.blocks_damaged, 0);
}

fn work(
    store: &Arc<Store>,
    contents: &[Vec<u8>],
    random: &mut Random,
    kept: &AtomicU64,
    read: &AtomicU64,
) {
    let number = random.below(VERSIONS_COUNT);
    let bytes = &contents[number as usize];
    let size = bytes.len() as u64;
    let object = store.object(version(number), size).unwrap();
    let first = random.below(blocks_count(size));
    let range = block_range(first, size).start..size.min((first + 4) * BLOCK_BYTES);
    let part = &bytes[range.start as usize..range.end as usize];
    match random.below(12) {
        0..5 => {
            let class = match random.one_in(4) {
                true => Class::Header,
                false => Class::Body,
            };
            let written = object.write(range.start, part, class).unwrap();
            kept.fetch_add(u64::from(written == Written::Kept), Ordering::Relaxed);
        }
        5..9 => {
            if let Some(found) = object.read(range.clone()).unwrap() {
                assert!(found == part, "wrong bytes in {range:?} of {number}");
                read.fetch_add(1, Ordering::Relaxed);
            }
            let mut buffer = vec![0; part.len()];
            if object.read_now(range.start, &mut buffer).is_some() {
                assert!(
                    buffer == part,
                    "wrong bytes at once in {range:?} of {number}"
                );
            }
        }
        9 => {
            object.finish().unwrap();
            if let Some(guard) = object.passthrough() {
                let mut buffer = vec![0; bytes.len()];
                let count = rustix::io::pread(&guard, &mut buffer, 0).unwrap();
                assert!(
                    count == bytes.len() && buffer == *bytes,
                    "a hole under passthrough"
                );
            }
        }
        10 => store.commit_all().unwrap(),
        _ => {
            store
                .clear(&|asked| asked == version(number), None, false)
                .unwrap();
        }
    }
}
