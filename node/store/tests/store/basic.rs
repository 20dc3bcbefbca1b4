//! The store on a real disk: what is written is there, and stays there.

use musicfs_core::extents::BLOCK_BYTES;
use musicfs_store::{Class, Finished, Why, Written};

use crate::support::{AMPLE, content, opened, version};

#[test]
fn what_was_written_is_read_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, 300_000);
    {
        let store = opened(dir.path(), AMPLE);
        let object = store.object(version(1), 300_000).unwrap();
        let refused = object.write(0, &bytes, Class::Body).unwrap();
        assert_eq!(refused, Written::Refused(Why::Recovering));
        let recovered = store.recover().unwrap();
        assert!(!recovered.was_clean);
        assert_eq!(object.absent(0..u64::MAX), [0..300_000]);
        let head = &bytes[..BLOCK_BYTES as usize];
        assert_eq!(object.write(0, head, Class::Header).unwrap(), Written::Kept);
        assert_eq!(object.absent(0..300_000), [BLOCK_BYTES..300_000]);
        assert_eq!(object.read(0..300_000).unwrap(), None);
        assert_eq!(object.write(0, &bytes, Class::Body).unwrap(), Written::Kept);
        assert!(object.is_complete());
        assert_eq!(object.read(5..299_999).unwrap().unwrap(), bytes[5..299_999]);
        assert_eq!(object.finish().unwrap(), Finished::Stored);
        store.close().unwrap();
    }
    let store = opened(dir.path(), AMPLE);
    let object = store.object(version(1), 300_000).unwrap();
    assert_eq!(object.read(0..300_000).unwrap().unwrap(), bytes);
    let recovered = store.recover().unwrap();
    assert!(recovered.was_clean && !recovered.is_index_rebuilt);
    let holding = store.peek(version(1)).unwrap().unwrap();
    assert_eq!(
        (holding.header_bytes, holding.is_complete),
        (BLOCK_BYTES, true)
    );
    let manifest = object.manifest().unwrap();
    for (hash, span) in manifest.spans() {
        assert_eq!(
            store.find_chunk(&hash).unwrap().unwrap(),
            (version(1), span.clone())
        );
        let chunk = store.read_chunk(&hash).unwrap().unwrap();
        assert_eq!(chunk, bytes[span.start as usize..span.end as usize]);
    }
    let mut buffer = [0; 100];
    assert_eq!(object.read_now(299_950, &mut buffer), Some(50));
    assert_eq!(buffer[..50], bytes[299_950..]);
    assert!(object.passthrough().is_some());
}
