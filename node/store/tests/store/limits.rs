//! Limits, the order of eviction, pins.

use std::sync::Arc;

use musicfs_core::extents::BLOCK_BYTES;
use musicfs_store::{Class, Limits, Store, Why, Written};

use crate::support::{AMPLE, KIB, MIB, content, du, filled, real, version};

const BODIES: Limits = Limits {
    bodies: 4 * MIB,
    headers: MIB,
    free_min: 0,
};

fn is_there(store: &Store, number: u64) -> bool {
    let holding = store.peek(version(number)).unwrap();
    holding.is_some_and(|holding| holding.body_bytes > 0)
}

/// How many of the versions 0..`count` have their body.
fn those_there(store: &Store, count: u64) -> Vec<u64> {
    (0..count)
        .filter(|number| is_there(store, *number))
        .collect()
}

#[test]
fn the_disk_never_holds_more_than_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), BODIES);
    for number in 0..40 {
        let bytes = content(number, 100_000 + (number * 7919 % 400_000) as usize);
        let object = store.object(version(number), bytes.len() as u64).unwrap();
        for (at, block) in bytes.chunks(BLOCK_BYTES as usize).enumerate() {
            let class = match at {
                0 => Class::Header,
                _ => Class::Body,
            };
            let offset = at as u64 * BLOCK_BYTES;
            assert_eq!(object.write(offset, block, class).unwrap(), Written::Kept);
            let used = du(dir.path());
            assert!(used <= 5 * MIB, "{used}: {:?}", store.stats());
        }
        object.finish().unwrap();
        let (used, stats) = (du(dir.path()), store.stats());
        assert!(used <= 5 * MIB, "{used}: {stats:?}");
        assert!(used <= stats.size_bytes + 64 * KIB, "{used}: {stats:?}");
        assert!(
            stats.header.bytes <= MIB && stats.body.bytes <= 4 * MIB,
            "{stats:?}"
        );
    }
    let stats = store.stats();
    assert!(
        stats.body.evictions > 10 && stats.header.evictions > 10,
        "{stats:?}"
    );
    assert!(stats.body.bytes > 2 * MIB, "it is used: {stats:?}");
    store.close().unwrap();
    assert!(du(dir.path()) <= 5 * MIB);
}

/// Eight bodies of 512 KiB where seven fit.
fn crowd(store: &Arc<Store>, before_last: impl FnOnce(&Arc<Store>)) {
    let mut before_last = Some(before_last);
    for number in 0..7 {
        if number == 6 {
            before_last.take().unwrap()(store);
        }
        filled(store, number, &content(number, 512 << 10), Class::Body);
        store.commit_all().unwrap();
    }
    filled(store, 7, &content(7, 512 << 10), Class::Body);
}

fn seven() -> Limits {
    Limits {
        bodies: 7 * 512 * KIB + 700 * KIB,
        ..BODIES
    }
}

#[test]
fn the_body_used_longest_ago_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), seven());
    crowd(&store, |store| {
        let size = 512 << 10;
        store.object(version(0), size).unwrap().touch();
        store.object(version(2), size).unwrap().touch();
    });
    assert_eq!(those_there(&store, 8), [0, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn the_order_of_eviction_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let wide = Limits {
        bodies: 64 * MIB,
        ..BODIES
    };
    {
        let store = real(dir.path(), wide);
        crowd(&store, |_| {});
        store.commit_all().unwrap();
    }
    let store = real(dir.path(), wide);
    store.set_limits(Limits {
        bodies: 3 * 512 * KIB,
        ..BODIES
    });
    assert_eq!(those_there(&store, 8), [6, 7]);
}

#[test]
fn a_retired_version_goes_first_pinned_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), seven());
    crowd(&store, |store| {
        store.set_pinned(vec![version(4)]);
        store.retire(version(4));
    });
    assert_eq!(those_there(&store, 8), [0, 1, 2, 3, 5, 6, 7]);
}

#[test]
fn a_pinned_body_stays_and_an_open_one_goes_last() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), seven());
    let mut open = Vec::new();
    crowd(&store, |store| {
        store.set_pinned(vec![version(0), version(2)]);
        open.push(store.object(version(1), 512 << 10).unwrap());
    });
    assert_eq!(those_there(&store, 8), [0, 1, 2, 4, 5, 6, 7]);
    assert_eq!(store.pin_capacity(), seven().bodies / 100 * 80);
    store.set_limits(Limits {
        bodies: 0,
        ..BODIES
    });
    assert_eq!(those_there(&store, 8), [0, 2]);
    assert_eq!(open[0].absent(0..u64::MAX), [0..512 << 10]);
    let refused = open[0]
        .write(0, &content(1, 512 << 10), Class::Body)
        .unwrap();
    assert_eq!(refused, Written::Refused(Why::NoRoom));
}

