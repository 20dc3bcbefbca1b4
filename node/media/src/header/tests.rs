use std::ops::Range;

use musicfs_core::extents::BLOCK_BYTES;
use proptest::prelude::*;

use super::*;
use crate::fallback_layout;

const MIB: u64 = 1 << 20;

fn layout(container: Container, front_end: u64, tail_start: u64) -> AudioLayout {
    AudioLayout {
        container,
        front_end,
        tail_start,
    }
}

/// `expect` is in KiB.
fn check(layout: &AudioLayout, size: u64, profile: HeaderProfile, expect: &[Range<u64>]) {
    let extents: Vec<_> = header_extents(layout, size, profile).iter().collect();
    let expect: Vec<_> = expect
        .iter()
        .map(|range| range.start * KIB..range.end * KIB)
        .collect();
    assert_eq!(extents, expect, "{layout:?} {profile:?}");
}

/// Files of 10 MiB (10,240 KiB), the tail at its end where nothing else is said.
#[test]
fn each_container_has_its_front_and_its_tail() {
    use Container::{Flac, Iff, Mp4, Mpeg, Ogg, Other};
    let size = 10 * MIB;
    for (container, metadata_kib, tail_kib, front, mpd_front, tail) in [
        (Flac, 8, 10_240, 320, 768, 10_176),
        (Flac, 32, 10_240, 320, 768, 10_176),
        (Flac, 33, 10_240, 320, 832, 10_176),
        (Flac, 69, 10_240, 384, 896, 10_176),
        (Flac, 1482, 10_240, 1792, 2304, 10_176),
        (Mpeg, 1, 10_240, 192, 768, 10_176),
        (Mpeg, 61, 10_240, 384, 832, 10_176),
        (Mpeg, 1, 10_100, 192, 768, 10_048),
        (Ogg, 4, 10_240, 192, 1024, 10_112),
        (Ogg, 2110, 10_240, 2432, 3136, 10_112),
        (Mp4, 0, 10_240, 256, 1024, 10_176),
        (Mp4, 0, 8_300, 256, 1024, 8_192),
        (Mp4, 42, 10_240, 320, 1088, 10_176),
        (Iff, 0, 10_240, 448, 1024, 10_176),
        (Iff, 0, 8_640, 448, 1024, 8_640),
        (Other, 0, 10_240, 192, 1024, 10_112),
    ] {
        let layout = layout(container, metadata_kib * KIB, tail_kib * KIB);
        check(
            &layout,
            size,
            HeaderProfile::Default,
            &[0..front, tail..10_240],
        );
        check(
            &layout,
            size,
            HeaderProfile::Mpd,
            &[0..mpd_front, tail..10_240],
        );
    }
}

#[test]
fn what_a_small_file_has_is_all_header() {
    for container in Container::ALL {
        for size in [0, 1, 65_536, 190_000] {
            let extents = header_extents(&layout(container, 0, size), size, HeaderProfile::Default);
            assert!(extents.covers(0..size), "{container:?} {size}");
            assert_eq!(extents.len(), size);
        }
    }
}

#[test]
fn a_file_that_claims_to_be_all_metadata_is_not_kept_whole() {
    let size = 4 << 30;
    for layout in [
        layout(Container::Iff, 0, 100),
        layout(Container::Flac, size, size),
        layout(Container::Mp4, u64::MAX, u64::MAX),
    ] {
        let extents = header_extents(&layout, size, HeaderProfile::Mpd);
        assert!(extents.len() <= 70 * MIB, "{layout:?}: {}", extents.len());
        assert!(extents.covers(0..256 * KIB) && extents.covers(size - 4 * KIB..size));
    }
}

#[test]
fn what_an_indexer_fetches_first_lies_in_the_floor() {
    for (extension, expect) in [
        ("flac", &[(0, 192)][..]),
        ("MP3", &[(0, 192), (10_176, 10_240)]),
        ("opus", &[(0, 192), (10_112, 10_240)]),
        ("m4a", &[(0, 192), (10_176, 10_240)]),
        ("wav", &[(0, 192), (10_176, 10_240)]),
        ("wv", &[(0, 192), (10_112, 10_240)]),
    ] {
        let size = 10 * MIB;
        let first = first_extents(size, extension);
        let kib: Vec<_> = first.iter().map(|r| (r.start / KIB, r.end / KIB)).collect();
        assert_eq!(kib, expect, "{extension}");
        let header = header_extents(
            &fallback_layout(size, extension),
            size,
            HeaderProfile::Default,
        );
        assert!(first.iter().all(|range| header.covers(range)));
    }
}

#[test]
fn a_profile_is_called_by_its_name() {
    for profile in HeaderProfile::ALL {
        assert_eq!(HeaderProfile::from_name(profile.as_str()), Some(profile));
    }
    assert_eq!(HeaderProfile::from_name("mpd"), Some(HeaderProfile::Mpd));
    assert_eq!(HeaderProfile::from_name("MPD"), None);
}

proptest! {
    #[test]
    fn extents_lie_in_the_file_in_whole_blocks_and_grow_with_the_profile(
        container in prop::sample::select(&Container::ALL[..]),
        extension in prop::sample::select(&["flac", "mp3", "m4a", "ogg", "wav", "wv"][..]),
        size in prop_oneof![0..3 * MIB, any::<u64>()],
        front_end in prop_oneof![0..3 * MIB, any::<u64>()],
        tail_start in prop_oneof![0..3 * MIB, any::<u64>()],
    ) {
        let layout = layout(container, front_end, tail_start);
        let [narrow, wide] = HeaderProfile::ALL.map(|profile| header_extents(&layout, size, profile));
        let first = first_extents(size, extension);
        for extents in [&narrow, &wide, &first] {
            prop_assert_eq!(extents.is_empty(), size == 0);
            for range in extents.iter() {
                prop_assert!(range.start < range.end && range.end <= size);
                prop_assert_eq!(range.start % BLOCK_BYTES, 0);
                prop_assert!(range.end % BLOCK_BYTES == 0 || range.end == size);
            }
        }
        prop_assert!(narrow.iter().all(|range| wide.covers(range)));
        prop_assert_eq!(&narrow, &header_extents(&layout, size, HeaderProfile::Default));
        let floor = header_extents(&fallback_layout(size, extension), size, HeaderProfile::Default);
        prop_assert!(first.iter().all(|range| floor.covers(range)));
        // A smaller file, or one whose tags go on further, holds its ends all the same.
        prop_assert!(narrow.covers(0..size.min(192 * KIB)));
        prop_assert!(narrow.covers(size.saturating_sub(4 * KIB)..size));
    }
}