#[test]
fn what_the_kernel_reads_by_itself_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = content(1, 300_000);
    let object = filled(&store, 1, &bytes, Class::Body);
    let guard = object.passthrough().unwrap();
    store.set_limits(Limits {
        bodies: 0,
        ..BODIES
    });
    assert_eq!(store.clear(&|_| true, None, false).unwrap().bytes, 0);
    let mut read = vec![0; 300_000];
    let count = rustix::io::pread(&guard, &mut read, 0).unwrap();
    assert!(count == 300_000 && read == bytes);
    drop(guard);
    store.set_limits(Limits {
        bodies: 0,
        ..BODIES
    });
    assert!(object.passthrough().is_none());
    assert_eq!(object.absent(0..300_000), [0..300_000]);
}

#[test]
fn a_body_goes_and_its_header_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    let bytes = content(1, 1 << 20);
    let object = filled(&store, 1, &bytes, Class::Body);
    object.set_class(0..BLOCK_BYTES, Class::Header).unwrap();
    object
        .set_class((1 << 20) - 1..1 << 20, Class::Header)
        .unwrap();
    object.finish().unwrap();
    drop(object);
    let before = du(dir.path());
    store.set_limits(Limits { bodies: 0, ..AMPLE });
    assert!(du(dir.path()) < before - 800 * KIB);
    let object = store.object(version(1), 1 << 20).unwrap();
    assert_eq!(
        object.absent(0..1 << 20),
        [BLOCK_BYTES..(1 << 20) - BLOCK_BYTES]
    );
    assert_eq!(object.class(0), Some(Class::Header));
    assert_eq!(object.class(BLOCK_BYTES), None);
    let head = object.read(0..BLOCK_BYTES).unwrap().unwrap();
    assert_eq!(head, bytes[..BLOCK_BYTES as usize]);
    assert!(object.manifest().is_none() && !object.is_complete());
    let stats = store.stats();
    assert_eq!((stats.header.objects, stats.body.objects), (1, 0));
}

#[test]
fn headers_have_a_quota_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        headers: 400 * KIB,
        ..AMPLE
    };
    let store = real(dir.path(), limits);
    let mut open = Vec::new();
    for number in 0..3 {
        open.push(filled(
            &store,
            number,
            &content(number, 65_536),
            Class::Header,
        ));
    }
    store.commit_all().unwrap();
    let mut refused = None;
    for number in 3..20 {
        let object = store.object(version(number), 65_536).unwrap();
        let written = object
            .write(0, &content(number, 65_536), Class::Header)
            .unwrap();
        open.push(object);
        if written != Written::Kept {
            refused = Some((number, written));
            break;
        }
    }
    let (number, written) = refused.unwrap();
    assert_eq!(written, Written::Refused(Why::HeaderQuota), "all are open");
    assert!(store.stats().header.unfit_bytes >= 65_536);
    open.remove(1);
    let object = store.object(version(number), 65_536).unwrap();
    let written = object
        .write(0, &content(number, 65_536), Class::Header)
        .unwrap();
    assert_eq!(written, Written::Kept, "one is not");
    assert_eq!(store.peek(version(1)).unwrap(), None);
}

#[test]
fn what_must_stay_free_stays_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(
        dir.path(),
        Limits {
            free_min: u64::MAX / 2,
            ..AMPLE
        },
    );
    let object = store.object(version(1), 1000).unwrap();
    let written = object.write(0, &content(1, 1000), Class::Body).unwrap();
    assert_eq!(written, Written::Refused(Why::FreeSpace));
}

#[test]
fn clear_takes_what_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path(), AMPLE);
    for number in 0..3 {
        let object = filled(&store, number, &content(number, 200_000), Class::Body);
        object.set_class(0..1, Class::Header).unwrap();
    }
    store.commit_all().unwrap();
    let which = |asked| asked != version(2);
    let would = store.clear(&which, Some(Class::Body), true).unwrap();
    assert_eq!((would.objects, those_there(&store, 3)), (2, vec![0, 1, 2]));
    let did = store.clear(&which, Some(Class::Body), false).unwrap();
    assert_eq!((did.objects, those_there(&store, 3)), (2, vec![2]));
    assert!(
        store.peek(version(0)).unwrap().is_some(),
        "its header stays"
    );
    store.clear(&|_| true, None, false).unwrap();
    assert_eq!(store.peek(version(0)).unwrap(), None);
    assert_eq!(store.stats().header.bytes + store.stats().body.bytes, 0);
}
